"""Tests of :mod:`dms.network.framing`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.network import MAX_MESSAGE_BYTES, BadFrame, MessageTooLarge
from dms.network.framing import HEADER_BYTES, decode_length, encode_frame, read_exactly, read_frame


def source(data: bytes, pieces: list[int]) -> Callable[[int], Awaitable[bytes]]:
    """Gives the bytes in pieces of these sizes, then whole; empty at the end."""
    state = {"at": 0, "piece": 0}

    async def receive(count: int) -> bytes:
        size = min(count, pieces[state["piece"]]) if state["piece"] < len(pieces) else count
        state["piece"] += 1
        part = data[state["at"] : state["at"] + size]
        state["at"] += len(part)
        return part

    return receive


def run(coroutine: Awaitable[bytes]) -> bytes:
    """Runs a coroutine that never really waits."""
    try:
        coroutine.__await__().__next__()
    except StopIteration as stop:
        value: bytes = stop.value
        return value
    raise AssertionError("it waits")


def test_a_frame_is_the_length_in_eight_little_endian_bytes_and_the_data() -> None:
    assert encode_frame(b"abc") == b"\x03\0\0\0\0\0\0\0abc"


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 20), max_size=60))
def test_a_frame_is_read_back_whatever_the_pieces_it_comes_in(data: bytes, pieces: list[int]) -> None:
    assert run(read_frame(source(encode_frame(data) + b"the next", pieces))) == data


@given(st.binary(min_size=1, max_size=100), st.integers(0, 107), st.lists(st.integers(1, 9), max_size=30))
def test_a_frame_that_is_cut_off_is_refused(data: bytes, keep: int, pieces: list[int]) -> None:
    frame = encode_frame(data)
    with pytest.raises(BadFrame):
        run(read_frame(source(frame[: min(keep, len(frame) - 1)], pieces)))


def test_the_sender_counts_its_header_in_and_the_receiver_does_not() -> None:
    largest = bytes(MAX_MESSAGE_BYTES - HEADER_BYTES)
    assert len(encode_frame(largest)) == MAX_MESSAGE_BYTES
    with pytest.raises(MessageTooLarge):
        encode_frame(largest + b"x")
    assert decode_length(MAX_MESSAGE_BYTES.to_bytes(8, "little")) == MAX_MESSAGE_BYTES
    with pytest.raises(MessageTooLarge):
        decode_length((MAX_MESSAGE_BYTES + 1).to_bytes(8, "little"))


def test_nothing_is_not_a_message() -> None:
    with pytest.raises(BadFrame):
        encode_frame(b"")
    with pytest.raises(BadFrame):
        decode_length(bytes(8))


def test_a_huge_length_is_refused_before_anything_is_read() -> None:
    asked = list[int]()

    async def receive(count: int) -> bytes:
        asked.append(count)
        return b"\xff" * count

    with pytest.raises(MessageTooLarge):
        run(read_frame(receive))
    assert asked == [HEADER_BYTES]


def test_reading_exactly_tells_how_much_came() -> None:
    with pytest.raises(BadFrame, match="after 3 of 5 bytes"):
        run(read_exactly(source(b"abc", [2]), 5))
