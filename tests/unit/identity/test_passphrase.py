from __future__ import annotations

from collections.abc import Callable

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
