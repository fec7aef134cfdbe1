"""Protocol buffers as the library's generated code reads and writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.errors import BadFrame, MessageTooLarge
from dms.network.libp2p.reach.protobuf import MAX_FIELDS, Fixed64, decode, encode, read_message
from dms.network.protobuf import encode_varint

NUMBERS = st.integers(0, (1 << 64) - 1)
VALUES = st.one_of(NUMBERS, st.binary(max_size=60), NUMBERS.map(Fixed64))
FIELDS = st.lists(st.tuples(st.integers(1, 500), VALUES), max_size=12)


@given(FIELDS)
def test_what_is_written_is_read(fields: list[tuple[int, int | bytes]]) -> None:
    found = decode(encode(fields))
    for number, value in fields:
        if isinstance(value, bytes):
            assert found.all_data(number) == tuple(v for n, v in fields if n == number and isinstance(v, bytes))
        else:
            assert found.number(number) == [v for n, v in fields if n == number and isinstance(v, int)][-1]


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_frame_or_a_message(data: bytes) -> None:
    try:
        decode(data)
    except BadFrame:
        return


def test_a_message_has_so_many_fields_at_most() -> None:
    decode(encode([(1, 1)] * MAX_FIELDS))
    with pytest.raises(BadFrame, match="fields"):
        decode(encode([(1, 1)] * (MAX_FIELDS + 1)))


def test_what_is_absent_is_nothing() -> None:
    found = decode(encode([(1, None)]))
    assert (found.number(1), found.data(1), found.all_data(1), found.message(1)) == (None, None, (), None)


class Pieces:
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def receive(self, count: int) -> bytes:
        piece, self.data = self.data[: min(count, 3)], self.data[min(count, 3) :]
        return piece


@given(st.binary(max_size=300).map(lambda data: encode([(1, data)])), st.binary(max_size=20))
async def test_a_message_is_read_to_its_end_and_no_further(message: bytes, rest: bytes) -> None:
    stream = Pieces(encode_varint(len(message)) + message + rest)
    assert (await read_message(stream.receive)).data(1) == decode(message).data(1)
    assert stream.data == rest


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x05ab", b"\xff\xff\xff\xff\xff\xff"])
async def test_a_message_that_does_not_end_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        await read_message(Pieces(data).receive)


async def test_a_long_message_is_refused_before_it_is_read() -> None:
    stream = Pieces(encode_varint(5000) + b"x")
    with pytest.raises(MessageTooLarge):
        await read_message(stream.receive)
    assert stream.data == b"x"
