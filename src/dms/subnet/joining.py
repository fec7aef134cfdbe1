"""Putting TCP packets that were cut for datagrams together again, so that the kernel takes them at once.

Writing a packet to a device costs the same for 1,400 bytes as for 64 KiB. What comes in one after the other, of one
connection, with headers that differ in nothing but position and length, is what some sender's kernel had given out as
one packet; joined it is that packet again. The order of packets does not change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from dms.subnet.packets import MAX_PACKET_BYTES, TCP, Header, checksum, is_fragment, pseudo_sum
from dms.subnet.segments import MIN_SEGMENT_BYTES, Parcel

_ACK, _PSH = 0x10, 0x08
_U16, _U32 = struct.Struct(">H"), struct.Struct(">L")


def joined(packets: Iterable[tuple[Parcel, Header]]) -> list[tuple[Parcel, Header]]:
    """The same packets, runs of them joined. Each must have passed :func:`~dms.subnet.segments.check`."""
    out: list[tuple[Parcel, Header]] = []
    run: _Run | None = None
    for parcel, header in packets:
        if run is not None and run.takes(parcel, header):
            continue
        if run is not None:
            out.append(run.whole())
        run = _Run.of(parcel, header)
        if run is None:
            out.append((parcel, header))
    if run is not None:
        out.append(run.whole())
    return out


class _Run:
    """A packet, and those that continue it."""

    __slots__ = ("_body", "_first", "_header", "_is_over", "_next", "_pieces", "_same", "_size", "_total")

    def __init__(self, parcel: Parcel, header: Header, body: int) -> None:
        data = parcel.data
        self._first, self._header, self._body = parcel, header, body
        self._same = _unchanging(data, header, body)
        self._size = len(data) - body
        (sequence,) = _U32.unpack_from(data, header.offset + 4)
        self._next = (sequence + self._size) & 0xFFFFFFFF
        self._pieces: list[bytes] = []
        self._total = len(data)
        self._is_over = bool(data[header.offset + 13] & _PSH)

    @classmethod
    def of(cls, parcel: Parcel, header: Header) -> _Run | None:
        """A run that begins with this packet, if it can begin one."""
        body = _body_of(parcel, header)
        if not body or len(parcel.data) - body < MIN_SEGMENT_BYTES:
            return None
        return cls(parcel, header, body)

    def takes(self, parcel: Parcel, header: Header) -> bool:
        """Whether this packet continues the run; then it is part of it."""
        if self._is_over or header != self._header or parcel.is_partial is not self._first.is_partial:
            return False
        data, offset = parcel.data, header.offset
        size = len(data) - self._body
        if not 0 < size <= self._size or self._total + size > MAX_PACKET_BYTES:
            return False
        if _body_of(parcel, header) != self._body or _unchanging(data, header, self._body) != self._same:
            return False
        if _U32.unpack_from(data, offset + 4)[0] != self._next:
            return False
        self._pieces.append(data[self._body :])
        self._total += size
        self._next = (self._next + size) & 0xFFFFFFFF
        self._is_over = size < self._size or bool(data[offset + 13] & _PSH)
        if data[offset + 13] & _PSH:
            self._first = self._first._replace(data=_with_flag(self._first.data, offset + 13, _PSH))
        return True

    def whole(self) -> tuple[Parcel, Header]:
        """The packet that it stands for."""
        if not self._pieces:
            return self._first, self._header
        header, offset = self._header, self._header.offset
        head = bytearray(self._first.data[: self._body])
        if header.version == 4:
            _U16.pack_into(head, 2, self._total)
            head[10:12] = b"\0\0"
            _U16.pack_into(head, 10, checksum(bytes(head[:offset])))
        else:
            _U16.pack_into(head, 4, self._total - offset)
        _U16.pack_into(head, offset + 16, pseudo_sum(header, self._total - offset))
        data = b"".join((head, self._first.data[self._body :], *self._pieces))
        return Parcel(data, self._size, is_partial=True), header


def _body_of(parcel: Parcel, header: Header) -> int:
    """Where the payload of a TCP packet begins that carries data and nothing special; 0 for every other."""
    data, offset = parcel.data, header.offset
    if header.protocol != TCP or parcel.segment_bytes or len(data) < offset + 20 or is_fragment(data, header):
        return 0
    body = offset + (data[offset + 12] >> 4) * 4
    plain = data[offset + 13] & ~_PSH == _ACK
    return body if plain and offset + 20 <= body < len(data) else 0


def _unchanging(data: bytes, header: Header, body: int) -> bytes:
    """What must be the same in every packet of a run, addresses aside."""
    at = header.offset
    ip = data[:2] + data[6:10] + data[20:at] if header.version == 4 else data[:4] + data[6:8]
    return ip + data[at : at + 4] + data[at + 8 : at + 13] + data[at + 14 : at + 16] + data[at + 18 : body]


def _with_flag(data: bytes, at: int, flag: int) -> bytes:
    return data[:at] + bytes((data[at] | flag,)) + data[at + 1 :]
