from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dms.identity.errors import PassphraseFailed
from dms.identity.passphrase import read_passphrase


def answering(*answers: str) -> tuple[Callable[[str], str], list[str]]:
    asked: list[str] = []
    left = list(answers)

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return left.pop(0)

    return ask, asked


def test_the_environment_comes_first() -> None:
    ask, asked = answering()
    assert read_passphrase({"DMS_PASSPHRASE": "secret"}, ask, confirm=True) == "secret"
    assert asked == []


def test_an_empty_variable_counts_as_none() -> None:
    ask, asked = answering("typed")
    assert read_passphrase({"DMS_PASSPHRASE": ""}, ask) == "typed"
    assert asked == ["Passphrase: "]


def test_new_passphrases_are_confirmed_and_asked_again_when_they_differ() -> None:
    ask, asked = answering("one", "two", "", "three", "three")
    told: list[str] = []
    assert read_passphrase({}, ask, confirm=True, tell=told.append) == "three"
    assert asked == [
        "Passphrase: ",
        "Please confirm your passphrase: ",
        "Passphrase: ",
        "Passphrase: ",
        "Please confirm your passphrase: ",
    ]
    assert told == ["passphrases do not match", "passphrase is empty"]


def test_three_tries_are_enough() -> None:
    ask, asked = answering("", "", "")
    with pytest.raises(PassphraseFailed, match="user failed to input passphrase"):
        read_passphrase({}, ask)
    assert len(asked) == 3


def test_the_service_manager_hands_it_over_as_a_file(tmp_path: Path) -> None:
    ask, asked = answering()
    (tmp_path / "passphrase").write_bytes("täglich neu \n".encode())
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read_passphrase(environ, ask, confirm=True) == "täglich neu "
    assert read_passphrase(environ | {"DMS_PASSPHRASE": "nearer"}, ask) == "nearer"
    assert asked == []


def test_credentials_for_other_purposes_are_no_passphrase(tmp_path: Path) -> None:
    ask, _ = answering("typed")
    assert read_passphrase({"CREDENTIALS_DIRECTORY": str(tmp_path)}, ask) == "typed"


@pytest.mark.parametrize("data", [b"x" * 5000, b"\xff\xfe"])
def test_what_cannot_be_a_passphrase_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_bytes(data)
    with pytest.raises(PassphraseFailed, match="credential"):
        read_passphrase({"CREDENTIALS_DIRECTORY": str(tmp_path)}, answering()[0])
