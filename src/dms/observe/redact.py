"""Keeping secrets out of logs, and entries small: by the name of a key, by the type of a value, by what is known to be one.

Three nets, as each has holes. A field called ``api_key`` is hidden whatever it holds; a value of a secret type is hidden
whatever the field; and in running text go what follows ``ApiKey``, ``Bearer`` or ``Basic``, the password in an address,
private keys in PEM, and every secret that was told to :func:`conceal`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"

MAX_TEXT = 4096
"""Characters of one text in a log entry."""

MAX_ITEMS = 64
"""Members of one list or mapping in a log entry."""

MAX_DEPTH = 6

_SECRET_KEY = re.compile(
    r"(^|_)(pass(word|phrase|wd)?|secrets?|api_?keys?|private_?keys?|(secret|access|auth|api)?_?token"
    r"|authorization|credentials?|mnemonic|seed_?phrase)($|_)",
    re.IGNORECASE,
)

_SECRET_TEXT = re.compile(
    r"(?P<scheme>\b(?:api[_-]?key|bearer|basic)\s+)[A-Za-z0-9+/=_.~:-]{8,}"
    r"|(?P<user>://[^\s/@:]{0,256}:)[^\s/@]{1,1024}(?=@)"
    r"|(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_SIGNS = ("key ", "bearer ", "basic ", "private key")
MIN_CONCEALED_CHARS = 6
"""Shorter secrets are not searched for in text: they would hide half of what is written."""
MAX_CONCEALED = 256
_concealed: dict[str, None] = {}

_SECRET_TYPES = frozenset({"SecretStr", "SecretBytes", "SigningKey", "Ed25519PrivateKey", "PrivateKey"})


@functools.lru_cache(maxsize=4096)
def is_secret_key(key: str) -> bool:
    """Whether a field of this name holds a secret."""
    return _SECRET_KEY.search(key) is not None


def conceal(secret: str) -> None:
    """Hide this text wherever it stands in what is logged from now on: a passphrase, the key of a service."""
    if len(secret) >= MIN_CONCEALED_CHARS:
        _concealed.pop(secret, None)
        _concealed[secret] = None
        while len(_concealed) > MAX_CONCEALED:
            del _concealed[next(iter(_concealed))]


def redact_text(text: str) -> str:
    """``text`` without the secrets that can be told as such."""
    for secret in _concealed:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    if len(text) < MIN_CONCEALED_CHARS:
        return text
    lowered = text.lower()  # looking for fixed words first is ten times as fast as the expression
    if any(sign in lowered for sign in _SIGNS) or ("://" in text and "@" in text):
        return _SECRET_TEXT.sub(_hidden, text)
    return text


def _hidden(match: re.Match[str]) -> str:
    kept = match["scheme"] or match["user"] or match["pem"]
    return kept + HIDDEN


def redact(value: Any, key: str = "", depth: int = 0) -> Any:  # a log field may be anything
    """``value`` as it may stand in a log: secrets hidden, bytes counted, long things cut.

    A class of ours marks its values as secret by an attribute ``__secret__ = True``.
    """
    if key and is_secret_key(key) and value not in (None, "", b""):
        return HIDDEN
    kind = type(value)
    if kind is int or kind is bool or value is None or kind is float:
        return value
    if kind is not str and (getattr(kind, "__secret__", False) or kind.__name__ in _SECRET_TYPES):
        return HIDDEN
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        value = redact_text(value)
        return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}… ({len(value) - MAX_TEXT} characters more)"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())
        shown = {str(k): redact(v, str(k), depth + 1) for k, v in items[:MAX_ITEMS]}
        return shown if len(items) <= MAX_ITEMS else {**shown, "…": f"{len(items) - MAX_ITEMS} more"}
    if isinstance(value, list | tuple | set | frozenset):
        items = list(value)
        shown_items = [redact(item, "", depth + 1) for item in items[:MAX_ITEMS]]
        return shown_items if len(items) <= MAX_ITEMS else [*shown_items, f"… {len(items) - MAX_ITEMS} more"]
    return redact(str(value), "", depth)
