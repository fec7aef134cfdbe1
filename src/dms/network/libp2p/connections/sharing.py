"""Dialling from the port that we listen on.

A router remembers, for each port inside, a port outside. Who dials from the port that it listens on learns which one that
is, because the peer tells from where it comes; and two who dial each other so at the same moment meet, although both
routers let nobody in. The listening socket must agree to share its port, and does so only once it listens: so a second
program still cannot listen there unnoticed.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import trio
from libp2p.abc import IRawConnection
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from dms.network.addresses import host_and_port, ip_of
from dms.network.libp2p.connections.attention import AttentiveTCP, make_attentive

_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EACCES)
"""The port cannot be had for this target: another connection has both."""

Source = tuple[str, int]
"""Address and port on our side."""
SourceOf = Callable[[Multiaddr], Source | None]
"""Where a dial to an address should come from; nothing where it does not matter."""


def share(sock: socket.socket) -> None:
    """Let connections that we open have the port of this listening socket."""
    if hasattr(socket, "SO_REUSEPORT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


async def dial_from(source: Source, target: Multiaddr) -> RawConnection:
    """Connect to a plain TCP address that has an IP, from that port of ours.

    :raises OSError: no answer, a refusal, or the port cannot be had for this target.
    """
    ip, (host, port) = ip_of(target), host_and_port(target)
    if ip is None:
        raise OSError(f"{target} has no IP address")
    sock = trio.socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        make_attentive(sock)
        await sock.bind(source)
        await sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return RawConnection(TrioTCPStream(trio.SocketStream(sock)), initiator=True)


class SharingTCP(AttentiveTCP):
    """Dials from the port that we listen on where that is wanted and possible, and from any otherwise."""

    def __init__(self, source_of: SourceOf) -> None:
        super().__init__()
        self._source_of = source_of

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """As the library does."""
        target = Multiaddr(str(maddr).partition("/p2p/")[0])
        source = self._source_of(target)
        if source is None:
            return await super().dial(maddr)
        try:
            return await dial_from(source, target)
        except OSError as error:
            if error.errno in _TAKEN:
                return await super().dial(maddr)
            raise OpenConnectionError(f"{target} does not answer: {error.strerror or error}") from error
