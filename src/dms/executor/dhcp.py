"""What a guest is told when it asks for its address (RFC 2131): the one that it has, for ever.

For images of their own, which ask on their first network card when they boot. Standard library only, and little of it:
this is part of the start of every machine.
"""

from __future__ import annotations

import socket
import struct

SERVER_PORT, CLIENT_PORT = 67, 68
MAX_REQUEST_BYTES = 4096
FOR_EVER_S = 0xFFFFFFFF

_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s192x4s")
_MAGIC = b"\x63\x82\x53\x63"
_REQUEST, _REPLY, _ETHERNET, _MAC_BYTES = 1, 2, 1, 6
_BROADCAST = 0x8000
_PAD, _END, _MASK, _DNS, _DOMAIN, _MTU = 0, 255, 1, 6, 15, 26
_WANTED, _LEASE_S, _KIND, _SERVER, _ROUTES = 50, 51, 53, 54, 121
_HOST_BITS, _ON_LINK = 32, bytes(4)
"""Of a route to one host, without a router (RFC 3442)."""
_DISCOVER, _OFFER, _ASK, _ACK, _NAK, _INFORM = 1, 2, 3, 5, 6, 8
_MIN_BYTES = 300
"""Clients of the first days of BOOTP take no less."""


class Lease:
    """What there is to tell; addresses as text."""

    def __init__(self, address: str, mask: str, gateway: str, host: str, mtu: int) -> None:
        self.address, self.mask, self.gateway = (socket.inet_aton(text) for text in (address, mask, gateway))
        self.host, self.mtu = socket.inet_aton(host), mtu


def answer(request: bytes, lease: Lease) -> bytes:
    """What to answer, to everybody; empty: nothing. Never raises."""
    if len(request) < _FIXED.size:
        return b""
    op, hardware, size, _, number, _, flags, own, _, _, relay, card, magic = _FIXED.unpack_from(request)
    if (op, hardware, size, magic) != (_REQUEST, _ETHERNET, _MAC_BYTES, _MAGIC):
        return b""
    options = _options(request[_FIXED.size :])
    kind = (options.get(_KIND) or b"\0")[0]
    if options.get(_SERVER, lease.gateway) != lease.gateway:
        return b""  # it talks to somebody else
    if kind == _DISCOVER:
        told, given = _OFFER, lease.address
    elif kind == _ASK:
        is_ours = (options.get(_WANTED) or own) == lease.address
        told, given = (_ACK, lease.address) if is_ours else (_NAK, bytes(4))
    elif kind == _INFORM:
        told, given = _ACK, bytes(4)
    else:
        return b""
    head = _FIXED.pack(
        _REPLY,
        _ETHERNET,
        _MAC_BYTES,
        0,
        number,
        0,
        flags | _BROADCAST,
        own if told == _ACK else bytes(4),
        given,
        bytes(4),
        relay,
        card,
        _MAGIC,
    )
    body = _option(_KIND, bytes([told])) + _option(_SERVER, lease.gateway)
    if told != _NAK:
        body += _option(_MASK, lease.mask) + _option(_DNS, lease.gateway) + _option(_DOMAIN, b"internal")
        body += _option(_MTU, struct.pack("!H", lease.mtu))
        body += _option(_ROUTES, bytes([_HOST_BITS]) + lease.host + _ON_LINK)
        if kind != _INFORM:
            body += _option(_LEASE_S, struct.pack("!I", FOR_EVER_S))
    return (head + body + bytes([_END])).ljust(_MIN_BYTES, b"\0")


class DhcpServer:
    """On one device of the network namespace in which it is made.

    :raises OSError: the system refuses.
    """

    def __init__(self, device: str, lease: Lease) -> None:
        self._lease = lease
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.socket.bind(("", SERVER_PORT))

    def serve(self) -> None:
        """Answer one question."""
        try:
            told = answer(self.socket.recv(MAX_REQUEST_BYTES), self._lease)
            if told:
                self.socket.sendto(told, ("255.255.255.255", CLIENT_PORT))
        except OSError:
            return  # it asks again


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        found.setdefault(data[at], data[at + 2 : at + 2 + size])
        at += 2 + size
    return found


def _option(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value)]) + value
