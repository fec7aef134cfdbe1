"""Every promise in SPECIFICATION.md names a test that exists."""

from __future__ import annotations

import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = ROOT / "SPECIFICATION.md"

_LINK = re.compile(r"\[(?P<name>[^]]+)\]\((?P<path>(?:tests|bench)/[^)#]+)\)")
_DEFINITION = re.compile(r"^ *(?:async def|def|class) (\w+)", re.MULTILINE)
_ROW = re.compile(r"^\| (?!Promise|---)(?P<promise>[^|]+)\|(?P<held_by>[^|]+)\|$", re.MULTILINE)


@functools.cache
def _names(path: Path) -> frozenset[str]:
    return frozenset(_DEFINITION.findall(path.read_text()))


def test_the_test_that_holds_a_promise_exists() -> None:
    links = [(match["name"].strip("`"), match["path"]) for match in _LINK.finditer(SPECIFICATION.read_text())]
    assert links
    missing = [f"{path}: {name}" for name, path in links if not _exists(name, path)]
    assert not missing, "\n".join(missing)


def _exists(name: str, path: str) -> bool:
    if not (ROOT / path).is_file():
        return False
    return not path.endswith(".py") or name == Path(path).name or name in _names(ROOT / path)


def test_the_tests_that_the_page_on_robustness_names_exist() -> None:
    page = (ROOT / "docs" / "explanation" / "network-robustness.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    known = frozenset[str]().union(*(_names(path) for path in (ROOT / "tests").rglob("test_*.py")))
    assert named
    assert named <= known, f"no such test: {', '.join(sorted(named - known))}"


def test_every_promise_names_what_holds_it() -> None:
    rows = list(_ROW.finditer(SPECIFICATION.read_text()))
    assert rows
    for row in rows:
        assert _LINK.search(row["held_by"]), f"nothing holds: {row['promise'].strip()}"
