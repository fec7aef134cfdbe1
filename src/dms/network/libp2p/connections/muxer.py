"""Yamux with keep-alive, whole frames, bounded buffers and quotas.

Four defects of the library's yamux are mended here: a peer that freezes is never noticed; a send that is cancelled half
way leaves half an encrypted frame on the wire and so breaks the connection for everybody; a peer may send beyond its
window and fill the memory; a frame that arrives in more than a hundred pieces is taken for the end of the stream.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import IMuxedConn, IMuxedStream, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_SYN,
    GO_AWAY_NORMAL,
    MAX_WINDOW_SIZE,
    TYPE_GO_AWAY,
    TYPE_PING,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
    Yamux,
    YamuxStream,
)

from dms.network.libp2p.connections.attention import LOCAL_IP
from dms.network.libp2p.connections.limits import CONNECTION_BYTES, Memory, Share
from dms.network.libp2p.connections.locks import QuickLock
from dms.network.libp2p.connections.metering import MeteredConn
from dms.network.libp2p.connections.muxed import MuxedStream

log = logging.getLogger(__name__)

MAX_SILENCES = 2
"""Pings in a row that may stay unanswered."""
PROGRESS_BYTES = 4096
"""So much has to arrive between two pings to count as life where an answer does not."""
GOODBYE_S = 0.5
PROBE_S = 3.0
"""How long a peer has to answer when it may have become unreachable."""
WRITE_TIMEOUT_S = 15.0
"""A frame (64 KiB at most) that takes longer than this to hand to the kernel goes to a peer that does not read."""

_MAX_BUFFER_BYTES = MAX_WINDOW_SIZE + (1 << 20)


class KeepaliveYamux(Yamux):
    """The muxer of one connection; pings the peer and closes the connection when no answer comes."""

    secured_conn: MeteredConn

    def __init__(
        self,
        secured: ISecureConn,
        peer: ID,
        *,
        keepalive_s: float,
        share: Share,
        memory: Memory,
        on_frozen: Callable[[], None] = lambda: None,
        on_rtt: Callable[[float], None] = lambda _rtt_s: None,
    ) -> None:
        super().__init__(MeteredConn(secured, share), peer, is_initiator=secured.is_initiator)
        self.streams_lock: QuickLock = QuickLock()  # type: ignore[assignment]  # used as a context only
        self._write_lock: QuickLock = QuickLock()  # type: ignore[assignment]
        self.stream_buffers = self._buffers = _Buffers(share, memory, self._condemn)
        self.smoothed_rtt_s: float | None = None
        self.opened_s = self.last_used_s = trio.current_time()
        self.local_ip = LOCAL_IP.get()
        """Our own end, where that is known."""
        self.is_condemned = False
        """Whether it is being closed because it, of all connections, holds too much."""
        self._share = share
        self._memory = memory
        self._keepalive_s = keepalive_s
        self._on_frozen = on_frozen
        self._on_rtt = on_rtt
        self._probed = trio.Event()

    @property
    def buffered_bytes(self) -> int:
        """What arrived on all its streams and was not read."""
        return self._buffers.held_bytes

    async def start(self) -> None:
        """Run until the connection ends; its socket is closed then, however it ended."""
        self._memory.change(CONNECTION_BYTES)
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001  a broken connection must not end the host
            log.debug("connection to %s broke: %r", self.peer_id, error)
            await self._cleanup_on_error()
        finally:
            if not self.is_closed:
                await self.abandon()
            self.stream_buffers.clear()
            self._memory.change(-CONNECTION_BYTES)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await self.secured_conn.close()

    async def close(self, error_code: int = GO_AWAY_NORMAL) -> None:
        """Say goodbye if that is possible at once, and close; the library may wait for ever for somebody frozen."""
        if not self.event_shutting_down.is_set():
            self.event_shutting_down.set()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + GOODBYE_S):
                try:
                    async with self._write_lock:
                        goodbye = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_GO_AWAY, 0, 0, error_code)
                        await self.secured_conn.write(goodbye)
                except Exception as error:  # noqa: BLE001  it is closed already
                    log.debug("no goodbye to %s: %r", self.peer_id, error)
        await self._cleanup_on_error()

    async def open_stream(self) -> YamuxStream:
        """A new stream, once fewer than 256 are open; an opening that is cancelled half way leaves none behind."""
        self.last_used_s = trio.current_time()
        await self.stream_backlog_semaphore.acquire()
        if self.event_shutting_down.is_set():
            self.stream_backlog_semaphore.release()
            raise MuxedStreamError("the connection is closing")
        stream_id, self.next_stream_id = self.next_stream_id, self.next_stream_id + 2
        stream = MuxedStream(stream_id, self, True)
        stream._owns_backlog_slot = True  # noqa: SLF001
        self.streams[stream_id] = stream
        self.stream_buffers[stream_id] = bytearray()
        self.stream_events[stream_id] = trio.Event()
        try:
            await self._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_WINDOW_UPDATE, FLAG_SYN, stream_id, 0))
        except BaseException as error:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await stream.reset()
            if isinstance(error, Exception):
                raise MuxedStreamError(f"the stream could not be opened: {error}") from error
            raise
        return stream

    async def accept_stream(self) -> IMuxedStream:
        """The next stream that the peer opens, once it may."""
        stream = await super().accept_stream()
        self.last_used_s = trio.current_time()
        wait_s = self._share.new_streams.charge(1, self.last_used_s)
        if wait_s > 0:
            await trio.sleep(wait_s)
        return stream

    async def abandon(self) -> None:
        """Close without a word: whoever does not read, or is not wanted, is not told goodbye."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await self._cleanup_on_error()

    def probe(self) -> None:
        """Ask at once whether the peer is still there, and give it :data:`PROBE_S` to answer."""
        self._probed.set()

    def _condemn(self) -> None:
        """End with the frame that is being read: what it brings is refused, and a stream with a hole is of no use."""
        self.is_condemned = True
        self.event_shutting_down.set()

    def observe_rtt(self, rtt_s: float) -> None:
        """Take one measured round trip into the smoothed value."""
        before = self.smoothed_rtt_s
        self.smoothed_rtt_s = rtt_s if before is None else 0.75 * before + 0.25 * rtt_s
        self._on_rtt(rtt_s)

    async def _read_data_body(self, length: int) -> bytes:
        """As the library does; without its deadline where there is nothing to wait for."""
        if self.secured_conn.held_bytes >= length:
            return await self.secured_conn.read(length)
        return await super()._read_data_body(length)

    async def _measure_rtt_loop(self) -> None:
        """Ping every few seconds; replaces the library's loop, which only measures.

        One silence may be our own: after a stall of this process its deadlines pass before it reads what arrived. Two in
        a row are the peer's.
        """
        silences = 0
        while not self.event_shutting_down.is_set():
            started_s = trio.current_time()
            is_probe = self._probed.is_set()
            self._probed = trio.Event()
            bytes_before = self.secured_conn.bytes_in
            with trio.move_on_after(min(PROBE_S, self._keepalive_s) if is_probe else self._keepalive_s) as scope:
                await self._ping_once()
            if self.event_shutting_down.is_set():
                return
            # An answer may stand in line behind a long transfer; whoever sends that is not frozen.
            is_silent = scope.cancelled_caught and self.secured_conn.bytes_in < bytes_before + PROGRESS_BYTES
            silences = silences + 1 if is_silent else 0
            if silences and (is_probe or silences == MAX_SILENCES):
                log.info("peer %s answers no pings: closing its connection", self.peer_id)
                self._on_frozen()
                await self.abandon()
                return
            with trio.move_on_at(started_s + self._keepalive_s):
                await self._next_ping()

    async def _next_ping(self) -> None:
        """Return when the connection ends, or is to be probed."""
        async with trio.open_nursery() as nursery:

            async def first(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(first, self.event_shutting_down)
            nursery.start_soon(first, self._probed)

    async def _ping_once(self) -> None:
        self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
        self._ping_event = trio.Event()
        self._ping_sent_time = trio.current_time()
        try:
            await self._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, self._ping_id))
        except Exception:  # noqa: BLE001  the reading side notices a closed connection by itself
            await self.event_shutting_down.wait()
            return
        self._ping_sent_time = trio.current_time()
        await self._ping_event.wait()
        self.observe_rtt(trio.current_time() - self._ping_sent_time)

    @property
    def can_write_now(self) -> bool:
        """Whether a frame can be sent in one step."""
        free = not self._write_lock.is_held and not self.event_shutting_down.is_set()
        return free and self.secured_conn.at_once.is_ready

    @property
    def is_behind(self) -> bool:
        """Whether a frame that was sent in one step did not fit; the next one that is written takes the rest along."""
        return self.secured_conn.at_once.is_behind

    def write_now(self, frame: bytes) -> None:
        """Send a frame in one step, where that can be.

        :raises ConnectionClosedError: the other side reset the connection.
        """
        self.secured_conn.write_nowait(frame)

    async def _write_frame(self, data: bytes) -> None:
        """Write one frame whole, or none, with what another one left: a cancelled half frame would break the connection for
        all its streams."""
        async with self._write_lock:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_TIMEOUT_S) as scope:
                await (self.secured_conn.write(data) if data else self.secured_conn.at_once.flush())
            if scope.cancelled_caught:
                await self.abandon()
        await trio.lowlevel.checkpoint()


class KeepaliveMuxers(MuxerMultistream):
    """Negotiates yamux, and nothing else, with those who are let in.

    :param admit: raises where a peer, who has proved by now who it is, is refused.
    """

    def __init__(
        self, timeout_s: int, make: Callable[[ISecureConn, ID], KeepaliveYamux], admit: Callable[[ID], None]
    ) -> None:
        from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID

        super().__init__({TProtocol(PROTOCOL_ID): Yamux}, timeout_s)
        self._make = make
        self._admit = admit

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Agree on yamux and wrap the connection in it."""
        self._admit(peer_id)
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        return self._annotate_connection(self._make(conn, peer_id), conn, protocol)


class _Buffer(bytearray):
    """The bytes of one stream that nobody read yet; the library trusts the peer to stay within its window.

    The library only ever extends and clears them, and deletes slices.
    """

    def __init__(self, owner: _Buffers) -> None:
        super().__init__()
        self._owner = owner

    def extend(self, data: bytes) -> None:  # type: ignore[override]  # only bytes come here
        self._owner.admit(len(self), len(data))
        super().extend(data)

    def clear(self) -> None:
        self._owner.change(-len(self))
        super().clear()

    def __delitem__(self, key: Any) -> None:  # an index or a slice
        before = len(self)
        super().__delitem__(key)
        self._owner.change(len(self) - before)


class _Buffers(dict[int, bytearray]):
    """The buffers of one connection, counted against its peer's share and against the memory of all."""

    def __init__(self, share: Share, memory: Memory, condemn: Callable[[], None]) -> None:
        super().__init__()
        self.held_bytes = 0
        self._share = share
        self._memory = memory
        self._condemn = condemn

    def admit(self, before: int, size: int) -> None:
        """So much arrived for a stream of which so much was not read yet.

        :raises OSError: more than it may; the connection ends.
        """
        if before + size > _MAX_BUFFER_BYTES:
            self._condemn()
            raise OSError("the peer sends beyond its window")
        if self._share.buffered_bytes + size > self._share.limit_bytes:
            self._condemn()
            raise OSError("the peer sends more than anybody reads")
        self.change(size)

    def change(self, by_bytes: int) -> None:
        """So much was taken in, or read."""
        self.held_bytes += by_bytes
        self._share.buffered_bytes += by_bytes
        self._memory.change(by_bytes)

    def __setitem__(self, stream_id: int, buffer: bytearray) -> None:
        super().__setitem__(stream_id, _Buffer(self))

    def __delitem__(self, stream_id: int) -> None:
        self[stream_id].clear()
        super().__delitem__(stream_id)

    def pop(self, stream_id: int, default: Any = None) -> Any:  # the library's signature
        buffer = super().pop(stream_id, default)
        if isinstance(buffer, _Buffer):
            buffer.clear()
        return buffer

    def clear(self) -> None:
        for buffer in self.values():
            buffer.clear()
        super().clear()
