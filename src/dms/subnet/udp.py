"""Sockets for datagrams: many of them go to the kernel at once (``UDP_SEGMENT``) and come from it at once (``UDP_GRO``),
where it knows these."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

from dms.subnet.probing import Address

SOCKET_BYTES = 8 << 20
MAX_DATAGRAM_BYTES = 65535

_UDP_SEGMENT, _UDP_GRO = 103, 104
_MAX_SEGMENTS, _MAX_BURST_BYTES = 64, 65000
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _DO_NOT_FRAGMENT = 10, 23, 3
_CANNOT_SEGMENT = (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP)
_SIZE = struct.Struct("=H")
_EXTRA_BYTES = socket.CMSG_SPACE(4)


class Endpoint:
    """One socket, of one family; never waits."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.port: int = sock.getsockname()[1]
        self._can_segment = True

    def send(self, address: Address, datagrams: list[bytes]) -> tuple[int, list[bytes]]:
        """Give them to the kernel; returns an ``errno`` of the last failure, or 0, and those for which there is no room now.

        What else cannot be sent is lost, as on any network.
        """
        failure = 0
        rest = datagrams
        while rest:
            burst = _burst(rest) if self._can_segment else rest[:1]
            try:
                if len(burst) == 1:
                    self.sock.sendto(burst[0], address)
                else:
                    extra = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(len(burst[0])))]
                    self.sock.sendmsg(burst, extra, 0, address)
            except BlockingIOError:
                return failure, rest
            except OSError as error:
                failure = error.errno or errno.EIO
                if failure in _CANNOT_SEGMENT and len(burst) > 1:
                    self._can_segment = False
                    continue
            rest = rest[len(burst) :]
        return failure, []

    def receive(self) -> tuple[Iterator[bytes], Address] | None:
        """What came from somewhere; nothing when there is nothing now."""
        while True:
            try:
                data, extra, _, source = self.sock.recvmsg(MAX_DATAGRAM_BYTES, _EXTRA_BYTES)
            except BlockingIOError:
                return None
            except ConnectionError:
                continue  # an ICMP error about what we sent
            return _split(data, extra), (source[0], source[1])

    def close(self) -> None:
        """Listen no more."""
        self.sock.close()


def open_endpoints(port: int) -> dict[int, Endpoint]:
    """One of each family that this machine has, by version, on this port or a free one."""
    found: dict[int, Endpoint] = {}
    for version, family, any_ip in ((4, socket.AF_INET, "0.0.0.0"), (6, socket.AF_INET6, "::")):
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError:
            continue  # no such family here
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((any_ip, port))
        except OSError:
            try:
                sock.bind((any_ip, 0))
            except OSError:
                sock.close()
                continue
        sock.setblocking(False)
        _tune(sock, version)
        found[version] = Endpoint(sock)
        port = port or found[version].port
    return found


def _burst(datagrams: list[bytes]) -> list[bytes]:
    """The first ones of one size, and perhaps a shorter one behind them, as many as the kernel takes at once."""
    size = len(datagrams[0])
    most = max(1, min(_MAX_SEGMENTS, _MAX_BURST_BYTES // size))
    count = 0
    for datagram in datagrams[:most]:
        if len(datagram) != size:
            return datagrams[: count + 1] if 0 < len(datagram) < size else datagrams[:count]
        count += 1
    return datagrams[:count]


def _split(data: bytes, extra: list[tuple[int, int, bytes]]) -> Iterator[bytes]:
    """The datagrams of one read."""
    size = next((int.from_bytes(v[:2], "little") for level, kind, v in extra if (level, kind) == (17, _UDP_GRO)), 0)
    if not size or size >= len(data):
        yield data
        return
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _tune(sock: socket.socket, version: int) -> None:
    """Large buffers, datagrams many at a time, none fragmented; what the kernel does not know is left."""
    level, option = (socket.IPPROTO_IP, _IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
    wanted = [(level, option, _DO_NOT_FRAGMENT), (socket.IPPROTO_UDP, _UDP_GRO, 1)]
    for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        wanted += [(socket.SOL_SOCKET, plain, SOCKET_BYTES), (socket.SOL_SOCKET, forced, SOCKET_BYTES)]
    for where, what, value in wanted:
        with suppress(OSError):
            sock.setsockopt(where, what, value)
