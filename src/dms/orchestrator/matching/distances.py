"""Which pairs of peers may serve an edge, and what the edge costs there (``spec/orchestration.md`` 1.3, 12.1).

What is measured decides. Otherwise light decides what is impossible: no round trip is shorter than light takes over the
distance, from the nearest point of the one place to that of the other. Whoever was measured nearer to others than light
allows is not where it says: its place counts for nothing (:func:`impostors`).

Coordinates in the space of latencies are a guess: a *trusting* search takes them for bounds, with what they may be wrong
by taken off, which spares measurements, and only a search that does not may conclude that there is no assignment. Pairs of
which nothing is known are possible.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from operator import or_

from dms.orchestrator.matching.measurements import Measurements
from dms.orchestrator.matching.problem import Edge, Offer, Weights
from dms.orchestrator.matching.ranking import edge_points
from dms.types.ids import PeerID
from dms.types.places import EARTH_RADIUS_KM, LIGHT_KM_PER_S

UNKNOWN_RTT_MS = 100.0
"""What an edge counts for in the ranking while nothing is known."""
UNMEASURED_MS = 100.0
"""What it counts for beside, as long as it was not measured: known good pairs come first, and few are measured."""

_MS_PER_KM = 2000.0 / LIGHT_KM_PER_S
"""There and back."""

TABLE_BYTES = 1 << 26
"""What the tables behind the bounds may take; beyond it they are coarser."""


_Direction = tuple[float, float, float]
_Placed = tuple[PeerID, _Direction, float]


class Distances:
    """Round trips and bandwidths between peers, by index; rows are made when they are first asked for."""

    def __init__(
        self,
        offers: Sequence[Offer],
        measurements: Measurements,
        weights: Weights,
        *,
        is_trusting: bool,
        liars: AbstractSet[PeerID] | None = None,
        table_bytes: int = TABLE_BYTES,
    ) -> None:
        self._offers = offers
        self._measurements = measurements
        self._weights = weights
        self._is_trusting = is_trusting
        self._ids = [offer.peer for offer in offers]
        if liars is None:
            liars = impostors(offers, measurements)
        self._directions = [
            offer.place.direction() if offer.place and offer.peer not in liars else None for offer in offers
        ]
        self._radii_km = [offer.place.radius_km if offer.place else 0.0 for offer in offers]
        self._has_guesses = any(offer.place or offer.coordinate for offer in offers)
        count = len(offers)
        self._stride = max(1, count**3 // (8 * table_bytes))
        self._sorted: list[tuple[list[float], list[int], list[int]] | None] = [None] * count
        self._points: list[list[int] | None] = [None] * count

    def mask(self, peer: int, rtt_ms: float) -> int:
        """The peers whose round trip to ``peer`` keeps the bound, for all that is known; itself among them."""
        values, order, unions = self._sorted[peer] or self._sort(peer)
        count = bisect_right(values, rtt_ms)
        whole = count // self._stride
        found = unions[whole - 1] if whole else 0
        for other in order[whole * self._stride : count]:
            found |= 1 << other
        return found | 1 << peer

    def slow(self, peer: int, bandwidth_bps: float) -> int:
        """The peers to which less was measured."""
        row = self._measurements.bandwidths_of(self._ids[peer])
        if not row:
            return 0
        return sum(
            1 << q for q, other in enumerate(self._ids) if q != peer and other in row and row[other] < bandwidth_bps
        )

    def points(self, peer: int) -> list[int]:
        """What an edge from ``peer`` to each peer costs."""
        known = self._points[peer]
        if known is None:
            row = self._measurements.rtts_of(self._ids[peer])
            values = list(map(row.get, self._ids))
            known = [
                edge_points(self._weights, UNMEASURED_MS + self._guess(peer, q) if value is None else value)
                for q, value in enumerate(values)
            ]
            known[peer] = 0
            self._points[peer] = known
        return known

    def lacks(self, p: int, q: int, edge: Edge) -> bool:
        """Whether the edge cannot be judged between these two before something is measured."""
        if p == q:
            return False
        a, b = self._ids[p], self._ids[q]
        if edge.rtt_ms and self._measurements.rtt_ms(a, b) is None:
            return True
        return bool(edge.bandwidth_bps) and self._measurements.bandwidth_bps(a, b) is None

    def breach(self, p: int, q: int, edge: Edge) -> str:
        """Why the edge cannot lie between these two, with figures; empty if it can."""
        if p == q:
            return ""
        a, b = self._ids[p], self._ids[q]
        rtt_ms = self._measurements.rtt_ms(a, b)
        if edge.rtt_ms:
            if rtt_ms is not None and rtt_ms > edge.rtt_ms:
                return f"{rtt_ms:g} ms measured, at most {edge.rtt_ms:g} wanted"
            light_ms = self._light_ms(p, q)
            if rtt_ms is None and light_ms > edge.rtt_ms:
                distance = f"the {light_ms / _MS_PER_KM:.0f} km there and back"
                return f"light takes {light_ms:.1f} ms for {distance}, at most {edge.rtt_ms:g} wanted"
        bandwidth_bps = self._measurements.bandwidth_bps(a, b)
        if edge.bandwidth_bps and bandwidth_bps is not None and bandwidth_bps < edge.bandwidth_bps:
            return f"{bandwidth_bps:g} bit/s measured, at least {edge.bandwidth_bps:g} wanted"
        return ""

    def _sort(self, peer: int) -> tuple[list[float], list[int], list[int]]:
        row = self._measurements.rtts_of(self._ids[peer])
        values = [self._bound(peer, q) if value is None else value for q, value in enumerate(map(row.get, self._ids))]
        order = sorted(range(len(values)), key=values.__getitem__)
        unions = list(accumulate((1 << q for q in order), or_))[self._stride - 1 :: self._stride]
        made = (sorted(values), order, unions)
        self._sorted[peer] = made
        return made

    def _bound(self, p: int, q: int) -> float:
        if not self._has_guesses or p == q:
            return 0.0
        light_ms = self._light_ms(p, q)
        here, there = self._offers[p].coordinate, self._offers[q].coordinate
        if not self._is_trusting or here is None or there is None or len(here.vector) != len(there.vector):
            return light_ms
        return max(here.least_ms(there), light_ms)

    def _guess(self, p: int, q: int) -> float:
        if not self._has_guesses:
            return UNKNOWN_RTT_MS
        light_ms = self._light_ms(p, q)
        here, there = self._offers[p].coordinate, self._offers[q].coordinate
        if here is None or there is None or len(here.vector) != len(there.vector):
            return max(UNKNOWN_RTT_MS, light_ms)
        return max(here.estimate_ms(there), light_ms)

    def _light_ms(self, p: int, q: int) -> float:
        a, b = self._directions[p], self._directions[q]
        if a is None or b is None:
            return 0.0
        return max(0.0, _angle(a, b) * EARTH_RADIUS_KM - self._radii_km[p] - self._radii_km[q]) * _MS_PER_KM


def impostors(offers: Sequence[Offer], measurements: Measurements) -> frozenset[PeerID]:
    """The peers that are not where they say: measured nearer to others than light allows between the two places.

    One of two must be; who contradicts more others is, and both where that does not tell.
    """
    placed = [
        (offer.peer, offer.place.direction(), offer.place.radius_km) for offer in offers if offer.place is not None
    ]
    against: dict[PeerID, set[PeerID]] = {}
    for (a, here, near_km), (b, there, far_km) in _measured_pairs(placed, measurements):
        rtt_ms = measurements.rtts_of(a)[b]
        light_km = _angle(here, there) * EARTH_RADIUS_KM - near_km - far_km
        if rtt_ms < light_km * _MS_PER_KM:
            against.setdefault(a, set()).add(b)
            against.setdefault(b, set()).add(a)
    found: set[PeerID] = set()
    while worst := max(map(len, against.values()), default=0):
        blamed = {peer for peer, others in against.items() if len(others) == worst}
        found |= blamed
        against = {peer: others - blamed for peer, others in against.items() if peer not in blamed}
    return frozenset(found)


def _measured_pairs(placed: Sequence[_Placed], measurements: Measurements) -> Iterator[tuple[_Placed, _Placed]]:
    by_peer = {each[0]: each for each in placed}
    for each in placed:
        for other in measurements.rtts_of(each[0]):
            if each[0] < other and other in by_peer:
                yield each, by_peer[other]


def _angle(a: _Direction, b: _Direction) -> float:
    return math.acos(max(-1.0, min(1.0, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])))


class Relation(dict[int, int]):
    """The pairs of peers that keep one edge's bounds: for each peer all that may serve the other end. Symmetric.

    Rows are made when they are first asked for.
    """

    def __init__(self, distances: Distances, rtt_ms: float, bandwidth_bps: float, everybody: int) -> None:
        super().__init__()
        self._distances = distances
        self._rtt_ms = rtt_ms
        self._bandwidth_bps = bandwidth_bps
        self._everybody = everybody

    def __missing__(self, peer: int) -> int:
        found = self._distances.mask(peer, self._rtt_ms) if self._rtt_ms else self._everybody
        if self._bandwidth_bps:
            found &= ~self._distances.slow(peer, self._bandwidth_bps)
        self[peer] = found
        return found
