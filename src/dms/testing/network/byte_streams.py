"""Streams of bytes in a virtual network, on trio's clock.

What is written crosses the link in order, behind what crosses it already; a loss is what it is on real links, a delay.
A cut link holds everything back until it is healed or the nodes notice; the end of a connection, for whatever reason,
ends its streams.
"""

# ruff: noqa: SLF001  the nodes of one network reach into each other, as the wire between them would

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from dms.network.byte_streams import ByteStream, ByteStreamHandler
from dms.network.errors import AlreadyHandled, PeerUnreachable, StreamEnded
from dms.testing.network.links import Path
from dms.types.errors import DMSError
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork
    from dms.testing.network.node import MemoryNetwork

log = logging.getLogger(__name__)

WINDOW_BYTES = 256 * 1024
"""What one direction holds that nobody read yet."""
RETRANSMISSION_S = 0.2
"""What one loss costs."""
LINGER_S = 30.0
"""How long the other side may take to end its direction once a handler is done."""
MAX_STREAMS_PER_PEER = 64


class MemoryByteStreams:
    """The streams of one node of a virtual network."""

    def __init__(self, network: VirtualNetwork, node: MemoryNetwork) -> None:
        self.nursery: trio.Nursery | None = None
        """Where streams are served, while the node runs."""
        self._network = network
        self._node = node
        self._handlers: dict[str, ByteStreamHandler] = {}
        self._open: dict[PeerID, dict[MemoryByteStream, None]] = {}
        self._served: dict[PeerID, int] = {}

    def protocols(self) -> tuple[str, ...]:
        """Those that are served."""
        return tuple(self._handlers)

    def handle(self, protocol: str, handler: ByteStreamHandler) -> None:
        """Serve the streams of one protocol id.

        :raises AlreadyHandled: somebody does already.
        """
        if protocol in self._handlers:
            raise AlreadyHandled(f"the protocol {protocol} has a handler already")
        self._handlers[protocol] = handler

    def unhandle(self, protocol: str) -> None:
        """Serve no new ones."""
        self._handlers.pop(protocol, None)

    async def open(self, peer: PeerID, *protocols: str, timeout_s: float = 10.0) -> ByteStream:
        """A stream with the first of these protocols that the peer speaks.

        :raises PeerUnreachable: no connection, none of the protocols there, or no answer in time; or the own id.
        """
        node = self._node
        if peer == node.peer_id:
            raise PeerUnreachable("can't open a stream to self")
        node.require_running()
        try:
            with trio.fail_after(timeout_s):
                link = await node.connections.reach(peer)
                await node.connections.cross(link)
                other = self._network.find(peer)
                spoken = [one for one in protocols if other is not None and one in other.streams._handlers]
                if other is None or not spoken or not node.is_connected(peer):
                    raise PeerUnreachable(f"peer {peer} opens no stream for {' or '.join(protocols)}")
                ours, theirs = pair(node, other, spoken[0])
                other.streams._serve_soon(theirs)
                await node.connections.cross(link)
        except trio.TooSlowError:
            raise PeerUnreachable(f"peer {peer} opens no stream within {timeout_s:g} s") from None
        node.count("byte streams out")
        return ours

    def lose(self, peer: PeerID) -> None:
        """The connection to a peer ended."""
        for stream in list(self._open.pop(peer, {})):
            stream.break_off()

    def _serve_soon(self, stream: MemoryByteStream) -> None:
        handler = self._handlers.get(stream.protocol)
        if handler is None or self.nursery is None or self._served.get(stream.peer, 0) >= MAX_STREAMS_PER_PEER:
            self._node.count("byte streams refused: too many at once")
            stream.give_up()
            return
        self._served[stream.peer] = self._served.get(stream.peer, 0) + 1
        self._node.count("byte streams in")
        self.nursery.start_soon(self._serve, handler, stream)

    async def _serve(self, handler: ByteStreamHandler, stream: MemoryByteStream) -> None:
        ok = False
        try:
            await handler(stream)
            await stream.close()
            ok = True
        except DMSError as error:
            log.debug("a stream of %s with %s ended: %s", stream.protocol, stream.peer, error)
        except Exception:
            self._node.count("handlers failed")
            log.exception("the handler of a stream of %s failed", stream.peer)
        finally:
            self._served[stream.peer] -= 1
            if not ok:
                stream.give_up()
        self._node.after(LINGER_S, stream.give_up)


class MemoryByteStream:
    """One side of a stream in memory."""

    def __init__(self, node: MemoryNetwork, link: Path, peer: PeerID, protocol: str) -> None:
        self._node = node
        self._link = link
        self._peer = peer
        self._protocol = protocol
        self._other: MemoryByteStream = self
        self._unread = bytearray()
        self._ahead_bytes = 0
        self._arrives_s = 0.0
        self._has_ended = False
        self._is_closed = False
        self._is_reset = False
        self._writing = trio.Lock()
        self._changed = trio.Event()

    @property
    def peer(self) -> PeerID:
        """The other side."""
        return self._peer

    @property
    def protocol(self) -> str:
        """What both sides speak."""
        return self._protocol

    @property
    def is_relayed(self) -> bool:
        """Whether a third node passes it on."""
        return self._link.is_relayed

    @property
    def relay(self) -> str:
        """Which one."""
        return self._link.relay

    async def read(self, max_bytes: int) -> bytes:
        """At least one and at most so many bytes; empty once the other side ended its direction.

        :raises StreamEnded: the other side reset the stream, or the connection ended.
        """
        await trio.lowlevel.checkpoint()
        while not self._unread:
            if self._is_reset:
                raise self._ended("was reset")
            if self._has_ended:
                return b""
            await self._wait()
        data = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        self._post(self._other, partial(self._other._credit, len(data)))
        return data

    async def write(self, data: bytes) -> None:
        """Send all of it, as fast as the other side reads.

        :raises StreamEnded: the other side reset the stream, the connection ended, or we closed it before.
        """
        async with self._writing:
            sent = 0
            while sent < len(data):
                if self._is_closed:
                    raise self._ended("is closed for writing")
                if self._is_reset:
                    raise self._ended("was reset")
                room = WINDOW_BYTES - self._ahead_bytes
                if room <= 0 or self._link.is_cut:
                    await self._wait(self._link.healed if self._link.is_cut else None)
                    continue
                piece = data[sent : sent + room]
                sent += len(piece)
                self._ahead_bytes += len(piece)
                self._post(self._other, partial(self._other._take, piece), len(piece))

    @property
    def room(self) -> int:
        """How many bytes :meth:`write_nowait` takes now."""
        if self._is_closed or self._is_reset or self._link.is_cut or self._writing.locked():
            return 0
        return max(0, WINDOW_BYTES - self._ahead_bytes)

    def write_nowait(self, data: bytes) -> None:
        """Send it in this very step, where there is room."""
        self._ahead_bytes += len(data)
        self._post(self._other, partial(self._other._take, data), len(data))

    async def close(self) -> None:
        """End our direction, after what was written."""
        async with self._writing:
            if not self._is_closed and not self._is_reset:
                self._post(self._other, self._other._end)
            self._is_closed = True
            self._forget_if_over()

    async def reset(self) -> None:
        """End both directions at once."""
        await trio.lowlevel.checkpoint()
        self.give_up()

    # the wire --------------------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Reset it, without waiting; what both sides closed is left alone."""
        if self._is_reset or (self._is_closed and self._has_ended):
            return
        self._post(self._other, self._other.break_off)
        self.break_off()

    def break_off(self) -> None:
        """The stream is gone."""
        if self._is_reset or (self._is_closed and self._has_ended):
            return
        self._is_reset = True
        self._forget()
        self._wake()

    def _take(self, piece: bytes) -> None:
        self._unread += piece
        self._wake()

    def _credit(self, count: int) -> None:
        self._ahead_bytes -= count
        self._wake()

    def _end(self) -> None:
        self._has_ended = True
        self._forget_if_over()
        self._wake()

    def _post(self, target: MemoryByteStream, action: Callable[[], None], size: int = 0) -> None:
        """Let something happen on the other side, after everything that we sent before."""
        node, link = self._node, self._link
        delay_s = link.crossing_s(size, node.peer_id) + node.jitter_s(link)
        while node.loses(link):
            delay_s += RETRANSMISSION_S + 2 * link.delay_s
        self._arrives_s = max(trio.current_time() + delay_s, self._arrives_s + 1e-9)
        target._node.after(self._arrives_s - trio.current_time(), partial(target._arrive, action))

    def _arrive(self, action: Callable[[], None]) -> None:
        if self._link.is_cut and not self._is_reset:
            self._node.after(RETRANSMISSION_S, partial(self._arrive, action))
            return
        action()

    async def _wait(self, healed: trio.Event | None = None) -> None:
        """Until something changed here, or the link was put back."""
        self._changed = trio.Event() if self._changed.is_set() else self._changed
        changed = self._changed
        if healed is None:
            await changed.wait()
            return
        async with trio.open_nursery() as nursery:
            for event in (changed, healed):
                nursery.start_soon(_first, event, nursery.cancel_scope)

    def _wake(self) -> None:
        self._changed.set()

    def _forget_if_over(self) -> None:
        if self._is_closed and self._has_ended:
            self._forget()

    def _forget(self) -> None:
        self._node.streams._open.get(self._peer, {}).pop(self, None)

    def _ended(self, how: str) -> StreamEnded:
        return StreamEnded(f"the stream of {self._protocol} with {self._peer} {how}")


def pair(node: MemoryNetwork, other: MemoryNetwork, protocol: str) -> tuple[MemoryByteStream, MemoryByteStream]:
    """Both sides of a new stream."""
    link = node.connections.path(other.peer_id)
    ours = MemoryByteStream(node, link, other.peer_id, protocol)
    theirs = MemoryByteStream(other, link, node.peer_id, protocol)
    ours._other, theirs._other = theirs, ours
    node.streams._open.setdefault(other.peer_id, {})[ours] = None
    other.streams._open.setdefault(node.peer_id, {})[theirs] = None
    return ours, theirs


async def _first(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
