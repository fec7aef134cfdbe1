"""The Eternl provider, against a program that signs as a wallet does."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.identity.errors import BadWalletAnswer, HardwareKey, WalletError, WalletMissing
from dms.identity.ids import did_of
from dms.identity.keys import KeyType, PrivateKey, PublicKey
from dms.identity.trust import TrustContext
from dms.identity.wallets.eternl import EternlProvider
from dms.testing import wallets

SECRET = b"\x21" * 32
MESSAGE = b'dms:token:{"act":"delegate"}'
KEY = PublicKey(KeyType.CARDANO, PrivateKey(KeyType.ED25519, SECRET).public.raw)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("behaviour", ["", "bare key"])
def test_what_the_wallet_signs_verifies_by_its_did(programs: Path, behaviour: str) -> None:
    wallets.install_eternl(programs, SECRET, behaviour)
    provider = EternlProvider()
    assert provider.did == did_of(KEY)
    signature = provider.sign(MESSAGE)
    assert TrustContext().anchor(provider.did).verify(MESSAGE, signature)
    assert not provider.anchor.verify(b"other", signature)


def test_the_program_is_called_as_it_expects_and_the_key_is_asked_for_once(
    programs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wallets.install_eternl(programs, SECRET)
    provider = EternlProvider()
    provider.sign(MESSAGE)
    assert wallets.calls(programs) == [["6765745F7075626B6579".lower()], [MESSAGE.hex()]]
    assert capfd.readouterr().out == ""


def test_a_missing_program_is_named(programs: Path) -> None:
    with pytest.raises(WalletMissing, match="can't find eternl-cli in PATH"):
        EternlProvider()


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        ("refuse", WalletError, "failed with exit code 1"),
        ("silent", BadWalletAnswer, "gave no key"),
        ("garbage", BadWalletAnswer, "not hexadecimal"),
        ("huge", BadWalletAnswer, "more than 512 characters"),
        ("endless", BadWalletAnswer, "wrote more than"),
    ],
)
def test_a_wallet_that_gives_no_key_is_an_error(
    programs: Path, behaviour: str, error: type[WalletError], message: str
) -> None:
    wallets.install_eternl(programs, SECRET, behaviour)
    with pytest.raises(error, match=message):
        EternlProvider()


@pytest.mark.parametrize(
    ("behaviour", "message"), [("no signature", "gave no signature"), ("other wallet", "with another key than before")]
)
def test_a_signature_that_cannot_be_right_is_an_error(programs: Path, behaviour: str, message: str) -> None:
    wallets.install_eternl(programs, SECRET, behaviour)
    provider = EternlProvider()
    with pytest.raises(BadWalletAnswer, match=message):
        provider.sign(MESSAGE)


def test_a_browser_that_nobody_answers_costs_no_more_than_the_time_limit(programs: Path) -> None:
    wallets.install_eternl(programs, SECRET, "sleep")
    with pytest.raises(WalletError, match=r"did not finish within 0\.2 s"):
        EternlProvider(time_limit_s=0.2)


def test_the_private_key_does_not_leave_the_wallet(programs: Path) -> None:
    wallets.install_eternl(programs, SECRET)
    with pytest.raises(HardwareKey):
        EternlProvider().export()
