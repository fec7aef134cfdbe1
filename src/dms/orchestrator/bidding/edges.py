"""Measuring the connections that an assignment rests on: asked of one end, and of the other if that one cannot.

What a peer answers is believed as far as it can be true; both ends of an edge are peers that want the work, and whether
an edge holds is in the interest of neither alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import trio

from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.edge_messages import EDGE, EdgeReply, EdgeRequest
from dms.orchestrator.bidding.measured import MeasuredPair
from dms.orchestrator.bidding.wishes import wishes_of
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.types.errors import DMSError
from dms.types.ids import PeerID

RTT_TIMEOUT_S = 8.0
BANDWIDTH_TIMEOUT_S = 12.0
ROUND_S = 60.0
"""Of all pairs together; what is left by then is asked for again, if it still matters."""
AT_ONCE = 64
AT_ONCE_PER_PEER = 4
MAX_ERROR_CHARS = 200
BITS_PER_KBIT = 1000


async def measure_edges(
    ctx: Context, state: DeploymentState, pairs: Iterable[tuple[PeerID, PeerID]]
) -> tuple[MeasuredPair, ...]:
    """What is known of these pairs afterwards; each is measured at most once. Pairs that were not reached in time are
    left out."""
    measuring = _Measuring(ctx, state)
    with trio.move_on_after(ROUND_S):
        async with trio.open_nursery() as nursery:
            for a, b in pairs:
                nursery.start_soon(measuring.measure, a, b)
    return tuple(measuring.found)


class _Measuring:
    def __init__(self, ctx: Context, state: DeploymentState) -> None:
        self.found: list[MeasuredPair] = []
        self._ctx = ctx
        self._bids: dict[PeerID, Bid] = {bid.peer: bid for bid in state.heard}
        edges = wishes_of(ctx.config).edges
        self._rtt_ms = math.ceil(max((edge.rtt_ms for edge in edges), default=0.0))
        self._bandwidth_kbps = math.ceil(max((e.bandwidth_bps for e in edges), default=0.0) / BITS_PER_KBIT)
        self._asked: Counter[PeerID] = Counter()
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._limits: dict[PeerID, trio.CapacityLimiter] = {}

    async def measure(self, a: PeerID, b: PeerID) -> None:
        """Ask one end; if that gives nothing, the other."""
        first, second = (a, b) if self._asked[a] <= self._asked[b] else (b, a)
        pair = await self._ask(first, second)
        if pair.rtt_ms is None or (self._bandwidth_kbps and pair.bandwidth_bps is None):
            other = await self._ask(second, first)
            pair = other if other.rtt_ms is not None else pair
        self.found.append(
            MeasuredPair(a=a, b=b, rtt_ms=pair.rtt_ms, bandwidth_bps=pair.bandwidth_bps, error=pair.error)
        )

    async def _ask(self, s: PeerID, t: PeerID) -> MeasuredPair:
        source, target = self._bids.get(s), self._bids.get(t)
        if source is None or target is None:
            return MeasuredPair(a=s, b=t, error="no bid is known of one of them")
        request = EdgeRequest(
            ensemble_id=self._ctx.ensemble,
            s=s,
            t=t,
            rtt_ms=self._rtt_ms,
            bandwidth_kbps=self._bandwidth_kbps,
            t_bid=target.proof,
        )
        timeout_s = BANDWIDTH_TIMEOUT_S if self._bandwidth_kbps else RTT_TIMEOUT_S
        self._asked[s] += 1
        async with self._limits.setdefault(s, trio.CapacityLimiter(AT_ONCE_PER_PEER)), self._limit:
            try:
                reply = await self._ctx.actor.invoke(source.handle, EDGE, request, EdgeReply, timeout_s=timeout_s)
            except DMSError as exc:
                return MeasuredPair(a=s, b=t, error=exc.message[:MAX_ERROR_CHARS])
        kbps = _sane(reply.bandwidth_kbps)
        return MeasuredPair(
            a=s,
            b=t,
            rtt_ms=_sane(reply.rtt_ms),
            bandwidth_bps=None if kbps is None else kbps * BITS_PER_KBIT,
            error="" if reply.ok else reply.error[:MAX_ERROR_CHARS],
        )


def _sane(value: float | None) -> float | None:
    """What comes from the network may be negative, endless or no number at all."""
    return value if value is not None and 0 <= value < math.inf else None
