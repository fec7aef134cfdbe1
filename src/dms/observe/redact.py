"""Keeping secrets out of logs, and entries small: by the name of a key, and by the type of a value."""

from __future__ import annotations

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

_SECRET_TYPES = frozenset({"SecretStr", "SecretBytes", "SigningKey", "Ed25519PrivateKey", "PrivateKey"})


def is_secret_key(key: str) -> bool:
    """Whether a field of this name holds a secret."""
    return _SECRET_KEY.search(key) is not None


def redact(value: Any, key: str = "", depth: int = 0) -> Any:  # a log field may be anything
    """``value`` as it may stand in a log: secrets hidden, bytes counted, long things cut.

    A class of ours marks its values as secret by an attribute ``__secret__ = True``.
    """
    if key and is_secret_key(key) and value not in (None, "", b""):
        return HIDDEN
    if getattr(type(value), "__secret__", False) or type(value).__name__ in _SECRET_TYPES:
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
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
