"""Tests of :mod:`dms.network.protobuf`; the library's generated code is the reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.network.errors import BadFrame
from dms.network.protobuf import all_data, data_of, decode, decode_varint, encode, encode_varint, number

FIELDS = st.lists(
    st.tuples(st.integers(1, 1 << 20), st.integers(0, (1 << 64) - 1) | st.binary(max_size=40)), max_size=20
)


@given(FIELDS)
def test_what_is_encoded_is_decoded(fields: list[tuple[int, int | bytes]]) -> None:
    assert decode(encode(fields)) == fields


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_survive(value: int) -> None:
    assert decode_varint(encode_varint(value), 0) == (value, len(encode_varint(value)))


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_no_bytes_are_fatal(data: bytes) -> None:
    try:
        decode(data)
    except BadFrame:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",  # a tag that does not end
        b"\x08",  # no value
        b"\x08" + b"\xff" * 10 + b"\x01",  # more than 64 bits
        b"\x12\x05abcd",  # shorter than it says
        b"\x12\xff\xff\xff\xff\x0f",  # gigabytes
        b"\x00\x01",  # field 0
        b"\x0b\x0c",  # a group
        b"\x0d\x01",  # a short fixed-width number
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode(data)


def test_fixed_width_numbers_are_skipped_and_the_number_of_fields_is_bounded() -> None:
    assert decode(b"\x0d1234\x0912345678\x10\x07") == [(2, 7)]
    assert len(decode(b"\x08\x01" * 10, max_fields=10)) == 10
    with pytest.raises(BadFrame):
        decode(b"\x08\x01" * 11, max_fields=10)


def test_fields_are_read_as_the_format_asks() -> None:
    fields = decode(encode([(1, 5), (1, 6), (2, b"a"), (2, b"b"), (3, -1)]))
    assert (number(fields, 1), number(fields, 9, 4), number(fields, 3)) == (6, 4, (1 << 64) - 1)
    assert (data_of(fields, 2), data_of(fields, 9), all_data(fields, 2)) == (b"b", b"", [b"a", b"b"])
    with pytest.raises(BadFrame):
        number(fields, 2)
    with pytest.raises(BadFrame):
        all_data(fields, 1)
