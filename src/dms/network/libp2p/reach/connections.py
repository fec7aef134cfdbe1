"""Questions about connections: relayed or direct, and from which address."""

from __future__ import annotations

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.connection_types import ConnectionType
from multiaddr import Multiaddr


def is_relayed(one: INetStream | INetConn) -> bool:
    """Whether a connection, or that of a stream, goes through a relay."""
    return bool(one.muxed_conn.get_connection_type() == ConnectionType.RELAYED)


def remote_ip(one: INetStream | INetConn) -> str | None:
    """The IP address that the other side has on the wire; nothing for relayed connections."""
    sock = None if is_relayed(one) else _socket_of(one)
    try:
        return None if sock is None else str(sock.getpeername()[0]).removeprefix("::ffff:").partition("%")[0]
    except OSError:
        return None


def local_port(one: INetConn) -> int | None:
    """The port that a direct connection has on our side."""
    sock = None if is_relayed(one) else _socket_of(one)
    try:
        return None if sock is None else int(sock.getsockname()[1])
    except OSError:
        return None


def _socket_of(one: INetStream | INetConn) -> trio.socket.SocketType | None:
    """The socket below; the library's own way to the address knows no IPv6."""
    found: object = one.muxed_conn
    for name in ("secured_conn", "conn", "read_writer", "read_write_closer", "stream", "stream", "socket"):
        found = getattr(found, name, None)
        found = getattr(found, "_inner", found)  # under the key of a private network
    return found if isinstance(found, trio.socket.SocketType) else None


def remote_address(one: INetStream | INetConn) -> Multiaddr | None:
    """Address and port that the other side has on the wire, or the relay's, with ``/p2p-circuit`` at the end."""
    found = one.muxed_conn.get_transport_addresses()
    return found[0] if found else None
