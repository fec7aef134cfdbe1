"""Tables, times and cleaning."""

from __future__ import annotations

import os
import pty
from datetime import UTC, datetime

import pytest

from dms.cli.options import Format
from dms.cli.output import age, clean, has_colour, pairs, print_table, short_id, show


class Terminal:
    def isatty(self) -> bool:
        return True


def test_columns_stand_under_their_names_and_empty_cells_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "STATUS"), [("a1", "Running"), ("b22222", ""), ("c", "x\x1b[2Jy")])
    assert capsys.readouterr().out == "ID      STATUS\na1      Running\nb22222  -\nc       x [2Jy\n"


def test_a_table_without_rows_has_its_columns_still(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "STATUS"), [])
    assert capsys.readouterr().out == "ID  STATUS\n"


def test_a_table_on_a_terminal_has_coloured_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    main, side = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as screen, os.fdopen(side, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        print_table(("STATUS", "X"), [("Running", "Failed")])
        terminal.flush()
        shown = b""
        while shown.count(b"\n") < 2:
            shown += screen.read(65536)
    head, row = shown.decode().splitlines()
    assert head == "\x1b[1mSTATUS \x1b[0m  \x1b[1mX\x1b[0m"
    assert row == "\x1b[32mRunning\x1b[0m  \x1b[31mFailed\x1b[0m"


@pytest.mark.parametrize(
    ("name", "value", "wanted"), [("TERM", "xterm", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)]
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert has_colour(Terminal()) is wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü →", "plain ü →"),
        ("a\nb\tc", "a b c"),
        ("\x1b]0;title\x07", "]0;title"),
        ("\u202eabc", "abc"),
        ("", ""),
    ],
)
def test_control_characters_do_not_pass(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_ages_are_those_between_two_times() -> None:
    now = datetime(2024, 1, 1, 0, 1, tzinfo=UTC)
    assert age("2024-01-01T00:00:00.000Z", now=now) == "1m 00s"
    assert age("2024-01-01T00:00:00Z", "2024-01-01T00:00:02.500Z") == "2.5 s"
    assert age("2024-01-01T00:02:00Z", now=now) == "0 ms"
    assert age("", now=now) == ""
    assert age("soon", now=now) == "?"


def test_json_keeps_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show({"b": "ü", "a": [1]}, Format.JSON)
    assert capsys.readouterr().out == '{\n  "b": "ü",\n  "a": [\n    1\n  ]\n}\n'


def test_small_forms() -> None:
    assert short_id("0123456789abcdef") == "0123456789ab"
    assert pairs({"b": 2, "a": "x"}) == "a=x, b=2"
