"""Sockets for datagrams: many of them go to the kernel at once (``UDP_SEGMENT``) and come from it at once (``UDP_GRO``),
where it knows these."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

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


class Burst(NamedTuple):
    """Datagrams to one place, one behind the other, all as long as the first but the last, which may be shorter."""

    data: bytes | bytearray | memoryview
    size_bytes: int


def bursts_of(datagrams: Sequence[bytes]) -> list[Burst]:
    """Those that follow each other and have one size, together, and a shorter one behind them, too."""
    found: list[Burst] = []
    begin = size = last = 0
    for index, datagram in enumerate(datagrams):
        count = len(datagram)
        if index and (count > size or last < size):
            found.append(_together(datagrams[begin:index], size))
            begin, size = index, count
        elif not index:
            size = count
        last = count
    if datagrams:
        found.append(_together(datagrams[begin:], size))
    return found


def _together(datagrams: Sequence[bytes], size: int) -> Burst:
    return Burst(b"".join(datagrams) if len(datagrams) > 1 else datagrams[0], size)


class Endpoint:
    """One socket, of one family; never waits."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.port: int = sock.getsockname()[1]
        self._can_segment = True
        self._room = memoryview(bytearray(MAX_DATAGRAM_BYTES))

    def send(self, address: Address, bursts: Sequence[Burst]) -> tuple[int, list[Burst]]:
        """Give them to the kernel; returns an ``errno`` of the last failure, or 0, and those for which there is no room now.

        What else cannot be sent is lost, as on any network.
        """
        failure = 0
        for index, (data, size) in enumerate(bursts):
            at, total = 0, len(data)
            while at < total:
                end = min(at + self._at_once(size), total)
                part = memoryview(data)[at:end] if end - at < total else data
                try:
                    if end - at <= size:
                        self.sock.sendto(part, address)
                    else:
                        self.sock.sendmsg((part,), ((socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(size)),), 0, address)
                except BlockingIOError:
                    return failure, [Burst(memoryview(data)[at:], size), *bursts[index + 1 :]]
                except OSError as error:
                    failure = error.errno or errno.EIO
                    if failure in _CANNOT_SEGMENT and end - at > size:
                        self._can_segment = False
                        continue
                at = end
        return failure, []

    def receive(self) -> tuple[memoryview, int, Address] | None:
        """What came from somewhere, one datagram behind the other, how long each is, but the last, which may be shorter, and
        from where; nothing when there is nothing now. What was read before is gone then."""
        while True:
            try:
                count, extra, _, source = self.sock.recvmsg_into((self._room,), _EXTRA_BYTES)
            except BlockingIOError:
                return None
            except ConnectionError:
                continue  # an ICMP error about what we sent
            size = 0
            for level, kind, value in extra:
                if (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO):
                    size = int.from_bytes(value[:2], "little")
            return self._room[:count], size or max(1, count), (source[0], source[1])

    def close(self) -> None:
        """Listen no more."""
        self.sock.close()

    def _at_once(self, size: int) -> int:
        """So many bytes of datagrams of this size the kernel takes."""
        return size * max(1, min(_MAX_SEGMENTS, _MAX_BURST_BYTES // size)) if self._can_segment else size


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


def _tune(sock: socket.socket, version: int) -> None:
    """Large buffers, datagrams many at a time, none fragmented; what the kernel does not know is left."""
    level, option = (socket.IPPROTO_IP, _IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
    wanted = [(level, option, _DO_NOT_FRAGMENT), (socket.IPPROTO_UDP, _UDP_GRO, 1)]
    for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        wanted += [(socket.SOL_SOCKET, plain, SOCKET_BYTES), (socket.SOL_SOCKET, forced, SOCKET_BYTES)]
    for where, what, value in wanted:
        with suppress(OSError):
            sock.setsockopt(where, what, value)
