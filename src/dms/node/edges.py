"""How near another provider is: the round trip and the bandwidth of the connection to it (``spec/orchestration.md`` 3.3).

An orchestrator asks, with the bids that it got from both ends. A machine measures only for an ensemble for which it bid
itself, for whom it bid, and only towards a peer that bid for the same ensemble, whose signed bid it is shown: so nobody
makes it ping or flood third parties. How often is bounded for each requester, what was measured lately is not measured
again, and what others send here to measure is bounded as well.

The round trip is the median of a few pings of the network. For the bandwidth ever larger messages are sent, until one
takes long enough to tell; the other end acknowledges each.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import OrderedDict
from dataclasses import dataclass

import msgspec
import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.rates import Buckets, Rate
from dms.node.bidding import Bidder
from dms.node.errors import EdgeUnmeasured, InvalidRequest, NoBid
from dms.node.reservations import check_ensemble_id
from dms.observe import get_logger
from dms.orchestrator.bidding.bid import verify_bid
from dms.orchestrator.bidding.edge_messages import EDGE, EdgeReply, EdgeRequest
from dms.types import gojson
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID, PeerID

PROTOCOL = "dms/edge/0.0.1"
PINGS = 5
PING_TIMEOUT_S = 1.0
"""At least; who allows long round trips (a satellite's) has them waited for, as far as the deadline has room for two."""
RTT_DEADLINE_S = 5.0
KIB = 1024
EMPTY_BYTES = KIB
"""Of the first message, whose way there and back tells what any message takes, whatever its size."""
STEPS = ((64 * KIB, 1), (512 * KIB, 1), (768 * KIB, 3))
"""Bytes of a message and how many at once; less than 3 MiB in all."""
TELLING_S = 0.25
"""A step that took so long tells the bandwidth."""
BANDWIDTH_DEADLINE_S = 4.0
MAX_BPS = 1e12
REQUESTS = Rate(4.0, 128.0)
"""Measurements for one requester."""
TRANSFERS = Rate(0.2, 16.0)
"""Those of them that measure bandwidth."""
UNIT_BYTES = 64 * KIB
RECEIVED = Rate(64.0, 512.0)
"""Of such units, from one peer; 32 MiB at once, 4 MiB a second."""
KNOWN_S = 60.0
MAX_KNOWN = 1_000
PINGED_AT_ONCE = 8
MAX_HEADER_BYTES = 1_000
MAX_BID_BYTES = 32 * KIB
KBIT = 1000.0

log = get_logger(__name__)


class Chunk(Wire):
    """The header of a message that measures, or of its acknowledgement; a line feed and the filling follow."""

    number: int
    ensemble: EnsembleID = EnsembleID("")
    is_ack: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    at_s: float
    rtt_ms: float
    bandwidth_kbps: float | None = None


class EdgeMeter:
    """Answers what the connections of this machine are like."""

    def __init__(self, actor: Actor, bidder: Bidder) -> None:
        self._actor = actor
        self._bidder = bidder
        self._known: OrderedDict[PeerID, _Known] = OrderedDict()
        self._requests: Buckets[PeerID] = Buckets(REQUESTS)
        self._transfers: Buckets[PeerID] = Buckets(TRANSFERS)
        self._received: Buckets[PeerID] = Buckets(RECEIVED)
        self._pinging = trio.CapacityLimiter(PINGED_AT_ONCE)
        self._sending = trio.Lock()
        self._busy: dict[PeerID, trio.Lock] = {}
        self._numbers = itertools.count(1)
        self._awaited: dict[int, tuple[PeerID, trio.Event]] = {}

    def register(self) -> None:
        """Answer on the actor, and to other meters as long as it runs."""
        self._actor.on(
            EDGE,
            self._on_edge,
            payload=EdgeRequest,
            error_reply=lambda error: EdgeReply(ok=False, error=error),
        )
        self._actor.start_soon(self._serve)

    async def _serve(self) -> None:
        network = self._actor.network
        network.handle(PROTOCOL, self._on_chunk)
        try:
            await trio.sleep_forever()
        finally:
            network.unhandle(PROTOCOL)

    # what orchestrators ask ----------------------------------------------------------------------------------------

    async def _on_edge(self, message: Message[EdgeRequest]) -> EdgeReply:
        try:
            known = await self._measured(message)
        except DMSError as exc:
            return EdgeReply(ok=False, error=exc.message)
        request, reply = message.payload, EdgeReply(ok=True, rtt_ms=known.rtt_ms, bandwidth_kbps=known.bandwidth_kbps)
        problem = ""
        if request.rtt_ms > 0 and known.rtt_ms > request.rtt_ms:
            problem = f"the round trip takes {known.rtt_ms:.3g} ms"
        elif request.bandwidth_kbps > 0 and known.bandwidth_kbps is None:
            problem = "the bandwidth cannot be measured"
        elif known.bandwidth_kbps is not None and known.bandwidth_kbps < request.bandwidth_kbps:
            problem = f"the bandwidth is {known.bandwidth_kbps:.3g} Kbit/s"
        return msgspec.structs.replace(reply, ok=not problem, error=problem)

    async def _measured(self, message: Message[EdgeRequest]) -> _Known:
        request = message.payload
        self._check(message)
        wants_bandwidth, peer = request.bandwidth_kbps > 0, request.t
        async with self._busy.setdefault(peer, trio.Lock()):  # whoever asks meanwhile gets the same answer
            try:
                known = self._recall(peer)
                if known is not None and (known.bandwidth_kbps is not None or not wants_bandwidth):
                    return known
                if not self._requests.take(message.peer, trio.current_time()):
                    raise EdgeUnmeasured("too many measurements are asked for")
                async with self._pinging:
                    rtt_ms = await self._round_trip_ms(peer, request.rtt_ms)
                kbps = None
                if wants_bandwidth and self._transfers.take(message.peer, trio.current_time()):
                    async with self._sending:  # one at a time, or they would disturb each other
                        kbps = await self._bandwidth_kbps(peer, request.ensemble_id)
                known = _Known(trio.current_time(), rtt_ms, kbps)
                self._keep(peer, known)
                return known
            finally:
                if not self._busy[peer].statistics().tasks_waiting:
                    del self._busy[peer]

    def _check(self, message: Message[EdgeRequest]) -> None:
        """Whether this may be asked here.

        :raises DMSError: it may not.
        """
        request, own = message.payload, self._actor.network.peer_id
        if request.s != own:
            raise InvalidRequest("S is another peer")
        if request.t == own:
            raise InvalidRequest("S and T are the same peer")
        check_ensemble_id(request.ensemble_id)
        if not self._bidder.has_bid(request.ensemble_id, message.sender.id):
            raise NoBid(f"no bid requests for ensemble id: {request.ensemble_id}")
        if not request.t_bid or len(request.t_bid) > MAX_BID_BYTES:
            raise InvalidRequest("the bid of T is missing")
        now_ns = self._actor.security.now_ns()
        bid = verify_bid(request.t_bid, ensemble=request.ensemble_id, nonce=None, now_ns=now_ns)
        if bid.peer != request.t:
            raise InvalidRequest("the bid is not that of T")

    def _recall(self, peer: PeerID) -> _Known | None:
        known = self._known.get(peer)
        return known if known is not None and trio.current_time() - known.at_s < KNOWN_S else None

    def _keep(self, peer: PeerID, known: _Known) -> None:
        self._known[peer] = known
        self._known.move_to_end(peer)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    # measuring -----------------------------------------------------------------------------------------------------

    async def _round_trip_ms(self, peer: PeerID, allowed_ms: int) -> float:
        """The median; a lost ping is an endless one.

        :param allowed_ms: what would be good enough, or 0; a ping is not lost before it has taken longer.
        :raises EdgeUnmeasured: most were lost.
        """
        trips_s: list[float] = []
        timeout_s = min(max(PING_TIMEOUT_S, allowed_ms * 1.5 / 1000), RTT_DEADLINE_S / 2)
        with trio.move_on_after(RTT_DEADLINE_S):
            await self._ping_s(peer, timeout_s)  # the first may have to connect
            while len(trips_s) < PINGS:
                trips_s.append(await self._ping_s(peer, timeout_s))
        median_s = statistics.median(trips_s) if trips_s else math.inf
        if not math.isfinite(median_s):
            raise EdgeUnmeasured(f"peer {peer} does not answer pings")
        return median_s * 1000

    async def _ping_s(self, peer: PeerID, timeout_s: float) -> float:
        try:
            return await self._actor.network.ping(peer, timeout_s=timeout_s)
        except DMSError:
            return math.inf

    async def _bandwidth_kbps(self, peer: PeerID, ensemble: EnsembleID) -> float | None:
        """The best of all steps: small messages tell too little of a fast line. Nothing if T cannot take part."""
        best_bps = 0.0
        with trio.move_on_after(BANDWIDTH_DEADLINE_S):
            try:
                base_s = await self._transfer_all(peer, ensemble, EMPTY_BYTES, 1)
                for size, count in STEPS:
                    took_s = await self._transfer_all(peer, ensemble, size, count)
                    useful_s = max(took_s - base_s, took_s / 10, 1e-6)
                    best_bps = max(best_bps, min(MAX_BPS, size * count * 8 / useful_s))
                    if useful_s >= TELLING_S:
                        break
            except DMSError as exc:
                log.info("bandwidth_not_measured", peer=peer, error=exc.message)
        return best_bps / KBIT if best_bps else None

    async def _transfer_all(self, peer: PeerID, ensemble: EnsembleID, size: int, count: int) -> float:
        """Send messages side by side; how long it took until the other end had all of them."""
        began_s = trio.current_time()
        failures: list[DMSError] = []

        async def transfer() -> None:
            try:
                await self._transfer(peer, ensemble, size)
            except DMSError as exc:
                failures.append(exc)

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(transfer)
        if failures:
            raise failures[0]
        return trio.current_time() - began_s

    async def _transfer(self, peer: PeerID, ensemble: EnsembleID, size: int) -> None:
        """Send so many bytes and wait until the other end has them."""
        number, arrived = next(self._numbers), trio.Event()
        self._awaited[number] = (peer, arrived)
        try:
            header = gojson.encode(Chunk(number=number, ensemble=ensemble))
            data = header + b"\n" + bytes(size - len(header) - 1)
            await self._actor.network.send(peer, PROTOCOL, data, timeout_s=BANDWIDTH_DEADLINE_S)
            await arrived.wait()
        finally:
            del self._awaited[number]

    async def _on_chunk(self, sender: PeerID, data: bytes) -> None:
        """The other end of a measurement; what nobody here bid for is dropped and counted."""
        header, found, _ = data[:MAX_HEADER_BYTES].partition(b"\n")
        try:
            chunk = gojson.decode(header, Chunk)
        except DMSError:
            self._actor.counters["edges.malformed"] += 1
            return
        if chunk.is_ack:
            peer, arrived = self._awaited.get(chunk.number, ("", None))
            if arrived is not None and peer == sender:
                arrived.set()
            return
        if not found or not self._bidder.is_bidding(chunk.ensemble):
            self._actor.counters["edges.unwanted"] += 1
            return
        now_s = trio.current_time()
        if not all(self._received.take(sender, now_s) for _ in range(1 + len(data) // UNIT_BYTES)):
            self._actor.counters["edges.too_much"] += 1
            return
        ack = gojson.encode(Chunk(number=chunk.number, is_ack=True)) + b"\n"
        try:
            await self._actor.network.send(sender, PROTOCOL, ack, timeout_s=BANDWIDTH_DEADLINE_S)
        except DMSError as exc:
            log.debug("measurement_not_acknowledged", peer=sender, error=exc.message)
