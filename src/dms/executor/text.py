"""Text of others in our own messages: what a guest, an image or a registry says must not act on who reads it.

Standard library only: runners use it.
"""

from __future__ import annotations

MAX_CHARS = 2000


def shown(text: str, limit: int = MAX_CHARS) -> str:
    """One line without control characters, escape sequences and marks that turn text around, of bounded length."""
    cut = text[: limit + 1]
    if not cut.isprintable():
        cut = "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in cut).strip()
    return cut if len(cut) <= limit else cut[: limit - 1] + "…"
