from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dms.capability.store import save_context
from dms.cli.key import app
from dms.cli.prompts import Cancelled
from dms.identity.errors import (
    AliasNotFound,
    BadName,
    EmptyPassphrase,
    InvalidKey,
    KeyNotFound,
    PassphraseFailed,
    PrismError,
    ResolutionFailed,
    WrongPassphrase,
)
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey
from dms.identity.keystore import Keystore
from dms.testing import wallets
from dms.testing.parties import Party
from dms.testing.prism import PrismService, serve_prism

runner = CliRunner()
SECRET = b"\x3c" * 32
KEY, SECP = PrivateKey(KeyType.ED25519, SECRET), PrivateKey(KeyType.SECP256K1, SECRET)
PRISM = DID(uri="did:prism:" + "4f" * 32)


@pytest.fixture(autouse=True)
def _cheap_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key files say what they cost, and cost nothing: half a second each is what other tests are for."""
    scrypt = hashlib.scrypt
    monkeypatch.setattr(hashlib, "scrypt", lambda *args, **params: scrypt(*args, **{**params, "n": 2}))


@pytest.fixture
def keystore(monkeypatch: pytest.MonkeyPatch) -> Keystore:
    monkeypatch.setenv("DMS_PASSPHRASE", "secret")
    return Keystore(Path.home() / ".nunet" / "key", scrypt_n=2)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrismService]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serve_prism() as running:
        yield running


def run(*args: str, answers: str = "") -> str:
    result = runner.invoke(app, args, input=answers, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_new_prints_the_did_alone_and_did_repeats_it(keystore: Keystore) -> None:
    printed = run("new", "user")
    assert printed.startswith("did:key:z6Mk")
    assert printed.count("\n") == 1
    assert run("did", "user") == printed
    assert keystore.names() == ["user"]


def test_an_existing_key_is_overwritten_only_after_a_yes(keystore: Keystore) -> None:
    party = Party("old")
    keystore.save("user", party.key, "secret")
    with pytest.raises(Cancelled, match="operation cancelled by user"):
        run("new", "user", answers="maybe\n\nN\n")
    with pytest.raises(Cancelled):
        run("new", "user", answers="")
    assert run("did", "user") == f"{party.did}\n"
    result = runner.invoke(app, ["new", "user"], input="YES\n", catch_exceptions=False)
    assert "A key with name 'user' already exists. Do you want to overwrite it with a new one? (y/N): " in result.stderr
    assert result.stdout.startswith("did:key:z6Mk")
    assert result.stdout != f"{party.did}\n"


def test_did_of_a_key_that_is_missing_asks_for_nothing(keystore: Keystore) -> None:
    with pytest.raises(KeyNotFound, match="key not found on this node: 'nobody'"):
        run("did", "nobody")


def test_a_passphrase_is_asked_for_and_confirmed(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DMS_PASSPHRASE")
    result = runner.invoke(app, ["new", "user"], input="one\ntwo\none\none\n", catch_exceptions=False)
    assert result.exit_code == 0
    assert "Please confirm your passphrase:" in result.stderr
    assert "passphrases do not match" in result.stderr
    assert "one\n" not in result.output


def test_a_wrong_or_missing_passphrase_is_refused(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DMS_PASSPHRASE")
    keystore.save("user", Party("x").key, "one")
    assert run("did", "user", answers="one\n").strip().endswith(str(Party("x").did))
    with pytest.raises(WrongPassphrase):
        run("did", "user", answers="two\n")
    with pytest.raises(PassphraseFailed):
        run("did", "user", answers="")
    with pytest.raises(PassphraseFailed, match="user failed to input passphrase"):
        run("did", "user", answers="\n\n\n")


def test_names_that_leave_the_directory_are_refused(keystore: Keystore) -> None:
    for name in ("../x", "a/b", ".."):
        with pytest.raises(BadName):
            run("new", name)
        with pytest.raises(BadName):
            run("did", name)


def test_the_help_shows_examples() -> None:
    for command in ("new", "did", "import", "import-prism", "create-prism"):
        assert f"nunet key {command} user" in run(command, "--help")


def test_results_for_programs_tell_the_kind_of_key(keystore: Keystore) -> None:
    shown = json.loads(run("new", "user", "--output", "json"))
    assert shown == {"name": "user", "did": shown["did"], "type": "ed25519", "key": shown["did"]}
    assert json.loads(run("did", "user", "-o", "json")) == shown


@pytest.mark.parametrize("name", ["ledger", "ledger:1", "eternl:x"])
def test_a_key_cannot_have_the_name_of_a_wallet(keystore: Keystore, name: str) -> None:
    for command in (["new", name], ["import", name, "-"], ["create-prism", name]):
        with pytest.raises(BadName, match="cannot be used"):
            run(*command, answers=SECRET.hex())
    assert keystore.names() == []


# keys from elsewhere -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [SECRET.hex(), f" 0x{SECRET.hex()} ", KEY.to_protobuf().hex().upper()])
def test_a_key_from_elsewhere_is_read_from_stdin(keystore: Keystore, text: str) -> None:
    assert run("import", "user", "-", answers=f"{text}\n") == f"{did_of(KEY.public)}\n"
    assert keystore.get("user", "secret") == KEY
    assert run("import", "other", answers=f"{text}\n") == f"{did_of(KEY.public)}\n"


def test_a_key_in_the_arguments_is_taken_with_a_warning(keystore: Keystore) -> None:
    result = runner.invoke(app, ["import", "user", SECRET.hex()], catch_exceptions=False)
    assert result.stdout == f"{did_of(KEY.public)}\n"
    assert "warning: other users and the history of the shell can see the key" in result.stderr
    assert SECRET.hex() not in result.output


def test_a_bare_scalar_is_read_where_that_is_said(keystore: Keystore) -> None:
    run("import", "user", "-", "--key-type", "secp256k1", answers=SECRET.hex())
    assert keystore.get("user", "secret") == SECP
    run("import", "other", "-", answers=SECP.to_protobuf().hex())
    assert keystore.get("other", "secret") == SECP


@pytest.mark.parametrize("text", ["", "zz", SECRET.hex()[:-2], SECRET.hex() * 3, "ab" * 5000])
def test_what_is_no_key_is_refused_without_showing_it(keystore: Keystore, text: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        run("import", "user", "-", answers=f"{text}\n")
    assert not text or text not in f"{caught.value.message} {caught.value.hint}"
    assert keystore.names() == []


def test_an_imported_key_overwrites_only_after_a_yes(keystore: Keystore) -> None:
    keystore.save("user", Party("old").key, "secret")
    with pytest.raises(Cancelled):
        run("import", "user", "-", answers=f"{SECRET.hex()}\nn\n")
    assert keystore.get("user", "secret") == Party("old").key
    run("import", "user", "-", answers=f"{SECRET.hex()}\ny\n")
    assert keystore.get("user", "secret") == KEY


# did:prism -----------------------------------------------------------------------------------------------------------


def test_a_key_of_a_did_prism_is_imported_and_then_signs_for_it(keystore: Keystore) -> None:
    result = runner.invoke(app, ["import-prism", "user", PRISM.uri, "-"], input=SECRET.hex(), catch_exceptions=False)
    assert result.stdout == f"{PRISM}\n"
    assert "warning: not checked whether did:prism:" in result.stderr
    assert "identity.prism_resolver_url" in result.stderr
    assert keystore.get("user", "secret") == SECP
    assert run("did", "user") == f"{PRISM}\n"
    assert json.loads(run("did", "user", "-o", "json")) == {
        "name": "user",
        "did": PRISM.uri,
        "type": "secp256k1",
        "key": did_of(SECP.public).uri,
    }


def test_a_key_that_the_did_prism_does_not_have_is_refused(keystore: Keystore, service: PrismService) -> None:
    service.publish(PRISM, SECP.public)
    with pytest.raises(InvalidKey, match="has another key"):
        run(
            "import-prism",
            "user",
            PRISM.uri,
            "-",
            "--prism-url",
            service.url,
            answers=Party("x").key.to_protobuf().hex(),
        )
    with pytest.raises(ResolutionFailed):
        run("import-prism", "user", PRISM.uri + "00", "-", "--prism-url", service.url, answers=SECRET.hex())
    assert keystore.names() == []
    assert run("import-prism", "user", PRISM.uri, "-", "--prism-url", service.url, answers=SECRET.hex())


def test_a_new_key_of_that_name_does_not_sign_for_the_did_prism_of_the_old_one(keystore: Keystore) -> None:
    run("import-prism", "user", PRISM.uri, "-", answers=SECRET.hex())
    assert run("new", "user", answers="y\n").startswith("did:key:")
    assert run("did", "user").startswith("did:key:")


@pytest.mark.parametrize(("kind", "start"), [("secp256k1", "did:key:zQ3s"), ("ed25519", "did:key:z6Mk")])
def test_a_did_prism_is_created_submitted_and_waited_for(
    keystore: Keystore, service: PrismService, kind: str, start: str
) -> None:
    args = ["create-prism", "user", "--prism-url", service.url, "--key-type", kind, "-o", "json"]
    result = runner.invoke(app, args, catch_exceptions=False)
    shown = json.loads(result.stdout)
    assert shown["did"] in service.documents
    assert shown["key"].startswith(start)
    assert shown["key"] == did_of(keystore.get("user", "secret").public).uri
    assert "submitted to" in result.stderr
    assert "it can be resolved" in result.stderr
    assert run("did", "user").strip() == shown["did"]


def test_without_waiting_the_did_is_printed_once_it_is_submitted(keystore: Keystore, service: PrismService) -> None:
    printed = run("create-prism", "user", "--prism-url", service.url, "--no-wait-confirmation")
    assert printed.strip() in service.documents
    assert [method for method, _, _ in service.requests] == ["POST"]


def test_a_did_prism_that_is_not_known_in_time_keeps_its_key(keystore: Keystore, service: PrismService) -> None:
    service.polls_until_known = 1000
    with pytest.raises(PrismError, match="could not be resolved within"):
        run("create-prism", "user", "--prism-url", service.url, "--timeout", "100ms")
    assert run("did", "user").strip() in service.documents


def test_a_refused_did_prism_leaves_the_key_with_its_own_did(keystore: Keystore, service: PrismService) -> None:
    service.status = 503
    with pytest.raises(PrismError, match="status 503"):
        run("create-prism", "user", "--prism-url", service.url)
    assert run("did", "user").startswith("did:key:zQ3s")


# wallets -------------------------------------------------------------------------------------------------------------


def test_the_did_of_a_ledger_account_is_printed_by_number_and_by_alias(
    keystore: Keystore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wallets.install_ledger(tmp_path, SECRET)
    assert run("ledger-alias", "set", "savings", "2") == 'Alias "savings" → account 2 saved\n'
    second = run("did", "ledger:2")
    assert second.startswith("did:key:zzCH")
    assert run("did", "ledger:savings") == second != run("did", "ledger") == run("did", "ledger:0")


def test_the_did_of_an_eternl_wallet_is_printed(
    keystore: Keystore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wallets.install_eternl(tmp_path, SECRET)
    assert run("did", "eternl:main").startswith("did:key:zE4Mr")
    assert json.loads(run("did", "eternl", "-o", "json"))["type"] == "cardano"


def test_a_bad_index_or_alias_is_refused() -> None:
    with pytest.raises(BadName, match=r"^index must be a non-negative integer$"):
        run("ledger-alias", "set", "savings", "x")
    with pytest.raises(BadName):
        run("ledger-alias", "set", "7", "1")
    with pytest.raises(AliasNotFound, match="ledger alias not found: 'savings'"):
        run("did", "ledger:savings")


def test_keys_and_aliases_are_listed_without_a_passphrase(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    run("import-prism", "user", PRISM.uri, "-", answers=SECRET.hex())
    keystore.save("dms", Party("dms").key, "secret")
    save_context(Party("dms").context, Path.home() / ".nunet/cap/dms.cap")
    keystore.save("other", Party("other").key, "secret")
    (keystore.directory / "ledger:.json").write_text("")
    run("ledger-alias", "set", "savings", "3")
    monkeypatch.delenv("DMS_PASSPHRASE")
    assert run("list").splitlines() == [
        "NAME            SIGNER            DID",
        f"dms             key               {Party('dms').did}",
        "ledger:         key               -",
        "other           key               -",
        f"user            key               {PRISM}",
        "ledger:savings  ledger account 3  -",
    ]
    assert json.loads(run("list", "-o", "json"))[2] == {"name": "other", "signer": "key", "did": ""}


def test_an_empty_passphrase_is_no_passphrase(keystore: Keystore) -> None:
    with pytest.raises(EmptyPassphrase):
        keystore.save("user", Party("x").key, "")
