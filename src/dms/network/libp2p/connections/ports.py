"""Listening sockets of our own.

The library binds with ``SO_REUSEPORT``: a second program on the same port would be let in silently and take half of the
connections. Here a port that is taken is an error that names it.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.abc import IListener
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.trio import TrioTCPStream
from multiaddr import Multiaddr

from dms.network.addresses import expand, host_and_port, ip_of, is_plain_tcp, parse_address
from dms.network.errors import AddressInUse, InvalidAddress
from dms.network.libp2p.connections.attention import make_attentive
from dms.network.libp2p.connections.sharing import share

log = logging.getLogger(__name__)

_BACKLOG = 512


class Port(IListener):
    """One listening socket, in the shape that the library expects of a listener."""

    def __init__(self, asked: Multiaddr, listener: trio.SocketListener) -> None:
        self.asked = asked
        self._listener = listener
        host, port = listener.socket.getsockname()[:2]
        self.bound = Multiaddr(f"/ip{6 if ':' in host else 4}/{host}/tcp/{port}")

    async def listen(self, maddr: Multiaddr) -> None:
        """It listens since it was made."""

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """Where others can dial it."""
        return tuple(expand(self.bound))

    async def close(self) -> None:
        """Accept no more."""
        await self._listener.aclose()

    async def serve(
        self, handler: Callable[[ReadWriteCloser, Multiaddr], Awaitable[None]], nursery: trio.Nursery
    ) -> None:
        """Give every connection to the handler, in a task of that nursery, until the port is closed."""

        async def serve_one(stream: trio.SocketStream) -> None:
            try:
                await handler(TrioTCPStream(stream), self.bound)
            except Exception:  # a connection must never end the listener
                log.exception("a connection to %s failed", self.bound)
            finally:
                await trio.aclose_forcefully(stream)

        try:
            await trio.serve_listeners(serve_one, [self._listener], handler_nursery=nursery)
        except* trio.ClosedResourceError:
            log.debug("no longer listening on %s", self.bound)


def open_ports(addresses: Sequence[str]) -> list[Port]:
    """Listen on all of these; those that are not plain TCP are skipped with a line in the log.

    :raises AddressInUse: another program listens there.
    :raises InvalidAddress: not a multiaddress, or not one of this machine.
    """
    ports: list[Port] = []
    try:
        for text in addresses:
            address = parse_address(text)
            if not is_plain_tcp(address) or ip_of(address) is None:
                log.info("not listening on %s: only /ip4|ip6/…/tcp/… is supported", text)
                continue
            ports.append(Port(address, _listen(address)))
    except BaseException:
        for port in ports:
            port._listener.socket.close()  # noqa: SLF001
        raise
    return ports


def _listen(address: Multiaddr) -> trio.SocketListener:
    host, port = host_and_port(address)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        make_attentive(sock)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))  # a numeric address: this does not block
        sock.listen(_BACKLOG)
        share(sock)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(f"another program listens on {address}") from error
        raise InvalidAddress(
            f"cannot listen on {address}: {error.strerror or error}",
            hint="set p2p.listen_address to an address of this machine",
        ) from error
