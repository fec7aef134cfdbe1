"""The table of ``docs/interop.md``: how it is written, and that it holds for what is pinned; without a node in JavaScript."""

from __future__ import annotations

from tests.interop.table import committed, render, versions


def test_a_table_has_a_row_for_each_thing_tried_and_a_dash_where_it_was_not() -> None:
    table = render({"Ping": {"Python dials": "yes"}, "Relay": {"JavaScript dials": "no", "Python dials": "yes"}})
    assert "| Ping | yes | – |\n| Relay | yes | no |\n" in table


def test_the_manual_names_the_versions_that_are_pinned() -> None:
    assert all(f"{name} {number}" in committed() for name, number in versions().items())


def test_everything_in_the_table_works() -> None:
    assert "| yes |" in committed()
    assert "| no |" not in committed()
