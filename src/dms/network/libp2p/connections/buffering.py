"""Reading what is there at once. Below the encryption a packet is asked for in two steps, its length and the rest of it: that
would be two or three system calls for each, where one often brings several."""

from __future__ import annotations

import trio
from libp2p.io.abc import ReadWriteCloser

READ_BYTES = 64 * 1024


class Buffered(ReadWriteCloser):
    """A connection of TCP; holds less than :data:`READ_BYTES` that nobody asked for yet."""

    def __init__(self, inner: ReadWriteCloser) -> None:
        self.inner = inner
        self._held = b""
        self._at = 0

    async def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes, at least one; none at the end."""
        if n == 0:
            return b""
        at, held = self._at, self._held
        if at == len(held):
            if n is None or n >= READ_BYTES:
                return await self.inner.read(n)
            at, held = 0, await self.inner.read(READ_BYTES)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        end = len(held) if n is None else at + n
        if end >= len(held):
            self._held, self._at = b"", 0
            return held[at:] if at else held
        self._held, self._at = held, end
        return held[at:end]

    async def write(self, data: bytes) -> None:
        """As it is."""
        await self.inner.write(data)

    async def close(self) -> None:
        """End it."""
        await self.inner.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Where the other end is."""
        return self.inner.get_remote_address()
