"""TCP packets as kernels hand them over."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from dms.subnet.packets import TCP, Header, checksum, pseudo_sum, udp_packet

FAMILIES = [("10.1.2.3", "10.1.2.4"), ("fd00::3", "fd00::4")]


def tcp(
    pair: tuple[str, str], payload: bytes, *, sequence: int = 1000, flags: int = 0x18, options: bytes = b""
) -> bytes:
    """A TCP packet as the kernel hands it over for cutting: the checksum field holds the pseudo-header's sum."""
    source, destination = (ip_address(text).packed for text in pair)
    length = 20 + len(options) + len(payload)
    header = Header(4 if len(source) == 4 else 6, source, destination, TCP, 0)
    head = struct.pack(">HHLLBBHHH", 5, 6, sequence, 77, (20 + len(options)) << 2, flags, 512, 0, 0)
    head = head[:16] + struct.pack(">H", pseudo_sum(header, length)) + head[18:]
    base = udp_packet(source, 0, destination, 0, bytes(length - 8), ident=9)
    ip = bytearray(base[: len(base) - length])
    if header.version == 4:
        ip[9] = TCP
        ip[10:12] = b"\0\0"
        ip[10:12] = struct.pack(">H", checksum(bytes(ip)))
    else:
        ip[6] = TCP
    return bytes(ip) + head + options + payload
