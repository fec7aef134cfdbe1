"""The socket of a connection, with few steps: what is there is read at once, what there is room for is written at once.

Below the encryption a packet is asked for in two steps, its length and the rest of it: that would be two or three system
calls for each, where one often brings several. And the library takes a lock, twice gives way to other tasks and enters four
contexts for each of them.
"""

from __future__ import annotations

import os

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream

READ_BYTES = 64 * 1024


class Buffered(ReadWriteCloser):
    """A connection of TCP; holds less than :data:`READ_BYTES` that nobody asked for yet. One task reads it at a time."""

    def __init__(self, inner: TrioTCPStream) -> None:
        self.inner = inner
        self._socket = inner.stream.socket
        self._held = b""
        self._at = 0
        self._behind = b""

    async def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes, at least one; none at the end.

        :raises ConnectionClosedError: the other side reset the connection.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if n == 0:
            return b""
        at, held = self._at, self._held
        if at == len(held):
            at, held = 0, await self._read()
        end = len(held) if n is None else at + n
        if end >= len(held):
            self._held, self._at = b"", 0
            return held[at:] if at else held
        self._held, self._at = held, end
        return held[at:end]

    async def write(self, data: bytes) -> None:
        """Hand all of it to the kernel; nothing happens on a connection that we closed.

        :raises ConnectionClosedError: the other side reset the connection.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._behind:
            data, self._behind = self._behind + data, b""
        sent = 0 if self.inner.write_lock.locked() else self._hand_over(data)
        if sent < len(data):
            await self.inner.write(data[sent:])

    @property
    def is_behind(self) -> bool:
        """Whether :meth:`write_nowait` left something for the next :meth:`write`, which may be of nothing."""
        return bool(self._behind)

    def write_nowait(self, data: bytes) -> None:
        """Hand to the kernel what it takes; while nobody else writes and nothing is behind.

        :raises ConnectionClosedError: the other side reset the connection.
        """
        sent = self._hand_over(data)
        self._behind = data[sent:] if self._socket.fileno() >= 0 else b""

    async def close(self) -> None:
        """End it."""
        await self.inner.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Where the other end is."""
        return self.inner.get_remote_address()

    def _hand_over(self, data: bytes) -> int:
        """To the kernel; how much it takes now."""
        if self._socket.fileno() < 0:
            return 0
        try:
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionClosedError(f"TCP connection lost: {error}", transport="tcp") from error

    async def _read(self) -> bytes:
        """What is there; gives way to other tasks once."""
        has_waited = False
        while self._socket.fileno() >= 0:
            try:
                data = os.read(self._socket.fileno(), READ_BYTES)
            except BlockingIOError:
                try:
                    await trio.lowlevel.wait_readable(self._socket)
                except trio.ClosedResourceError:
                    break
                has_waited = True
                continue
            except OSError as error:
                raise ConnectionClosedError(f"TCP connection lost: {error}", transport="tcp") from error
            if not has_waited:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        return b""
