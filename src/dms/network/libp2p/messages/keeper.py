"""The kept streams of this node: one for each pair of peers that talk, as long as they do.

Peers that do not speak :data:`~dms.network.libp2p.messages.frames.PROTOCOL` get a stream for each message instead
(:mod:`~dms.network.libp2p.messages.streams`).
"""

from __future__ import annotations

import logging
from collections import Counter

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from dms.network.errors import PeerUnreachable
from dms.network.handlers import Handlers
from dms.network.libp2p.connections.names import id_of, name_of
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.messages.frames import MAX_NAME_BYTES, PROTOCOL
from dms.network.libp2p.messages.kept import KeptStream, Memory, StreamLost
from dms.network.libp2p.streams.opening import open_stream
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

SWEEP_S = 5.0
MAX_STREAMS_PER_PEER = 2
"""One opened by each side, if both did at once."""
MEMORY_SHARE = 4
"""The part of the node's memory for the network, one in so many, that all peers together may fill with messages that are
not whole yet or wait for a slot."""


class Keeper:
    """Opens, uses and closes kept streams."""

    def __init__(self, host: GuardedHost, handlers: Handlers, counters: Counter[str], nursery: trio.Nursery) -> None:
        self._host = host
        self._handlers = handlers
        self._counters = counters
        self._nursery = nursery
        self._idle_s = host.swarm.limits.kept_idle_s
        self._memory = Memory(host.swarm.limits.memory_bytes // MEMORY_SHARE)
        self._streams: dict[PeerID, list[KeptStream]] = {}
        self._opening: dict[PeerID, trio.Event] = {}

    def speak(self) -> None:
        """Speak the protocol from now on."""
        self._host.set_stream_handler(TProtocol(PROTOCOL), self._accept)

    def speaks(self, peer: PeerID) -> bool | None:
        """Whether the peer is a node of this program; None when it did not say yet."""
        if peer in self._streams:
            return True
        target = id_of(peer)
        return PROTOCOL in self._host.protocols_of(target) if self._host.is_identified(target) else None

    def has_stream(self, peer: PeerID) -> bool:
        """Whether a message could be sent without opening anything."""
        return self._usable(peer) is not None

    async def send(self, peer: PeerID, inbox: str, data: bytes, timeout_s: float) -> None:
        """Send one message; returns once the peer accepted it.

        :raises PeerUnreachable: nobody handles it there, no answer in time, or the stream broke.
        :raises MessageTooLarge: the peer takes none of this size.
        """
        deadline_s = trio.current_time() + timeout_s
        stream = self._usable(peer) or await self._open(peer, timeout_s)
        try:
            await stream.send(inbox, data, max(0.0, deadline_s - trio.current_time()))
        except StreamLost:
            stream = await self._open(peer, max(0.0, deadline_s - trio.current_time()))
            await stream.send(inbox, data, max(0.0, deadline_s - trio.current_time()))

    def can_name(self, inbox: str) -> bool:
        """Whether an inbox of this name can be told to the other side."""
        return len(inbox.encode()) <= MAX_NAME_BYTES

    async def sweep(self) -> None:
        """Close what nobody uses, and give up what does not move, until cancelled."""
        while True:
            await trio.sleep(min(SWEEP_S, self._idle_s / 2))
            now_s = trio.current_time()
            for stream in [one for streams in self._streams.values() for one in streams]:
                if stream.is_stuck(now_s):
                    self._counters["kept streams given up"] += 1
                    await stream.abort()
                elif stream.is_ours and stream.is_usable and stream.is_quiet and now_s - stream.used_s > self._idle_s:
                    stream.close_soon()

    def _usable(self, peer: PeerID) -> KeptStream | None:
        for stream in self._streams.get(peer, ()):
            if stream.is_usable:
                return stream
        return None

    async def _open(self, peer: PeerID, timeout_s: float) -> KeptStream:
        """The stream to the peer; those who come while it is being opened wait for it."""
        deadline_s = trio.current_time() + timeout_s
        while (ongoing := self._opening.get(peer)) is not None:
            with trio.move_on_at(deadline_s) as scope:
                await ongoing.wait()
            if scope.cancelled_caught:
                raise PeerUnreachable(f"peer {peer} opens no stream within {timeout_s:g} s")
            if (stream := self._usable(peer)) is not None:
                return stream
        if (stream := self._usable(peer)) is not None:
            return stream
        done = self._opening[peer] = trio.Event()
        try:
            opened = await open_stream(self._host, id_of(peer), [PROTOCOL], deadline_s - trio.current_time())
            stream = self._make(opened, peer, is_ours=True)
        finally:
            del self._opening[peer]
            done.set()
        self._counters["kept streams out"] += 1
        self._nursery.start_soon(self._serve, stream, peer)
        return stream

    async def _accept(self, opened: INetStream) -> None:
        peer = name_of(opened.muxed_conn.peer_id)
        theirs = [one for one in self._streams.get(peer, ()) if not one.is_ours]
        if len(theirs) >= MAX_STREAMS_PER_PEER:
            await theirs[0].abort()
        self._counters["kept streams in"] += 1
        await self._serve(self._make(opened, peer, is_ours=False), peer)

    def _make(self, opened: INetStream, peer: PeerID, *, is_ours: bool) -> KeptStream:
        stream = KeptStream(opened, peer, self._handlers, self._counters, self._memory, is_ours=is_ours)
        self._streams.setdefault(peer, []).append(stream)
        return stream

    async def _serve(self, stream: KeptStream, peer: PeerID) -> None:
        try:
            await stream.serve()
        except Exception:  # what comes is of strangers: whatever nobody thought of ends one stream
            self._counters["tasks failed"] += 1
            log.exception("the kept stream of %s failed", peer)
        finally:
            left = self._streams[peer]
            left.remove(stream)
            if not left:
                del self._streams[peer]
