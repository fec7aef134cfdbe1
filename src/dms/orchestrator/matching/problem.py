"""What the matching is asked: nodes, the peers that offered, edges, what counts (``spec/orchestration.md`` 5.3, 12.1).

Everything here is a plain value. A *node* is one of the ensemble's, a *peer* a machine that bid for some of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dms.ensemble.config import LocationConstraints
from dms.network.coordinates import Coordinate
from dms.types.ids import PeerID
from dms.types.places import Place
from dms.types.resources import GPU, Location, Resources


@dataclass(frozen=True, slots=True)
class Circle:
    """All places within ``radius_km`` of one."""

    centre: Place
    radius_km: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one ensemble node needs.

    ``asked_as`` is the name under which bids were asked for it, its own unless many equal nodes share one. A pinned node
    takes its peer wherever that is. Nodes with the same ``apart`` live on different peers: a node and its standbys.
    ``prefers`` lists places that would be nicer; ``max_price`` is the most that one such node may cost.
    ``currencies``: those in which it may be paid, the preferred one first.
    ``gpu_groups``: the GPUs in ``resources`` by allocation, where the node has several that want some.
    """

    node_id: str
    resources: Resources
    pinned: PeerID | None = None
    asked_as: str = ""
    location: LocationConstraints | None = None
    within: Circle | None = None
    prefers: tuple[Location, ...] = ()
    apart: str = ""
    max_price: float | None = None
    currencies: tuple[str, ...] = ()
    gpu_groups: tuple[tuple[GPU, ...], ...] = ()

    @property
    def name(self) -> str:
        """The name that bids for it carry."""
        return self.asked_as or self.node_id


@dataclass(frozen=True, slots=True)
class Edge:
    """A bound on the connection of two nodes: round trip at most, bandwidth at least; 0 is no bound.

    Two nodes on the same peer satisfy any edge.
    """

    s: str
    t: str
    rtt_ms: float = 0.0
    bandwidth_bps: float = 0.0

    def __str__(self) -> str:
        bounds = [f"at most {self.rtt_ms:g} ms"] if self.rtt_ms else []
        if self.bandwidth_bps:
            bounds.append(f"at least {self.bandwidth_bps:g} bit/s")
        return f"edge {self.s}–{self.t} ({', '.join(bounds) or 'no bound'})"


@dataclass(frozen=True, slots=True)
class Offer:
    """All that one peer offered: for which nodes, and what it has free for all of them together.

    ``free`` is ``None`` when the peer did not say; then it hosts one node. ``prices`` by the name of the node, ``price``
    for all others, all in one currency. ``latency_ms`` is the round trip to whoever deploys, ``reliability`` the share of
    past work that went well, from 0 to 1. ``doubt`` says why what it says of its place cannot be true.
    """

    peer: PeerID
    nodes: frozenset[str]
    free: Resources | None = None
    location: Location = field(default_factory=Location)
    place: Place | None = None
    coordinate: Coordinate | None = None
    price: float = 0.0
    prices: Mapping[str, float] = field(default_factory=dict)
    latency_ms: float | None = None
    reliability: float = 1.0
    doubt: str = ""

    def price_of(self, name: str) -> float:
        """What it asks for hosting this node."""
        return self.prices.get(name, self.price)


@dataclass(frozen=True, slots=True)
class Weights:
    """What makes an assignment good: one unit of badness is the price of each of the following, times its weight.

    ``latency``: 100 ms of round trip to whoever deploys. ``edges``: 100 ms of round trip along an edge. ``price``: one
    unit of currency. ``reliability``: all past work failed. ``capacity``: a node takes all that its peer has free.
    ``preference``: a place that is not preferred. ``spread``: each node that the peer hosts already.
    """

    latency: float = 1.0
    edges: float = 1.0
    price: float = 1.0
    reliability: float = 1.0
    capacity: float = 1.0
    preference: float = 1.0
    spread: float = 1.0


DEFAULT_WEIGHTS = Weights()
