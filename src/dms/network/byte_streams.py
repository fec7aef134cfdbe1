"""Streams of bytes between peers, for what messages are not made for: packets of private networks, files.

A stream has two directions that end on their own, and room for a bounded number of bytes: whoever writes faster than
the other side reads waits. Everything that ends a connection ends its streams.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from dms.types.ids import PeerID


class ByteStream(Protocol):
    """One stream; one task may read it while another one writes it."""

    @property
    def peer(self) -> PeerID:
        """The authenticated other side."""
        ...

    @property
    def protocol(self) -> str:
        """What both sides agreed to speak."""
        ...

    @property
    def is_relayed(self) -> bool:
        """Whether a third peer carries it, with a limit of bytes and time as a rule."""
        ...

    @property
    def relay(self) -> str:
        """Which peer carries it; empty where none does."""
        ...

    async def read(self, max_bytes: int) -> bytes:
        """At least one and at most so many bytes; empty once the other side ended its direction.

        :raises StreamEnded: the other side reset the stream, or the connection ended.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Send all of it, as fast as the other side reads; a write that was cancelled may have sent a part.

        :raises StreamEnded: the other side reset the stream, the connection ended, or we closed it before.
        """
        ...

    @property
    def room(self) -> int:
        """How many bytes :meth:`write_nowait` takes now; 0 where it would have to wait, or where there is no such way."""
        ...

    def write_nowait(self, data: bytes) -> None:
        """Send it in this very step, where there is room. What the kernel does not take goes with the next :meth:`write`; so
        where there is no room afterwards one has to follow, if only of nothing.

        :raises StreamEnded: the connection ended.
        """
        ...

    async def close(self) -> None:
        """End our direction, after what was written; the other side may go on, and can be read."""
        ...

    async def reset(self) -> None:
        """End both directions at once; what is under way is lost."""
        ...


ByteStreamHandler = Callable[[ByteStream], Awaitable[None]]
"""Serves one inbound stream. When it returns our direction is closed, and the other side has a while to end its own; what
it raises resets the stream, and is logged unless it is a :class:`~dms.types.errors.DMSError`."""


class ByteStreams(Protocol):
    """Opens streams to peers, and serves those that peers open."""

    def handle(self, protocol: str, handler: ByteStreamHandler) -> None:
        """Serve the streams of one protocol id; each runs in a task of its own, a bounded number for each peer.

        :raises AlreadyHandled: somebody does already.
        """
        ...

    def unhandle(self, protocol: str) -> None:
        """Serve no new ones; unknown protocols are ignored."""
        ...

    async def open(self, peer: PeerID, *protocols: str, timeout_s: float = 10.0) -> ByteStream:
        """A stream with the first of these protocols that the peer speaks, over a connection made if need be.

        :raises PeerUnreachable: no connection, none of the protocols there, or no answer in time; or the own id.
        """
        ...
