"""Packets larger than the MTU: how the kernel hands them over, and how they are cut where the way is not ours.

A TUN device with offloads gives TCP payload of up to 64 KiB as one packet and leaves the checksum to whoever cuts it.
Between nodes of ours such a packet travels whole, and the other kernel takes it whole: one system call for some forty
packets. Only what the far kernel needs to know goes along, the size of a segment and whether the checksum is still to
be done; offsets are read from the packet anew, so that nobody afar can point the kernel outside it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dms.subnet.errors import BadPacket
from dms.subnet.packets import MAX_PACKET_BYTES, TCP, UDP, Header, checksum, is_fragment, parse_header, pseudo_sum

VNET_BYTES = 10
MIN_SEGMENT_BYTES = 48
"""Less is refused: a packet must not become a flood of small ones."""

_VNET = struct.Struct("<BBHHHH")  # flags, kind, header bytes, segment bytes, checksum from, checksum at
_NO_OFFLOADS = bytes(VNET_BYTES)
_NEEDS_CHECKSUM = 1
_TCP_V4, _TCP_V6, _CONGESTION = 1, 4, 0x80
_CHECKSUM_AT = {TCP: 16, UDP: 6}
_MIN_L4_BYTES = {TCP: 20, UDP: 8}
_FIN_PSH, _CWR = 0x09, 0x80
_U16, _U32 = struct.Struct(">H"), struct.Struct(">L")


class Parcel(NamedTuple):
    """One IP packet as it crosses a device: perhaps of several segments, perhaps without its TCP or UDP checksum."""

    data: bytes
    segment_bytes: int = 0
    """TCP payload of each segment; 0: it is one packet."""
    is_partial: bool = False
    """The checksum field holds the sum of the pseudo-header only."""


def from_device(raw: bytes) -> tuple[Parcel, Header]:
    """What a read from a TUN device with ``IFF_VNET_HDR`` gave.

    :raises BadPacket: it cannot be used.
    """
    if len(raw) <= VNET_BYTES:
        raise BadPacket("shorter than its header")
    flags, kind, _, segment_bytes, start, at = _VNET.unpack_from(raw)
    data = raw[VNET_BYTES:]
    header = parse_header(data)
    kind &= ~_CONGESTION
    if kind not in (0, _TCP_V4, _TCP_V6):
        raise BadPacket("a kind of segmentation that was not asked for")
    if not flags & _NEEDS_CHECKSUM:
        return Parcel(data), header
    if start == header.offset and _CHECKSUM_AT.get(header.protocol) == at:
        parcel = Parcel(data, segment_bytes if kind else 0, is_partial=True)
        check(parcel, header)
        return parcel, header
    # Behind extension headers, perhaps. To cut it one would need to know them.
    if kind or start < header.offset or start + at + 2 > len(data):
        raise BadPacket("a checksum where none can be")
    return Parcel(_with_checksum(data, start, start + at)), header


def offloads_of(parcel: Parcel, header: Header) -> bytes:
    """What to write into such a device in front of the packet. The parcel must have passed :func:`check`."""
    if not parcel.is_partial:
        return _NO_OFFLOADS
    kind = (_TCP_V4 if header.version == 4 else _TCP_V6) if parcel.segment_bytes else 0
    head_bytes = headers_bytes(parcel.data, header) if kind else 0
    at = _CHECKSUM_AT[header.protocol]
    return _VNET.pack(_NEEDS_CHECKSUM, kind, head_bytes, parcel.segment_bytes, header.offset, at)


def check(parcel: Parcel, header: Header) -> None:
    """What somebody else says about a packet must agree with it.

    :raises BadPacket: it does not.
    """
    if not parcel.is_partial:
        if parcel.segment_bytes:
            raise BadPacket("segments without checksums to do")
        return
    room = len(parcel.data) - header.offset
    if room < _MIN_L4_BYTES.get(header.protocol, MAX_PACKET_BYTES) or is_fragment(parcel.data, header):
        raise BadPacket("a checksum where none can be")
    if parcel.segment_bytes:
        if header.protocol != TCP or parcel.segment_bytes < MIN_SEGMENT_BYTES:
            raise BadPacket("segments that cannot be")
        if not header.offset + 20 <= headers_bytes(parcel.data, header) <= len(parcel.data):
            raise BadPacket("a TCP header that does not fit")


def packets_of(
    parcel: Parcel, header: Header, max_bytes: int = MAX_PACKET_BYTES, *, leaves_checksums: bool = False
) -> list[bytes]:
    """The packets that it stands for; TCP is cut smaller where the way takes less than it has.

    With their checksums, unless these are left to the receiver as they were left to us: then the packets of a partial
    parcel are partial themselves. The parcel must have passed :func:`check`. What is not TCP may come out larger than
    ``max_bytes``.
    """
    if parcel.is_partial and header.protocol == TCP:
        head_bytes = headers_bytes(parcel.data, header)
        size = max(MIN_SEGMENT_BYTES, min(parcel.segment_bytes or MAX_PACKET_BYTES, max_bytes - head_bytes))
        if head_bytes <= len(parcel.data) and len(parcel.data) - head_bytes > size:
            return _cut(parcel._replace(segment_bytes=size), header, leaves_checksums=leaves_checksums)
    if parcel.is_partial and not leaves_checksums:
        at = header.offset + _CHECKSUM_AT[header.protocol]
        return [_with_checksum(parcel.data, header.offset, at, never_zero=header.protocol == UDP)]
    return [parcel.data]


def _cut(parcel: Parcel, header: Header, *, leaves_checksums: bool) -> list[bytes]:
    data, size, offset = parcel.data, parcel.segment_bytes, header.offset
    body = headers_bytes(data, header)
    l4_bytes = body - offset
    (sequence,) = _U32.unpack_from(data, offset + 4)
    ident = data[4] << 8 | data[5]
    head = bytearray(data[:body])
    flags = head[offset + 13]
    pieces = []
    for index, start in enumerate(range(body, len(data), size)):
        payload = data[start : start + size]
        is_last = start + size >= len(data)
        _U32.pack_into(head, offset + 4, (sequence + start - body) & 0xFFFFFFFF)
        head[offset + 13] = flags & ~(0 if is_last else _FIN_PSH) & ~(_CWR if index else 0)
        if header.version == 4:
            _U16.pack_into(head, 2, body + len(payload))
            _U16.pack_into(head, 4, (ident + index) & 0xFFFF)
            head[10:12] = b"\0\0"
            _U16.pack_into(head, 10, checksum(bytes(head[:offset])))
        else:
            _U16.pack_into(head, 4, l4_bytes + len(payload))
        total = pseudo_sum(header, l4_bytes + len(payload))
        if not leaves_checksums:
            head[offset + 16 : offset + 18] = b"\0\0"
            total = checksum(bytes(head[offset:]) + payload, total)
        _U16.pack_into(head, offset + 16, total)
        pieces.append(bytes(head) + payload)
    return pieces


def headers_bytes(data: bytes, header: Header) -> int:
    """Of IP and TCP together."""
    return header.offset + (data[header.offset + 12] >> 4) * 4


def _with_checksum(data: bytes, start: int, at: int, *, never_zero: bool = False) -> bytes:
    """With the checksum of what begins at ``start``; the field holds the sum of the pseudo-header."""
    total = checksum(data[start:])
    return data[:at] + _U16.pack(total or (0xFFFF if never_zero else 0)) + data[at + 2 :]
