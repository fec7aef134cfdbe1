"""How bad it is to place a node on a peer, in whole points, so that sums are exact and the same everywhere.

The objective of an assignment is the sum of :func:`node_points` over its nodes, of :func:`edge_points` over its edges,
and, for each peer that hosts ``k`` nodes, ``k (k - 1) / 2`` times :func:`spread_points`. Lower is better.
"""

from __future__ import annotations

from dms.ensemble.config import LocationConstraints
from dms.ensemble.requirements import location_matches
from dms.orchestrator.matching.capacity import Demand, demand_of
from dms.orchestrator.matching.problem import Offer, Wanted, Weights

POINTS = 1000
"""Of one unit of badness."""

WORST = 1e6
"""No latency in milliseconds and no price counts for more."""

UNKNOWN_LATENCY_MS = 100.0
"""A peer of unknown latency counts as a middling one, so that it pays neither to hide nor to tell."""


def node_points(wanted: Wanted, demand: Demand, offer: Offer, weights: Weights) -> int:
    """What this node costs on this peer."""
    latency_ms = UNKNOWN_LATENCY_MS if offer.latency_ms is None else _sane(offer.latency_ms)
    bad = weights.latency * latency_ms / 100 + weights.price * _sane(offer.price_of(wanted.name))
    bad += weights.reliability * min(1.0, _sane(1 - offer.reliability))
    if weights.capacity:
        bad += weights.capacity * _share(offer, demand)
    if wanted.prefers and not location_matches(LocationConstraints(accept=wanted.prefers), offer.location):
        bad += weights.preference
    return max(0, round(bad * POINTS))


def edge_points(weights: Weights, rtt_ms: float) -> int:
    """What an edge costs that has this round trip."""
    return round(weights.edges * _sane(rtt_ms) * (POINTS / 100))


def spread_points(weights: Weights) -> int:
    """What each further node on the same peer costs more than the one before."""
    return round(weights.spread * POINTS)


def _sane(value: float) -> float:
    """What comes from the network may be negative, endless or no number at all: then it is as bad as can be."""
    return value if 0 <= value <= WORST else WORST


def _share(offer: Offer, demand: Demand) -> float:
    """How much of what the peer has free the node takes: of the scarcest resource, from 0 to 1."""
    if offer.free is None:
        return 1.0
    pairs = zip(demand_of(offer.free).amounts, demand.amounts, strict=True)
    return max((want / have for have, want in pairs if want and have), default=0.0)
