"""The table of ``docs/interop.md``, which the other tests here fill; ``DMS_TEST_INTEROP=write`` writes it anew.

This module comes last: it tells what the others found.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.interop.javascript import HERE
from tests.interop.table import PAGE, Verdicts, committed, render, versions, write


@pytest.mark.interop
def test_the_manual_says_what_was_found(verdicts: Verdicts, request: pytest.FixtureRequest) -> None:
    assert verdicts, "run this together with the tests that fill the table"
    if os.environ.get("DMS_TEST_INTEROP") == "write":
        write(verdicts)
    found = [line for line in render(verdicts).splitlines() if line.startswith("| ")]
    missing = [line for line in found if line not in committed().splitlines()]
    assert not missing, f"{PAGE.name} says something else: DMS_TEST_INTEROP=write writes it"
    files = {item.path.name for item in request.session.items if item.get_closest_marker("row")}
    if (
        files == {path.name for path in HERE.glob("test_*.py")} - {Path(__file__).name}
        and not request.config.option.keyword
    ):
        assert committed() == render(verdicts), f"{PAGE.name} has rows that nobody fills"


def test_a_table_has_a_row_for_each_thing_tried_and_a_dash_where_it_was_not() -> None:
    table = render({"Ping": {"Python dials": "yes"}, "Relay": {"JavaScript dials": "no", "Python dials": "yes"}})
    assert "| Ping | yes | – |\n| Relay | yes | no |\n" in table


def test_the_manual_names_the_versions_that_are_pinned() -> None:
    assert all(f"{name} {number}" in committed() for name, number in versions().items())


def test_everything_in_the_table_works() -> None:
    assert "| yes |" in committed()
    assert "| no |" not in committed()
