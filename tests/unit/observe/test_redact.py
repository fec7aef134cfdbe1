import pytest
from nacl.signing import SigningKey

from dms.observe.redact import HIDDEN, MAX_ITEMS, MAX_TEXT, conceal, is_secret_key, redact, redact_text


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: ApiKey dGVzdDprZXk=", f"Authorization: ApiKey {HIDDEN}"),
        ("sent bearer eyJhbGciOi.J9-_x to x", f"sent bearer {HIDDEN} to x"),
        ("GET https://me:pa55@host/path failed", f"GET https://me:{HIDDEN}@host/path failed"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----x", f"-----BEGIN PRIVATE KEY-----{HIDDEN}x"),
        ("a basic mistake, mail a@b.c, http://host:80/x", "a basic mistake, mail a@b.c, http://host:80/x"),
    ],
)
def test_secrets_are_found_in_running_text(text: str, shown: str) -> None:
    assert redact({"error": text}) == {"error": shown}


def test_a_secret_that_was_told_is_hidden_wherever_it_stands() -> None:
    conceal("correct-horse-battery")
    conceal("abc")  # too short to look for
    assert redact(["x correct-horse-battery y", "abc"]) == [f"x {HIDDEN} y", "abc"]
    assert redact_text("correct-horse-battery" * 2) == HIDDEN * 2
