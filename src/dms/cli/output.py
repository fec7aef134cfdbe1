"""What commands print: aligned tables for people, JSON and YAML for programs.

Tables are plain text with stable columns; colour appears on a terminal only, and never where ``NO_COLOR`` is set. What
comes from other machines is cleaned: nobody's error message may move the cursor.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from dms.cli.options import Format
from dms.types.units import format_duration

GAP = "  "
_COLOURS = {
    "Running": "32",
    "Completed": "36",
    "onboarded": "32",
    "Failed": "31",
    "Terminated": "33",
    "ShuttingDown": "33",
}


def show(value: object, form: Format) -> None:
    """Print a result as JSON (two blanks) or YAML."""
    if form is Format.YAML:
        import yaml

        print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")
        return
    print(as_json(value))


def as_json(value: object) -> str:
    """JSON for people and programs: two blanks, text as it is."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under column names; empty cells are ``-``."""
    cells = [list(columns), *([clean(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    is_coloured = has_colour(sys.stdout)
    for number, row in enumerate(cells):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        padded[-1] = row[-1]
        if is_coloured:
            padded = [_bold(cell) if number == 0 else paint(cell) for cell in padded]
        print(GAP.join(padded).rstrip())


def paint(text: str) -> str:
    """A state in its colour; any other text as it is."""
    colour = _COLOURS.get(text.strip())
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m"


def has_colour(stream: TextIO) -> bool:
    """Whether colours are wanted there."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def clean(text: str) -> str:
    """One line without control characters."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text).strip()


def short_id(identifier: str) -> str:
    """The beginning of an id, enough to name it."""
    return identifier[:12]


def age(since: str, until: str = "", *, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, or how long it lasted until another; empty where there is none."""
    if not since:
        return ""
    try:
        begin = datetime.fromisoformat(since)
        end = datetime.fromisoformat(until) if until else now or datetime.now(UTC)
    except ValueError:
        return "?"
    return format_duration(max(0.0, (end - begin).total_seconds()))


def pairs(values: dict[str, Any]) -> str:  # JSON of unknown shape
    """``a=1, b=2``."""
    return ", ".join(f"{key}={value}" for key, value in sorted(values.items()))
