import pytest
from nacl.signing import SigningKey

from dms.observe.redact import HIDDEN, MAX_ITEMS, MAX_TEXT, is_secret_key, redact


class Sealed:
    __secret__ = True

    def __str__(self) -> str:
        return "the secret"


@pytest.mark.parametrize(
    "key",
    [
        "passphrase",
        "DMS_PASSPHRASE",
        "password",
        "db_passwd",
        "secret",
        "client_secret",
        "api_key",
        "apikey",
        "private_key",
        "token",
        "secret_token",
        "Authorization",
        "credentials",
        "mnemonic",
    ],
)
def test_names_of_secrets_are_known(key: str) -> None:
    assert is_secret_key(key)
    assert redact({key: "value"}) == {key: HIDDEN}


@pytest.mark.parametrize("key", ["tokens_used", "passes", "private_port", "key", "public_key", "bypass", "seed"])
def test_other_names_are_left_alone(key: str) -> None:
    assert redact({key: "value"}) == {key: "value"}


def test_secrets_are_known_by_type_wherever_they_stand() -> None:
    assert redact({"x": [Sealed(), SigningKey.generate()]}) == {"x": [HIDDEN, HIDDEN]}


def test_an_empty_secret_shows_that_it_is_empty() -> None:
    assert redact({"passphrase": "", "token": None}) == {"passphrase": "", "token": None}


def test_entries_stay_small() -> None:
    assert redact(b"12345") == "[5 bytes]"
    assert redact("x" * (MAX_TEXT + 7)) == "x" * MAX_TEXT + "… (7 characters more)"
    assert redact(range(3)) == "range(0, 3)"
    assert redact(list(range(MAX_ITEMS + 2)))[-1] == "… 2 more"
    assert redact({str(n): n for n in range(MAX_ITEMS + 3)})["…"] == "3 more"
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    assert redact(deep) == [[[[[["…"]]]]]]


def test_plain_values_stay_what_they_are() -> None:
    assert redact({"a": 1, "b": None, "c": [True, 1.5, ("x",)]}) == {"a": 1, "b": None, "c": [True, 1.5, ["x"]]}
