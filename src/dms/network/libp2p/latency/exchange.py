"""How nodes tell each other their coordinates, and the table that follows from it.

``nunet/coordinates/0.0.1``: one question, one answer, both frames with JSON ``{"v": [ms, …], "h": ms, "e": share}``: the
coordinate of whoever speaks, so that one exchange serves both. Who was just met is asked first; otherwise one connected
peer at a time, drawn at random: soon after one another at first, later every :data:`EVERY_S`, and less and less often while that
changes nothing. So the cost does not depend on how many are connected. And no two peers do it more often than every
:data:`PAIR_GAP_S`, whoever asks: with few neighbours there is little to learn.

What is told is a claim (:mod:`dms.network.coordinates` says what it can do); the round trips are ours alone.
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio
from libp2p.abc import INetStream

from dms.network.coordinates import DIMENSIONS, Coordinate
from dms.network.errors import BadFrame, NetworkError
from dms.network.framing import encode_frame, read_frame
from dms.network.latency import KEPT_S, LatencyTable, RoundTrip
from dms.network.libp2p.messages.streams import receiver
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

PROTOCOL = "nunet/coordinates/0.0.1"
EVERY_S = 10.0
EARLY_S = 1.0
EARLY_ROUNDS = 40
"""So many exchanges come quickly: a node that just joined knows where it is within a minute."""
LONGEST_S = 60.0
"""Less, where peers are so many that what they told would be forgotten before their turn comes again."""
PAIR_GAP_S = 5.0
STEADY_MS, STEADY_SHARE = 1.0, 0.05
"""An exchange that moves us less, or by less of the distance to the other one, has changed nothing."""
ASK_TIMEOUT_S = 5.0
MAX_BYTES = 512
MIN_GAP_S = 0.25
"""Between two answers to one peer; who asks more often gets none."""
MAX_ASKERS = 4096
MAX_FRESH = 64


def encode_coordinate(where: Coordinate) -> bytes:
    """As it travels."""
    vector = [round(x, 3) for x in where.vector]
    return json.dumps({"v": vector, "h": round(where.height_ms, 3), "e": round(where.error, 4)}).encode()


def decode_coordinate(data: bytes) -> Coordinate:
    """What a peer told.

    :raises BadFrame: it is no coordinate, or cannot be one.
    """
    try:
        value = json.loads(data)
        vector, height_ms, error = value["v"], value["h"], value["e"]
        numbers = [float(x) for x in (*vector[: DIMENSIONS + 1], height_ms, error) if not isinstance(x, str)]
        where = Coordinate(tuple(numbers[:-2]), numbers[-2], numbers[-1])
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise BadFrame("not a coordinate") from error
    if not where.is_sane:
        raise BadFrame("a coordinate that cannot be")
    return where


class PeerLatency:
    """The round trips of one node's connections, and its coordinate; implements :class:`dms.network.latency.Latency`.

    :param connected: the peers with a live connection.
    :param speaking: those of them that know this protocol and are connected directly.
    :param ask: sends a question to a peer and returns its answer.
    """

    def __init__(
        self,
        own: PeerID,
        rng: random.Random,
        counters: Counter[str],
        *,
        connected: Callable[[], Sequence[PeerID]],
        speaking: Callable[[], Sequence[PeerID]],
        ask: Callable[[PeerID, bytes, int, float], Awaitable[bytes]],
    ) -> None:
        self._table = LatencyTable(own, random.Random(rng.random()))  # noqa: S311  parts nodes that begin together
        self._rng = rng
        self._counters = counters
        self._connected = connected
        self._speaking = speaking
        self._ask = ask
        self._answered_s: OrderedDict[PeerID, float] = OrderedDict()
        self._exchanged_s: dict[PeerID, float] = {}
        self._fresh: deque[PeerID] = deque(maxlen=MAX_FRESH)
        self._wake = trio.Event()

    # what is known ---------------------------------------------------------------------------------------------------

    def table(self) -> Mapping[PeerID, RoundTrip]:
        """The round trips to the connected peers."""
        return {peer: trip for peer in self._connected() if (trip := self._table.of(peer)) is not None}

    def of(self, peer: PeerID) -> RoundTrip | None:
        """That to one peer."""
        return self._table.of(peer)

    @property
    def coordinate(self) -> Coordinate:
        """Where we are."""
        return self._table.coordinate

    def coordinate_of(self, peer: PeerID) -> Coordinate | None:
        """Where a peer said last that it is."""
        return self._table.coordinate_of(peer, trio.current_time())

    def estimate_us(self, a: PeerID, b: PeerID) -> int | None:
        """The round trip between two peers, measured or guessed."""
        return self._table.estimate_us(a, b, trio.current_time())

    # what is heard ---------------------------------------------------------------------------------------------------

    def met(self, peer: PeerID) -> None:
        """Somebody new was identified."""
        self._fresh.append(peer)
        self._wake.set()

    def measured(self, peer: PeerID, rtt_s: float) -> None:
        """A connection was measured."""
        self._table.measured(peer, rtt_s, trio.current_time())

    def gone(self, peer: PeerID) -> None:
        """The last connection to a peer ended."""
        self._table.gone(peer)
        self._answered_s.pop(peer, None)
        self._exchanged_s.pop(peer, None)

    async def answer(self, stream: INetStream) -> None:
        """Handle one question; whoever asks nonsense, too often or too slowly has his stream reset by the guard around us."""
        asker = PeerID(stream.muxed_conn.peer_id.to_base58())
        now_s = trio.current_time()
        if now_s - self._answered_s.get(asker, -MIN_GAP_S) < MIN_GAP_S:
            self._counters["coordinates refused: too often"] += 1
            raise BadFrame("asked too often")
        self._answered_s[asker] = now_s
        if len(self._answered_s) > MAX_ASKERS:
            self._answered_s.popitem(last=False)
        with trio.fail_after(ASK_TIMEOUT_S):
            theirs = decode_coordinate(await read_frame(receiver(stream), limit_bytes=MAX_BYTES))
            await stream.write(encode_frame(encode_coordinate(self.coordinate)))
            await stream.close()
        self._hear(asker, theirs)
        if asker in self._connected():
            self._exchanged_s[asker] = now_s

    async def exchange(self) -> None:
        """Ask one peer after the other, until cancelled."""
        rounds, every_s = 0, EVERY_S
        while True:
            self._wake = trio.Event()
            if not self._fresh:
                wait_s = (EARLY_S if rounds < EARLY_ROUNDS else every_s) * self._rng.uniform(0.8, 1.2)
                with trio.move_on_after(wait_s):
                    await self._wake.wait()
            speaking = set(self._speaking())
            known = sorted(peer for peer in speaking if self._table.of(peer) is not None)
            peers = sorted({self._fresh.popleft()} & speaking) if self._fresh else self._due(known)
            if known or peers:
                rounds += 1
            before = self.coordinate
            if peers:
                await self._ask_one(self._rng.choice(peers))
            else:
                await trio.lowlevel.checkpoint()
            longest_s = max(EVERY_S, min(LONGEST_S, KEPT_S / 2 / max(1, len(known))))
            every_s = min(longest_s, 2 * every_s) if _is_steady(before, self.coordinate) else EVERY_S

    def _due(self, peers: Sequence[PeerID]) -> list[PeerID]:
        """Those that we told nothing for a while, nor they us."""
        since_s = trio.current_time() - PAIR_GAP_S
        return [peer for peer in peers if self._exchanged_s.get(peer, -math.inf) <= since_s]

    async def _ask_one(self, peer: PeerID) -> None:
        self._exchanged_s[peer] = trio.current_time()
        try:
            answer = await self._ask(peer, encode_coordinate(self.coordinate), MAX_BYTES, ASK_TIMEOUT_S)
            self._hear(peer, decode_coordinate(answer))
        except NetworkError as error:
            self._counters["coordinates not told"] += 1
            log.debug("no coordinate of %s: %s", peer, error)

    def _hear(self, peer: PeerID, where: Coordinate) -> None:
        is_believed = self._table.told(peer, where, trio.current_time())
        self._counters["coordinates " + ("taken" if is_believed else "left out")] += 1


def _is_steady(before: Coordinate, after: Coordinate) -> bool:
    moved_ms = math.dist(before.vector, after.vector) + abs(before.height_ms - after.height_ms)
    return moved_ms <= max(STEADY_MS, STEADY_SHARE * math.hypot(*after.vector))
