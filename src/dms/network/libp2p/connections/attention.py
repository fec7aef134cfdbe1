"""Sockets whose other machine is watched by the kernel: when it is gone the connection ends within seconds.

Kernels answer these questions, not programs: a node that is short of processor time keeps its connections, one whose machine
or cable is gone loses them.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from libp2p.abc import IRawConnection
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from dms.network.addresses import IPAddress

LOCAL_IP: ContextVar[IPAddress | None] = ContextVar("local_ip", default=None)
"""Our own address of the connection that is being made: its socket lies too deep in the library to be asked later."""

IDLE_S = 2
"""Ask after so much silence,"""
AGAIN_S = 1
"""and again after this,"""
UNANSWERED_MS = 5000
"""until nothing was answered, or acknowledged, for so long."""


def make_attentive(sock: Any) -> None:  # a socket of the standard library or of trio
    """Watch the other machine; those that a listening socket accepts inherit it. What a system does not know is left out."""
    for level, option, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", IDLE_S),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", AGAIN_S),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", UNANSWERED_MS // 1000),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", UNANSWERED_MS),
    ):
        number = getattr(socket, option, None)
        if number is not None:
            with suppress(OSError):
                sock.setsockopt(level, number, value)


def note_local_ip(sock: Any) -> None:  # a socket of the standard library or of trio
    """From here on, what this task makes belongs to that address of ours."""
    with suppress(OSError, ValueError):
        LOCAL_IP.set(ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]))


class AttentiveTCP(TCP):
    """Connections that we open are watched."""

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """As the library does."""
        connection = await super().dial(maddr)
        stream = getattr(getattr(connection, "stream", None), "stream", None)
        if stream is not None:
            make_attentive(stream.socket)
            note_local_ip(stream.socket)
        return connection
