"""The fields of the small protocols of this package by their numbers, and length-prefixed messages on streams.

On top of :mod:`dms.network.protobuf`. Decoding is bounded by the caller's limit on the message and by :data:`MAX_FIELDS`.
Written by hand because what the library generated lacks AutoNAT 2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from libp2p.abc import INetStream

from dms.network.errors import BadFrame, MessageTooLarge
from dms.network.framing import Receive, read_exactly
from dms.network.protobuf import BYTES, FIXED64, VARINT, encode_varint, walk

MAX_FIELDS = 512
MAX_MESSAGE_BYTES = 4096
"""Of one message of these protocols, its length not counted (``DCUtR``, ``circuit-v2``)."""


class Fixed64(int):
    """A number that is written in eight bytes."""


Value = int | bytes | Fixed64 | None


class Fields:
    """The fields of one decoded message; what is absent reads as nothing, the last of several counts."""

    def __init__(self, numbers: dict[int, int], data: dict[int, list[bytes]]) -> None:
        self._numbers = numbers
        self._data = data

    def number(self, field: int) -> int | None:
        """A number."""
        return self._numbers.get(field)

    def data(self, field: int) -> bytes | None:
        """Bytes."""
        found = self._data.get(field)
        return found[-1] if found else None

    def all_data(self, field: int) -> tuple[bytes, ...]:
        """All values of a repeated field."""
        return tuple(self._data.get(field, ()))

    def message(self, field: int) -> Fields | None:
        """A message within.

        :raises BadFrame: it is none.
        """
        found = self.data(field)
        return None if found is None else decode(found)


def encode(fields: Iterable[tuple[int, Value]]) -> bytes:
    """Write fields in the given order; those without a value are left out."""
    out = bytearray()
    for number, value in fields:
        if value is None:
            continue
        if isinstance(value, bytes):
            out += encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
        elif isinstance(value, Fixed64):
            out += encode_varint(number << 3 | FIXED64) + value.to_bytes(8, "little")
        else:
            out += encode_varint(number << 3 | VARINT) + encode_varint(value)
    return bytes(out)


def decode(data: bytes) -> Fields:
    """Read a message.

    :raises BadFrame: it is none, or has too many fields.
    """
    numbers: dict[int, int] = {}
    found: dict[int, list[bytes]] = defaultdict(list)
    for field, _kind, value in walk(data, MAX_FIELDS):
        if isinstance(value, bytes):
            found[field].append(value)
        else:
            numbers[field] = value
    return Fields(numbers, found)


async def read_message(receive: Receive, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> Fields:
    """One message behind its length; reads not a byte beyond it.

    :raises BadFrame: the stream ended before, or it is not a message.
    :raises MessageTooLarge: it is longer than the limit.
    """
    length, shift = 0, 0
    while True:
        (byte,) = await read_exactly(receive, 1)
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 28:
            raise BadFrame("a length that does not end")
    if length > limit_bytes:
        raise MessageTooLarge(f"a message of {length} bytes, the limit is {limit_bytes}")
    return decode(await read_exactly(receive, length) if length else b"")


async def write_message(stream: INetStream, message: bytes) -> None:
    """One message behind its length, in one write."""
    await stream.write(encode_varint(len(message)) + message)
