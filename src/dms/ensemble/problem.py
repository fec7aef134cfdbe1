"""One thing that is wrong with an ensemble, told so that it can be mended: where, what, which value, and how."""

from __future__ import annotations

from dataclasses import dataclass

ROOT = "V1"
"""Where every path begins."""
MAX_NAME_CHARS = 80
"""So much of a name is shown in a path."""
MAX_VALUE_CHARS = 60
"""An offending value is shown up to here."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Where and what; ``line`` and ``column`` count from 1 and are 0 when unknown, ``path`` is like ``V1.nodes.n1``."""

    path: str
    reason: str
    hint: str = ""
    value: str = ""
    """The offending value as written, shortened."""
    file: str = ""
    line: int = 0
    column: int = 0

    def located(self) -> str:
        """``file:line:column: path: reason`` and the value, without what is unknown."""
        place = self.file
        if self.line:
            place = f"{place}:{self.line}:{self.column}" if place else f"line {self.line}, column {self.column}"
        reason = self.reason
        if self.value and self.value not in reason:
            reason += (
                f", not {self.value!r}" if " must " in f" {reason}" and " not " not in reason else f": {self.value!r}"
            )
        return ": ".join(part for part in (place, self.path, reason) if part)

    def __str__(self) -> str:
        """In one line, with the hint in brackets."""
        return f"{self.located()} ({self.hint})" if self.hint else self.located()


def path_part(name: str) -> str:
    """A name for a path: one line, long enough for every valid name."""
    text = " ".join(name.split())
    return text if len(text) <= MAX_NAME_CHARS else text[: MAX_NAME_CHARS - 1] + "…"


def shorten(value: object) -> str:
    """A value for a message: one line, at most :data:`MAX_VALUE_CHARS` characters."""
    text = " ".join(str(value).split()) if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"
