"""Names of places as they are compared: ``São Paulo``, ``sao paulo`` and ``SAO-PAULO`` are one."""

from __future__ import annotations

import unicodedata

_LETTERS = str.maketrans({"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})


def folded(name: str) -> str:
    """Plain lower case letters and digits, single blanks; empty if none remain."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(_LETTERS))
    kept = "".join(char if char.isalnum() and char.isascii() else " " * (char in " -'’/.,()") for char in plain)
    return " ".join(kept.split())
