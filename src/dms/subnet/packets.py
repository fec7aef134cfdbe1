"""What the headers of an IP packet say, and the few packets that we write ourselves.

Only what forwarding needs is read, and nothing of it is believed: lengths must agree, addresses are compared with the
routing table by the caller. Checksums of headers are the kernel's business, which drops what is wrong.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dms.subnet.errors import BadPacket

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
MAX_PACKET_BYTES = 65535

_V4_BYTES, _V6_BYTES, _UDP_BYTES, _ICMP_BYTES = 20, 40, 8, 8
_TTL = 64
_MIN_MTU_V6 = 1280
_U16 = struct.Struct(">H")


class Header(NamedTuple):
    """Of one packet; addresses as the bytes that stand in it, ``offset`` where the payload begins."""

    version: int
    source: bytes
    destination: bytes
    protocol: int
    offset: int


def parse_header(packet: bytes) -> Header:
    """Read and check the header of a whole packet.

    :raises BadPacket: it is none, or its lengths disagree.
    """
    size = len(packet)
    version = packet[0] >> 4 if size else 0
    if version == 4 and size >= _V4_BYTES:
        offset = (packet[0] & 15) * 4
        if offset < _V4_BYTES or size < offset or packet[2] << 8 | packet[3] != size:
            raise BadPacket("the lengths in the packet disagree")
        return Header(4, packet[12:16], packet[16:20], packet[9], offset)
    if version == 6 and size >= _V6_BYTES:
        if (packet[4] << 8 | packet[5]) + _V6_BYTES != size:
            raise BadPacket("the lengths in the packet disagree")
        return Header(6, packet[8:24], packet[24:40], packet[6], _V6_BYTES)
    raise BadPacket("neither IPv4 nor IPv6")


def ones_sum(data: bytes, start: int = 0) -> int:
    """The sum of 16-bit words as IP counts them; ``start`` continues another sum over an even number of bytes.

    A number modulo 65535 is the sum of its 16-bit digits: so the big-integer arithmetic does the loop.
    """
    if len(data) % 2:
        data = bytes(data) + b"\0"
    total = int.from_bytes(data) + start
    if not total:
        return 0
    return total % 0xFFFF or 0xFFFF


def checksum(data: bytes, start: int = 0) -> int:
    """The Internet checksum (RFC 1071)."""
    return ~ones_sum(data, start) & 0xFFFF


def pseudo_sum(header: Header, length: int) -> int:
    """The part of a TCP or UDP checksum that comes from addresses, protocol and length."""
    return ones_sum(header.source + header.destination, header.protocol + length)


def udp_packet(
    source: bytes, source_port: int, destination: bytes, destination_port: int, payload: bytes, *, ident: int = 0
) -> bytes:
    """A whole UDP packet, of the family of its addresses."""
    length = _UDP_BYTES + len(payload)
    header = Header(4 if len(source) == 4 else 6, source, destination, UDP, 0)
    head = struct.pack(">HHH", source_port, destination_port, length)
    total = checksum(head + b"\0\0" + payload, pseudo_sum(header, length)) or 0xFFFF  # 0: not computed
    return _ip_header(header, length, ident) + head + _U16.pack(total) + payload


def tcp_packet(source: bytes, destination: bytes, segment: bytes, *, is_partial: bool = False) -> bytes:
    """A whole TCP packet around a segment whose checksum is zero. ``is_partial``: only the sum of addresses and length goes
    there, as whoever cuts it does the rest."""
    header = Header(4 if len(source) == 4 else 6, source, destination, TCP, 0)
    pseudo = pseudo_sum(header, len(segment))
    total = pseudo if is_partial else checksum(segment, pseudo)
    return _ip_header(header, len(segment), 0) + segment[:16] + _U16.pack(total) + segment[18:]


def udp_ports(packet: bytes, header: Header) -> tuple[int, int, bytes]:
    """Source port, destination port and payload of a UDP packet that is not fragmented.

    :raises BadPacket: it is none.
    """
    at = header.offset
    if header.protocol != UDP or len(packet) < at + _UDP_BYTES or is_fragment(packet, header):
        raise BadPacket("no whole UDP packet")
    source, destination, length, _ = struct.unpack_from(">HHHH", packet, at)
    if length < _UDP_BYTES or at + length > len(packet):
        raise BadPacket("the lengths in the packet disagree")
    return source, destination, packet[at + _UDP_BYTES : at + length]


def is_fragment(packet: bytes, header: Header) -> bool:
    """Whether it is a part of a larger packet."""
    if header.version == 4:
        return bool((packet[6] << 8 | packet[7]) & 0x3FFF)
    return header.protocol == 44


def echo_reply(packet: bytes, header: Header) -> bytes | None:
    """The answer to a ping; nothing for anything else."""
    at = header.offset
    kinds = {ICMP: (8, 0), ICMPV6: (128, 129)}.get(header.protocol)
    if kinds is None or is_fragment(packet, header) or len(packet) < at + _ICMP_BYTES or packet[at] != kinds[0]:
        return None
    return _icmp(header, header.destination, kinds[1], 0, packet[at + 4 : at + 8], packet[at + 8 :])


def too_big(packet: bytes, header: Header, mtu: int, own: bytes) -> bytes | None:
    """Tell the sender that packets may have so many bytes (RFC 1191, RFC 8201); nothing where telling is forbidden."""
    if header.version == 4:
        if not packet[6] & 0x40 or not _may_complain(packet, header):  # it may be fragmented: nobody wants to know
            return None
        return _icmp(header, own, 3, 4, struct.pack(">HH", 0, mtu), packet[: header.offset + 8])
    if not _may_complain(packet, header):
        return None
    room = _MIN_MTU_V6 - _V6_BYTES - _ICMP_BYTES
    return _icmp(header, own, 2, 0, struct.pack(">L", max(mtu, _MIN_MTU_V6)), packet[:room])


def unreachable(packet: bytes, header: Header, own: bytes) -> bytes | None:
    """Tell the sender that nobody has this address; nothing where telling is forbidden."""
    if not _may_complain(packet, header):
        return None
    if header.version == 4:
        return _icmp(header, own, 3, 1, bytes(4), packet[: header.offset + 8])
    return _icmp(header, own, 1, 3, bytes(4), packet[: _MIN_MTU_V6 - _V6_BYTES - _ICMP_BYTES])


def _may_complain(packet: bytes, header: Header) -> bool:
    """Never about an error, a later fragment, or what was sent to many (RFC 1122 3.2.2)."""
    if header.destination[0] >= 0xE0 and (header.version == 4 or header.destination[0] == 0xFF):
        return False
    if header.version == 4 and (packet[6] & 0x1F or packet[7]):
        return False
    kind = packet[header.offset] if len(packet) > header.offset else 0
    if header.protocol == ICMP:
        return kind in (0, 8, 13, 14)
    return header.protocol != ICMPV6 or kind >= 128


def _icmp(to: Header, own: bytes, kind: int, code: int, rest: bytes, quoted: bytes) -> bytes:
    head, body = bytes((kind, code)), rest + quoted
    answer = Header(to.version, own, to.source, ICMP if to.version == 4 else ICMPV6, 0)
    length = 4 + len(body)
    total = checksum(head + b"\0\0" + body, 0 if to.version == 4 else pseudo_sum(answer, length))
    return _ip_header(answer, length, 0) + head + _U16.pack(total) + body


def _ip_header(header: Header, length: int, ident: int) -> bytes:
    if header.version == 6:
        head = struct.pack(">LHBB", 6 << 28, length, header.protocol, _TTL)
        return head + header.source + header.destination
    head = struct.pack(">BBHHHBB", 0x45, 0, _V4_BYTES + length, ident, 0, _TTL, header.protocol)
    total = checksum(head + b"\0\0" + header.source + header.destination)
    return head + _U16.pack(total) + header.source + header.destination
