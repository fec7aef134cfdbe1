"""The wire format of protocol buffers, as far as the small messages of peers need it: varints and byte strings.

Without schema: a message is a list of numbered fields in order. What we do not know (fixed-width numbers, fields of
later versions) is skipped, as the format asks; what is malformed or too much is refused before memory is set aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dms.network.errors import BadFrame

MAX_FIELDS = 1024
"""Fields of one message, repeated ones counted each."""

Field = tuple[int, int | bytes]

_MAX_VARINT_BYTES = 10
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields."""


def encode_varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at an offset, and the offset behind it.

    :raises BadFrame: it does not end, or has more than 64 bits.
    """
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        if at >= len(data):
            raise BadFrame("a number does not end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise BadFrame("a number has more than 64 bits")


def encode(fields: Iterable[Field]) -> bytes:
    """A message of these fields; a negative number is written as its 64-bit complement, as int64 is."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += encode_varint(number << 3 | VARINT) + encode_varint(value & (1 << 64) - 1)
        else:
            out += encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
    return bytes(out)


def decode(data: bytes, *, max_fields: int = MAX_FIELDS) -> list[Field]:
    """The varints and byte strings of a message, in order.

    :raises BadFrame: it is malformed, or has too many fields.
    """
    return [(number, value) for number, kind, value in walk(data, max_fields) if kind in (VARINT, BYTES)]


def walk(data: bytes, max_fields: int) -> Iterator[tuple[int, int, int | bytes]]:
    """All fields of a message, in order, with their kinds; of a fixed width: the unsigned number.

    :raises BadFrame: it is malformed, or has too many fields.
    """
    at = 0
    for _ in range(max_fields):
        if at == len(data):
            return
        tag, at = decode_varint(data, at)
        kind, number = tag & 7, tag >> 3
        if number == 0:
            raise BadFrame("a field has the number 0")
        if kind == VARINT:
            value, at = decode_varint(data, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            length, at = decode_varint(data, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise BadFrame(f"a field has the unknown kind {kind}")
        if length > len(data) - at:
            raise BadFrame("a field is longer than its message")
        raw = data[at : at + length]
        at += length
        yield number, kind, raw if kind == BYTES else int.from_bytes(raw, "little")
    if at != len(data):
        raise BadFrame(f"a message has more than {max_fields} fields")


def number(fields: Iterable[Field], wanted: int, default: int = 0) -> int:
    """The number in a field; the last one counts, as the format asks."""
    found = default
    for key, value in fields:
        if key == wanted:
            if not isinstance(value, int):
                raise BadFrame(f"field {wanted} is not a number")
            found = value
    return found


def data_of(fields: Iterable[Field], wanted: int, default: bytes = b"") -> bytes:
    """The bytes in a field; the last one counts."""
    return (all_data(fields, wanted) or [default])[-1]


def all_data(fields: Iterable[Field], wanted: int) -> list[bytes]:
    """The bytes of every occurrence of a repeated field.

    :raises BadFrame: one of them is a number.
    """
    found = []
    for key, value in fields:
        if key == wanted:
            if isinstance(value, int):
                raise BadFrame(f"field {wanted} is not a byte string")
            found.append(value)
    return found
