"""The console protocol: frames between a kernel's noise, and commands that arrive as they were given."""

from __future__ import annotations

import base64
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.executor.console import MAX_FRAME_BYTES, ConsoleDecoder, Frame, exec_line, shell_words

NOISE = st.binary(max_size=40).map(lambda data: data.replace(b"\x1e", b""))


def heard(data: bytes, sizes: list[int]) -> tuple[list[Frame], bytes]:
    decoder, frames, noise, at = ConsoleDecoder(), [], b"", 0
    for step in range(len(data) + 1):
        size = sizes[step % len(sizes)]
        for piece in decoder.feed(data[at : at + size]):
            if isinstance(piece, Frame):
                frames.append(piece)
            else:
                noise += piece
        at += size
    return frames, noise


@settings(max_examples=100)
@given(st.lists(st.tuples(NOISE, st.binary(max_size=60))), st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_frames_and_noise_are_parted_however_they_arrive(parts: list[tuple[bytes, bytes]], sizes: list[int]) -> None:
    line = b"".join(noise + b"\x1eo " + base64.b64encode(data) + b"\r\n" for noise, data in parts)
    frames, noise = heard(line, sizes)
    assert [frame.data for frame in frames] == [data for _, data in parts]
    assert noise == b"".join(noise for noise, _ in parts)


@settings(max_examples=100)
@given(st.binary(max_size=300), st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_a_guest_may_say_anything(data: bytes, sizes: list[int]) -> None:
    frames, noise = heard(data, sizes)
    assert len(noise) + sum(len(frame.tag) + len(frame.text) for frame in frames) <= len(data) + 1
    for frame in frames:
        assert frame.number is None or 0 <= frame.number <= 999
        assert isinstance(frame.data, bytes)


def test_a_frame_that_another_interrupts_is_noise() -> None:
    assert ConsoleDecoder().feed(b"\x1eo aGVs\x1ex 3 \n") == [b"o aGVs", Frame("x", "3 ")]


def test_an_endless_frame_is_noise() -> None:
    decoder = ConsoleDecoder()
    pieces = decoder.feed(b"\x1e" + b"a" * (MAX_FRAME_BYTES + 1))
    assert pieces == [b"a" * (MAX_FRAME_BYTES + 1)]
    assert decoder.feed(b"rest") == [b"rest"]


@settings(max_examples=100)
@given(st.lists(st.text(max_size=20), max_size=5))
def test_words_are_what_a_shell_reads_back(words: list[str]) -> None:
    assert shlex.split(shell_words(words), posix=True) == words


def test_a_command_too_long_for_a_terminal_is_refused() -> None:
    assert exec_line(7, ["ls"]).startswith(b"exec 7 ")
    with pytest.raises(ValueError, match="too long"):
        exec_line(7, ["x" * 3000])
