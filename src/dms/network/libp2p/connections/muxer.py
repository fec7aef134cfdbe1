"""Yamux with keep-alive, whole frames and bounded buffers.

Four defects of the library's yamux are mended here: a peer that freezes is never noticed; a send that is cancelled half
way leaves half an encrypted frame on the wire and so breaks the connection for everybody; a peer may send beyond its
window and fill the memory; a frame that arrives in more than a hundred pieces is taken for the end of the stream.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

import trio
from libp2p.abc import IMuxedConn, ISecureConn
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

from dms.network.libp2p.connections.muxed import MuxedStream

log = logging.getLogger(__name__)

MAX_SILENCES = 2
"""Pings in a row that may stay unanswered."""
GOODBYE_S = 0.5
WRITE_TIMEOUT_S = 15.0
"""A frame (64 KiB at most) that takes longer than this to hand to the kernel goes to a peer that does not read."""

_MAX_BUFFER_BYTES = MAX_WINDOW_SIZE + (1 << 20)


class KeepaliveYamux(Yamux):
    """The muxer of one connection; pings the peer and closes the connection when no answer comes."""

    def __init__(
        self,
        secured: ISecureConn,
        peer: ID,
        *,
        keepalive_s: float,
        on_frozen: Callable[[], None] = lambda: None,
        on_rtt: Callable[[float], None] = lambda _rtt_s: None,
    ) -> None:
        super().__init__(secured, peer, is_initiator=secured.is_initiator)
        self.stream_buffers = _Buffers()
        self.smoothed_rtt_s: float | None = None
        self.opened_s = trio.current_time()
        self._keepalive_s = keepalive_s
        self._on_frozen = on_frozen
        self._on_rtt = on_rtt

    async def start(self) -> None:
        """Run until the connection ends; its socket is closed then, however it ended."""
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001  a broken connection must not end the host
            log.debug("connection to %s broke: %r", self.peer_id, error)
            await self._cleanup_on_error()
        finally:
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

    def observe_rtt(self, rtt_s: float) -> None:
        """Take one measured round trip into the smoothed value."""
        before = self.smoothed_rtt_s
        self.smoothed_rtt_s = rtt_s if before is None else 0.75 * before + 0.25 * rtt_s
        self._on_rtt(rtt_s)

    async def _measure_rtt_loop(self) -> None:
        """Ping every few seconds; replaces the library's loop, which only measures.

        One silence may be our own: after a stall of this process its deadlines pass before it reads what arrived. Two in
        a row are the peer's.
        """
        silences = 0
        while not self.event_shutting_down.is_set():
            started_s = trio.current_time()
            with trio.move_on_after(self._keepalive_s) as scope:
                await self._ping_once()
            if self.event_shutting_down.is_set():
                return
            silences = silences + 1 if scope.cancelled_caught else 0
            if silences == MAX_SILENCES:
                log.info("peer %s answers no pings: closing its connection", self.peer_id)
                self._on_frozen()
                await self._abandon()
                return
            with trio.move_on_at(started_s + self._keepalive_s):
                await self.event_shutting_down.wait()

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

    async def _write_frame(self, data: bytes) -> None:
        """Write one frame whole: a cancelled half frame would break the connection for all its streams."""
        async with self._write_lock:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_TIMEOUT_S) as scope:
                await self.secured_conn.write(data)
            if scope.cancelled_caught:
                await self._abandon()
        await trio.lowlevel.checkpoint()

    async def _abandon(self) -> None:
        """Close without a word: whoever does not read cannot be told goodbye."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await self._cleanup_on_error()


class KeepaliveMuxers(MuxerMultistream):
    """Negotiates yamux, and nothing else."""

    def __init__(self, timeout_s: int, make: Callable[[ISecureConn, ID], KeepaliveYamux]) -> None:
        from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID

        super().__init__({TProtocol(PROTOCOL_ID): Yamux}, timeout_s)
        self._make = make

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Agree on yamux and wrap the connection in it."""
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        return self._annotate_connection(self._make(conn, peer_id), conn, protocol)


class _Buffer(bytearray):
    """The bytes of one stream that nobody read yet; the library trusts the peer to stay within its window."""

    def extend(self, data: bytes) -> None:  # type: ignore[override]  # only bytes come here
        if len(self) + len(data) > _MAX_BUFFER_BYTES:
            raise OSError("the peer sends beyond its window")
        super().extend(data)


class _Buffers(dict[int, bytearray]):
    def __setitem__(self, stream_id: int, buffer: bytearray) -> None:
        super().__setitem__(stream_id, buffer if isinstance(buffer, _Buffer) else _Buffer(buffer))
