"""One stream of the library as :class:`dms.network.byte_streams.ByteStream`.

Reads and writes go to the muxed stream itself: the library's stream around it takes a lock for every step.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from dms.network.errors import StreamEnded
from dms.network.libp2p.connections.locks import QuickLock
from dms.network.libp2p.connections.muxed import MuxedStream
from dms.network.libp2p.connections.names import name_of
from dms.network.libp2p.streams.opening import is_over, reset_shielded
from dms.types.ids import PeerID


class Libp2pByteStream:
    """A stream; one task may read it while another one writes it."""

    def __init__(self, stream: INetStream) -> None:
        self.net_stream = stream
        muxed = getattr(stream, "muxed_stream", None)
        assert isinstance(muxed, MuxedStream)
        self._muxed = muxed
        self._peer = name_of(stream.muxed_conn.peer_id)
        self._protocol = str(stream.get_protocol())
        self._writing = QuickLock()
        self._is_closed = False
        self.relay = _relay_of(map(str, muxed.conn.get_transport_addresses()))
        """Which peer carries it; the path of a connection does not change."""

    @property
    def peer(self) -> PeerID:
        """The authenticated other side."""
        return self._peer

    @property
    def protocol(self) -> str:
        """What both sides agreed to speak."""
        return self._protocol

    @property
    def is_relayed(self) -> bool:
        """Whether a third peer carries it."""
        return bool(self.relay)

    @property
    def is_over(self) -> bool:
        """Whether both directions ended."""
        return is_over(self.net_stream)

    async def read(self, max_bytes: int) -> bytes:
        """At least one and at most so many bytes; empty once the other side ended its direction.

        :raises StreamEnded: the other side reset the stream, or the connection ended.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return await self._muxed.read(max_bytes)
        except MuxedStreamEOF:
            await trio.lowlevel.checkpoint()
            return b""
        except (BaseLibp2pError, OSError) as error:
            raise StreamEnded(f"the stream of {self._protocol} with {self._peer} was reset") from error

    async def write(self, data: bytes) -> None:
        """Send all of it, as fast as the other side reads.

        :raises StreamEnded: the other side reset the stream, the connection ended, or we closed it before.
        """
        async with self._writing:
            if self._is_closed:
                raise StreamEnded(f"the stream of {self._protocol} with {self._peer} is closed for writing")
            try:
                await self._muxed.write(data)
            except (BaseLibp2pError, OSError) as error:
                raise StreamEnded(f"the stream of {self._protocol} with {self._peer} was reset") from error

    @property
    def room(self) -> int:
        """How many bytes :meth:`write_nowait` takes now."""
        return 0 if self._is_closed or self._writing.is_held else self._muxed.room

    def write_nowait(self, data: bytes) -> None:
        """Send it in this very step, where there is room.

        :raises StreamEnded: the connection ended.
        """
        try:
            self._muxed.write_nowait(data)
        except (BaseLibp2pError, OSError) as error:
            raise StreamEnded(f"the stream of {self._protocol} with {self._peer} was reset") from error

    async def close(self) -> None:
        """End our direction, after what was written; again changes nothing."""
        async with self._writing:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                await self.net_stream.close()
            except (BaseLibp2pError, OSError):
                return

    async def reset(self) -> None:
        """End both directions at once."""
        self._is_closed = True
        await reset_shielded(self.net_stream)


def _relay_of(addresses: Iterable[str]) -> str:
    """The peer whose id stands before the mark of a relayed address."""
    for address in addresses:
        before, mark, _ = address.partition("/p2p-circuit")
        if mark:
            return before.rpartition("/p2p/")[2]
    return ""
