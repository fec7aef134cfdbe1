"""Connections that notice when the other machine is gone."""

from __future__ import annotations

import socket

import trio
from multiaddr import Multiaddr

from dms.network.libp2p.connections.attention import UNANSWERED_MS, AttentiveTCP, make_attentive


def timeout_ms(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def test_what_a_listening_socket_accepts_is_watched_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        make_attentive(listener)
        with socket.create_connection(listener.getsockname()) as ours:
            theirs, _ = listener.accept()
            with theirs:
                assert timeout_ms(theirs) == UNANSWERED_MS
                assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert timeout_ms(ours) == 0


async def test_what_we_open_is_watched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, trio.fail_after(10):
        port = listener.getsockname()[1]
        connection = await AttentiveTCP().dial(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}"))
        stream = connection.stream.stream  # type: ignore[attr-defined]  # the library's own way down
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNANSWERED_MS
        await connection.close()
