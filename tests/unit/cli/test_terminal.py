"""What programs wrote cannot act on the terminal of who reads it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.cli.terminal import Harmless


def shown(*pieces: bytes) -> str:
    harmless = Harmless()
    return "".join(harmless.feed(piece) for piece in pieces) + harmless.end()


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (b"plain \xc3\xa4\t1\n", "plain ä\t1\n"),
        (b"lines\r\nof others\r\n", "lines\nof others\n"),
        (b"10 %\r20 %", "10 %␍20 %"),
        (b"\x1b]0;title\x07", "␛]0;title␇"),
        (b"\x1b[2J\x1b[H", "␛[2J␛[H"),
        (b"\x1b[6n\x1bP+q544e\x1b\\", "␛[6n␛P+q544e␛\\"),
        ("\x9b2J".encode(), "<9B>2J"),
        (b"\x9b2J", "\ufffd2J"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (b"\x1b[31mred", "\x1b[31mred\x1b[0m"),
        (b"\x1b[" + b"1;" * 50 + b"m", "␛[" + "1;" * 50 + "m"),
        ("a\u202eb\u2066".encode(), "a<202E>b<2066>"),
        (b"\x00\x7f\x08", "␀␡␈"),
    ],
)
def test_only_line_breaks_tabs_and_colours_reach_a_terminal(written: bytes, seen: str) -> None:
    assert shown(written) == seen
    assert shown(*(bytes([one]) for one in written)) == seen


@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\x1b[1m", b"\x1b[2J", b"\r", b"\n", b"\xc2\x9b"])))
def test_whatever_is_written_no_other_control_character_is_left(pieces: list[bytes]) -> None:
    text = shown(*pieces)
    left = re.sub(r"\x1b\[[0-9;]{0,28}m", "", text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", left)
    assert text == shown(b"".join(pieces))
