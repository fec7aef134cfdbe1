from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dms.cli.key import app
from dms.cli.prompts import Cancelled
from dms.identity.errors import BadName, EmptyPassphrase, KeyNotFound, PassphraseFailed, WrongPassphrase
from dms.identity.keystore import Keystore
from dms.testing.parties import Party

runner = CliRunner()


@pytest.fixture
def keystore(monkeypatch: pytest.MonkeyPatch) -> Keystore:
    monkeypatch.setenv("DMS_PASSPHRASE", "secret")
    return Keystore(Path.home() / ".nunet" / "key", scrypt_n=2)


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
    for command in ("new", "did"):
        assert f"nunet key {command} user" in run(command, "--help")


def test_an_empty_passphrase_is_no_passphrase(keystore: Keystore) -> None:
    with pytest.raises(EmptyPassphrase):
        keystore.save("user", Party("x").key, "")
