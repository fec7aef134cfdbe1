"""The table of ``docs/interop.md``: what the interop tests found, by what was tried and by who dialled."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.interop.javascript import HERE

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "interop.md"
BEGIN: Final = "<!-- the table begins; the tests write it -->\n"
END: Final = "<!-- the table ends -->\n"
COLUMNS: Final = ("Python dials", "JavaScript dials")

Verdicts = dict[str, dict[str, str]]
"""By what was tried, and by who dialled: ``yes`` or ``no``."""


def versions() -> dict[str, str]:
    """Of the libraries that were tried."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    return {"py-libp2p": version("libp2p"), "js-libp2p": lock["packages"]["node_modules/libp2p"]["version"]}


def render(verdicts: Mapping[str, Mapping[str, str]]) -> str:
    """The table in Markdown, under the versions that it holds for."""
    told = " and ".join(f"{name} {number}" for name, number in versions().items())
    rows = [f"With {told}:", "", f"| | {' | '.join(COLUMNS)} |", "|---|---|---|"]
    rows += [
        f"| {row} | {' | '.join(cells.get(column, '') or '–' for column in COLUMNS)} |"
        for row, cells in verdicts.items()
    ]
    return "\n".join(["", *rows, "", ""])


def committed() -> str:
    """The table of the manual."""
    found = re.search(re.escape(BEGIN) + "(.*)" + re.escape(END), PAGE.read_text(), re.DOTALL)
    assert found, f"{PAGE} has no place for the table"
    return found[1]


def write(verdicts: Mapping[str, Mapping[str, str]]) -> None:
    """Put the table into the manual."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + render(verdicts) + END + after)
