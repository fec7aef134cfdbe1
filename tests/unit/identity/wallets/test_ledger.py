"""The Ledger provider, against a program that signs as a device does."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from dms.identity.errors import BadWalletAnswer, HardwareKey, WalletError, WalletMissing
from dms.identity.ids import did_of, public_key_of_did
from dms.identity.keys import KeyType, PrivateKey, PublicKey
from dms.identity.trust import TrustContext
from dms.identity.wallets.ledger import LedgerProvider
from dms.identity.wallets.program import MAX_MESSAGE_BYTES
from dms.testing import wallets

SECRET = bytes(31) + b"\x05"
MESSAGE = b'dms:token:{"act":"delegate"}'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return tmp_path / "bin"


def key_of(account: int) -> PublicKey:
    return PublicKey(KeyType.ETH, PrivateKey(KeyType.SECP256K1, bytes(31) + bytes((5 + account,))).public.raw)


@pytest.mark.parametrize("account", [0, 7])
def test_what_the_device_signs_verifies_by_its_did(programs: Path, account: int) -> None:
    wallets.install_ledger(programs, SECRET)
    provider = LedgerProvider(account)
    assert provider.did == did_of(key_of(account))
    signature = provider.sign(MESSAGE)
    assert provider.anchor.verify(MESSAGE, signature)
    assert TrustContext().anchor(provider.did).verify(MESSAGE, signature)
    assert not provider.anchor.verify(MESSAGE + b" ", signature)


def test_the_program_is_called_as_it_expects_and_the_key_is_asked_for_once(programs: Path, tmp_path: Path) -> None:
    wallets.install_ledger(programs, SECRET)
    provider = LedgerProvider(3)
    provider.sign(MESSAGE)
    provider.sign(b"")
    asked = wallets.calls(programs)
    assert [call[:2] + call[3:] for call in asked] == [
        ["key", "-o", "-a", "3"],
        ["sign", "-o", "-a", "3", MESSAGE.hex()],
        ["sign", "-o", "-a", "3", ""],
    ]
    outputs = [Path(call[2]) for call in asked]
    assert all(output.name.startswith("ledger.out") for output in outputs)
    assert len({output.parent for output in outputs}) == 3
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_the_program_says_goes_to_stderr_and_not_between_the_results(
    programs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wallets.install_ledger(programs, SECRET)
    LedgerProvider()
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "Look at your device ...\n"


def test_a_missing_program_is_named(programs: Path) -> None:
    with pytest.raises(WalletMissing, match="can't find ledger-cli in PATH"):
        LedgerProvider()


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        ("refuse", WalletError, "failed with exit code 1"),
        ("silent", BadWalletAnswer, "no usable answer"),
        ("garbage", BadWalletAnswer, "no usable answer"),
        ("no hex", BadWalletAnswer, "the key is not the hexadecimal text"),
        ("huge", BadWalletAnswer, "more than 65536 bytes"),
    ],
)
def test_a_device_that_gives_no_key_is_an_error(
    programs: Path, tmp_path: Path, behaviour: str, error: type[WalletError], message: str
) -> None:
    wallets.install_ledger(programs, SECRET, behaviour)
    with pytest.raises(error, match=message):
        LedgerProvider()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("behaviour", "message"), [("beyond the order", "below the order"), ("other device", "does not fit account 0")]
)
def test_a_signature_that_cannot_be_right_is_an_error(programs: Path, behaviour: str, message: str) -> None:
    wallets.install_ledger(programs, SECRET, behaviour)
    provider = LedgerProvider()
    with pytest.raises(BadWalletAnswer, match=message):
        provider.sign(MESSAGE)


def test_a_device_that_never_answers_costs_no_more_than_the_time_limit(programs: Path, tmp_path: Path) -> None:
    wallets.install_ledger(programs, SECRET, "sleep")
    with pytest.raises(WalletError, match=r"did not finish within 0\.2 s"):
        LedgerProvider(time_limit_s=0.2)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_message_that_no_argument_can_hold_is_refused_before_the_device_is_asked(programs: Path) -> None:
    wallets.install_ledger(programs, SECRET)
    provider = LedgerProvider()
    with pytest.raises(WalletError, match="too long"):
        provider.sign(bytes(MAX_MESSAGE_BYTES + 1))
    assert provider.anchor.verify(bytes(MAX_MESSAGE_BYTES), provider.sign(bytes(MAX_MESSAGE_BYTES)))
    assert len(wallets.calls(programs)) == 2


def test_the_private_key_does_not_leave_the_device(programs: Path) -> None:
    wallets.install_ledger(programs, SECRET)
    provider = LedgerProvider()
    with pytest.raises(HardwareKey, match=r"^hardware key$"):
        provider.export()
    assert public_key_of_did(provider.did).type is KeyType.ETH
