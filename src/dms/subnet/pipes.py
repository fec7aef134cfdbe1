"""Bytes both ways, with two ends that end on their own: what a stream between nodes and a TCP connection have in common.

:class:`~dms.network.byte_streams.ByteStream` is such a pipe as it stands; :class:`TrioPipe` makes one of a socket.
"""

from __future__ import annotations

import socket
import struct
from typing import Protocol

import trio
from trio.abc import HalfCloseableStream

from dms.network.errors import StreamEnded

PIECE_BYTES = 64 * 1024
CLOSE_S = 5.0
_LINGER_NOT = struct.pack("ii", 1, 0)


class Pipe(Protocol):
    """One task may read it while another one writes it."""

    async def read(self, max_bytes: int) -> bytes:
        """At least one and at most so many bytes; empty once the other side ended its direction.

        :raises StreamEnded: it broke.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Send all of it.

        :raises StreamEnded: it broke, or we ended our direction before.
        """
        ...

    async def close(self) -> None:
        """End our direction, after what was written."""
        ...

    async def reset(self) -> None:
        """End both directions at once; what both sides ended is left as it is."""
        ...


class TrioPipe:
    """A stream of trio as a pipe."""

    def __init__(self, stream: HalfCloseableStream) -> None:
        self._stream = stream
        self._has_ended = self._is_closed = False

    async def read(self, max_bytes: int) -> bytes:
        """See :class:`Pipe`."""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamEnded("the connection broke") from error
        self._has_ended = self._has_ended or not data
        return data

    async def write(self, data: bytes) -> None:
        """See :class:`Pipe`."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamEnded("the connection broke") from error

    async def close(self) -> None:
        """See :class:`Pipe`."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def reset(self) -> None:
        """See :class:`Pipe`; the socket is closed in any case."""
        if isinstance(self._stream, trio.SocketStream) and not (self._has_ended and self._is_closed):
            try:
                self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            except OSError:  # it is closed
                return
        await trio.aclose_forcefully(self._stream)


async def join(one: Pipe, other: Pipe) -> int:
    """Carry bytes both ways until both directions have ended, and end both pipes; how many bytes it were.

    When one side breaks, the other one is broken, too. Whoever is cancelled here breaks both.
    """
    carried = 0

    async def carry(source: Pipe, target: Pipe) -> None:
        nonlocal carried
        while data := await source.read(PIECE_BYTES):
            await target.write(data)
            carried += len(data)
        await target.close()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry, one, other)
            nursery.start_soon(carry, other, one)
    except* StreamEnded:
        pass
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            await one.reset()
            await other.reset()
    return carried
