"""What waits for one peer, and the stream that carries it there."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID

from dms.network.gossip import Packet
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.gossip.wire import RecordOf, encode
from dms.network.libp2p.resetting import reset

log = logging.getLogger(__name__)

DONT_WANT_PROTOCOL = TProtocol("/meshsub/1.2.0")
PROTOCOLS = (DONT_WANT_PROTOCOL, TProtocol("/meshsub/1.1.0"), TProtocol("/meshsub/1.0.0"))

QUEUE_MESSAGES = 256
"""Messages that wait for one peer; those beyond are dropped for it, and it can ask for them later."""
QUEUE_PACKETS = 1024
"""Packets of all kinds; a peer with more to take is told nothing at all until it takes again."""
AT_ONCE_BYTES = 1 << 18
WRITE_S = 30.0
OPEN_S = 15.0
CLOSE_S = 1.0
RETRY_S = 0.5
MAX_RETRY_S = 60.0


class Neighbour:
    """Our side of the gossip with one peer.

    :param hello: what a new stream begins with: the topics we listen to.
    :param on_open: told the protocol that was agreed on.
    """

    def __init__(
        self,
        host: GuardedHost,
        peer: ID,
        *,
        hello: Callable[[], Packet],
        on_open: Callable[[TProtocol], None],
        record_of: RecordOf,
        counters: Counter[str],
    ) -> None:
        self._host = host
        self._peer = peer
        self._hello = hello
        self._on_open = on_open
        self._record_of = record_of
        self._counters = counters
        self._packets: deque[Packet] = deque()
        self._failed: list[bytes] = []
        self._wake = trio.Event()
        self.waiting = 0
        """Messages in the queue."""
        self.scope = trio.CancelScope()

    def push(self, packet: Packet) -> None:
        """Send a packet as soon as the peer takes it."""
        room = QUEUE_MESSAGES - self.waiting
        if len(packet.messages) > room:
            self._counters["gossip out dropped: slow peer"] += len(packet.messages) - room
            del packet.messages[max(0, room) :]
        if len(self._packets) >= QUEUE_PACKETS:
            self._counters["gossip out dropped: slow peer"] += 1
            return
        self.waiting += len(packet.messages)
        self._packets.append(packet)
        self._wake.set()

    async def run(self) -> None:
        """Keep a stream to the peer open for as long as it is connected."""
        pause_s = RETRY_S
        with self.scope:
            while self._host.swarm.get_connections(self._peer):
                stream = await self._open()
                if stream is not None:
                    pause_s = RETRY_S
                    self._on_open(stream.get_protocol() or PROTOCOLS[-1])
                    await self._feed(stream)
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, MAX_RETRY_S)

    async def _open(self) -> INetStream | None:
        try:
            with trio.fail_after(OPEN_S):
                return await self._host.new_stream(self._peer, PROTOCOLS)
        except Exception as error:  # noqa: BLE001  whatever the library raises: it does not speak with us now
            log.debug("no gossip with %s: %r", self._peer, error)
            return None

    async def _feed(self, stream: INetStream) -> None:
        """Send what waits until the stream fails.

        A peer may have several connections. The stream dies with its own, which shows only when something is written:
        that is sent once more on the next stream.
        """
        again, self._failed = self._failed, []
        pieces = [*encode(self._hello(), self._record_of), *again]
        try:
            while True:
                if pieces:
                    with trio.fail_after(WRITE_S):
                        await stream.write(b"".join(pieces))
                again = []
                while not self._packets:
                    self._wake = trio.Event()
                    await self._wake.wait()
                pieces = self._take()
        except Exception as error:  # noqa: BLE001  as above
            log.debug("the gossip stream to %s broke: %r", self._peer, error)
            self._counters["gossip streams broken"] += 1
            self._failed = pieces if not again else []
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await reset(stream)

    def _take(self) -> list[bytes]:
        """Frames of what waits, as many as go at once."""
        pieces: list[bytes] = []
        size = 0
        while self._packets and size < AT_ONCE_BYTES:
            packet = self._packets.popleft()
            self.waiting -= len(packet.messages)
            frames = encode(packet, self._record_of)
            size += sum(map(len, frames))
            pieces += frames
        return pieces
