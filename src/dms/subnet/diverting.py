"""Connections to members which no packets reach, opened by a program in a namespace, the guest of a microVM, or this machine.

The firewall there leads them to a socket of ours in it, before they become packets; the kernel remembers whom they
were meant for, and we carry them there as streams (:mod:`dms.subnet.connecting`). The program notices nothing.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

import trio

from dms.observe.log import get_logger
from dms.subnet.namespaces import run_inside
from dms.subnet.pipes import Pipe, TrioPipe, join
from dms.types.errors import DMSError

BACKLOG = 128
MAX_AT_ONCE = 256
"""Of one namespace."""
LOOPBACK = IPv4Address("127.0.0.1")
PAUSE_S = 0.1
_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h
_ADDRESS_BYTES = 16

log = get_logger(__name__)

Reach = Callable[[IPv4Address, int], Awaitable[Pipe]]
"""A connection with the port of a member.

:raises DMSError: there is none.
"""


class Diverted(Protocol):
    """Where connections come out."""

    @property
    def port(self) -> int:
        """To which they are led."""
        ...

    async def accept(self) -> tuple[Pipe, IPv4Address, int]:
        """The next one, and whom it was meant for.

        :raises trio.ClosedResourceError: it was closed.
        :raises OSError: one that broke at once, or no file is left.
        """
        ...

    def close(self) -> None:
        """Take no more."""
        ...


class DivertedSocket:
    """A listening socket of a namespace."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = trio.socket.from_stdlib_socket(listener)
        self.port = int(listener.getsockname()[1])

    @classmethod
    async def open(cls, namespace: Path | None, address: IPv4Address = LOOPBACK) -> DivertedSocket:
        """Listen, in a namespace or where we are.

        :raises DMSError: the namespace is gone, or we may not enter it.
        """
        return cls(await trio.to_thread.run_sync(run_inside, namespace, partial(_listening, address)))

    async def accept(self) -> tuple[Pipe, IPv4Address, int]:
        """See :class:`Diverted`."""
        accepted, _ = await self._listener.accept()
        try:
            told = accepted.getsockopt(socket.SOL_IP, _ORIGINAL_DST, _ADDRESS_BYTES)
        except OSError:
            accepted.close()
            raise
        _, port, address = struct.unpack_from("!HH4s", told)
        return TrioPipe(trio.SocketStream(accepted)), IPv4Address(address), port

    def close(self) -> None:
        """See :class:`Diverted`."""
        self._listener.close()


def _listening(address: IPv4Address) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((str(address), 0))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


async def carry(diverted: Diverted, reach: Reach) -> None:
    """Carry what comes out, until cancelled; beyond :data:`MAX_AT_ONCE` it waits in the kernel, and takes no file of ours."""
    places = trio.Semaphore(MAX_AT_ONCE)

    async def one(pipe: Pipe, address: IPv4Address, port: int) -> None:
        try:
            other = await reach(address, port)
        except DMSError as error:
            log.debug("diverted_connection_refused", address=str(address), port=port, reason=error.message)
            await pipe.reset()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await pipe.reset()
            raise
        else:
            await join(pipe, other)
        finally:
            places.release()

    try:
        async with trio.open_nursery() as nursery:
            while True:
                await places.acquire()
                try:
                    come = await diverted.accept()
                except trio.ClosedResourceError:
                    return
                except OSError:
                    places.release()
                    await trio.sleep(PAUSE_S)
                else:
                    nursery.start_soon(one, *come)
    finally:
        diverted.close()
