"""A large TCP packet as datagrams: cut, and joined again without a look into every one of them.

Each piece carries what stands in front of the payload of the whole packet, so what is lost costs only itself; but nothing is
worked out for a piece, neither lengths nor sequence numbers nor checksums of headers. Who receives does that once for
all pieces that arrived in a row, and has a packet that his kernel takes at once. A piece is, little-endian::

    number of the packet 4 | where in its payload 2 | bytes of headers 1 | IP and TCP headers | payload
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import repeat
from operator import add
from typing import NamedTuple

from dms.subnet.errors import BadPacket
from dms.subnet.packets import MAX_PACKET_BYTES, TCP, Header, checksum, pseudo_sum
from dms.subnet.segments import MIN_SEGMENT_BYTES, Parcel, headers_bytes

FRONT_BYTES = 7
"""What a piece is larger than the packet that it stands for."""

_FRONT = struct.Struct("<LHB")
_U16, _U32 = struct.Struct(">H"), struct.Struct(">L")
_FIN_PSH, _CWR = 0x09, 0x80


class Cut(NamedTuple):
    """A packet in pieces: what is before the payload of each, and the payloads, all as long as the first but the last."""

    fronts: list[bytes]
    payloads: list[memoryview]


def cut(parcel: Parcel, header: Header, number: int, max_bytes: int) -> Cut | None:
    """In pieces that stand for packets of at most ``max_bytes``; nothing, if it is no packet of several segments.

    The parcel must have passed :func:`~dms.subnet.segments.check`.
    """
    if not parcel.segment_bytes:
        return None
    body = headers_bytes(parcel.data, header)
    size = max(MIN_SEGMENT_BYTES, min(parcel.segment_bytes, max_bytes - body))
    view = memoryview(parcel.data)
    head, number = parcel.data[:body], number & 0xFFFFFFFF
    offsets = range(0, len(view) - body, size)
    fronts = list(map(add, map(_FRONT.pack, repeat(number), offsets, repeat(body)), repeat(head)))
    return Cut(fronts, [view[start : start + size] for start in range(body, len(view), size)])


def join(pieces: Sequence[bytes], at: int = 0) -> list[Parcel | None]:
    """The packets that these pieces stand for, those that continue each other as one; nothing for what is no piece.

    Each begins behind ``at`` bytes of something else.
    """
    found: list[Parcel | None] = []
    index = 0
    while index < len(pieces):
        try:
            run = _Run(pieces[index], at)
        except BadPacket:
            found.append(None)
            index += 1
        else:
            index = run.extend(pieces, index + 1, at)
            found.append(run.whole())
    return found


class _Run:
    """A piece, and those that continue it."""

    __slots__ = ("_begin", "_end", "_head", "_number", "_payloads", "_size")

    def __init__(self, piece: bytes, at: int) -> None:
        if len(piece) < at + FRONT_BYTES:
            raise BadPacket("shorter than the front of a piece")
        self._number, self._begin, head_bytes = _FRONT.unpack_from(piece, at)
        body = at + FRONT_BYTES + head_bytes
        self._head = piece[at + FRONT_BYTES : body]
        if len(piece) <= body or not _is_head(self._head):
            raise BadPacket("a piece of something else")
        self._size = len(piece) - body
        self._end = self._begin + self._size
        self._payloads = [piece[body:]]

    def extend(self, pieces: Sequence[bytes], index: int, at: int) -> int:
        """Take those from ``index`` on that continue what came so far; returns where the first is that does not."""
        head, size = self._head, self._size
        body = at + FRONT_BYTES + len(head)
        room = min(MAX_PACKET_BYTES - len(head) - size, MAX_PACKET_BYTES - self._end)
        some = pieces[index : index + room // size + 1]
        ends = range(self._end, self._end + len(some) * size, size)
        fronts = map(add, map(_FRONT.pack, repeat(self._number), ends, repeat(len(head))), repeat(head))
        count = 0
        for continues, more in zip(map(bytes.startswith, some, fronts, repeat(at)), map(len, some), strict=True):
            if not continues or not body < more <= body + size:
                break
            room -= more - body
            if room < 0:
                break
            count += 1
            if more < body + size:
                break
        self._payloads += [piece[body:] for piece in some[:count]]
        self._end += sum(map(len, some[:count])) - count * body
        return index + count

    def whole(self) -> Parcel:
        """The packet that they are."""
        head = bytearray(self._head)
        is_v4 = head[0] >> 4 == 4
        offset = (head[0] & 15) * 4 if is_v4 else 40
        total = len(head) + self._end - self._begin
        said = head[2] << 8 | head[3] if is_v4 else (head[4] << 8 | head[5]) + offset
        (sequence,) = _U32.unpack_from(head, offset + 4)
        _U32.pack_into(head, offset + 4, (sequence + self._begin) & 0xFFFFFFFF)
        if self._begin:
            head[offset + 13] &= ~_CWR
        if len(head) + self._end != said:
            head[offset + 13] &= ~_FIN_PSH
        if is_v4:
            _U16.pack_into(head, 2, total)
            ident = (head[4] << 8 | head[5]) + self._begin // self._size
            _U16.pack_into(head, 4, ident & 0xFFFF)
            head[10:12] = b"\0\0"
            _U16.pack_into(head, 10, checksum(bytes(head[:offset])))
            header = Header(4, bytes(head[12:16]), bytes(head[16:20]), TCP, offset)
        else:
            _U16.pack_into(head, 4, total - offset)
            header = Header(6, bytes(head[8:24]), bytes(head[24:40]), TCP, offset)
        _U16.pack_into(head, offset + 16, pseudo_sum(header, total - offset))
        several = len(self._payloads) > 1
        return Parcel(b"".join((head, *self._payloads)), self._size if several else 0, is_partial=True)


def _is_head(head: bytes) -> bool:
    """Whether these are an IP and a TCP header, whole and no more."""
    version = head[0] >> 4 if head else 0
    offset = (head[0] & 15) * 4 if version == 4 else 40
    if version not in (4, 6) or offset < 20 or len(head) < offset + 20 or head[9 if version == 4 else 6] != TCP:
        return False
    return offset + (head[offset + 12] >> 4) * 4 == len(head)
