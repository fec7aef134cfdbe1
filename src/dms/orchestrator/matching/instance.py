"""The problem made ready for a search: everything by index, sets of peers as bits.

Nodes that want the same and may live on the same peers are of one *kind*; what concerns a single node and a single
peer is worked out once per kind. Peers are numbered from the generally cheapest on, nodes by name, so that the order
in which they were given decides nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

from dms.orchestrator.matching.capacity import Demand, Room, demand_for
from dms.orchestrator.matching.distances import Distances, Relation, impostors
from dms.orchestrator.matching.measurements import Measurements
from dms.orchestrator.matching.problem import DEFAULT_WEIGHTS, Edge, Offer, Wanted, Weights
from dms.orchestrator.matching.ranking import node_points, spread_points
from dms.orchestrator.matching.rules import ALONE, Rule, broken_rules
from dms.types.ids import PeerID


class Problem:
    """A question to the matching. Of several offers of one peer, or nodes of one name, the last counts."""

    def __init__(
        self,
        wanted: Iterable[Wanted],
        offers: Iterable[Offer],
        edges: Iterable[Edge] = (),
        *,
        measurements: Measurements | None = None,
        weights: Weights = DEFAULT_WEIGHTS,
        excluded: AbstractSet[PeerID] = frozenset(),
    ) -> None:
        by_name = {w.node_id: w for w in wanted}
        self.wanted = tuple(by_name[name] for name in sorted(by_name))
        by_peer = {offer.peer: offer for offer in offers}
        self.offers = tuple(by_peer[peer] for peer in sorted(by_peer))
        self.edges = _merged(edges, by_name)
        self.measurements = measurements or Measurements()
        self.weights = weights
        self.excluded = excluded

    @cached_property
    def liars(self) -> frozenset[PeerID]:
        """The peers that are not where they say."""
        return impostors(self.offers, self.measurements)


@dataclass(slots=True)
class Kind:
    """Nodes that nothing but their edges tells apart. ``refused``: by which rule which peers are out of the question."""

    example: Wanted
    demand: Demand
    costs: list[int]
    bidders: int
    refused: dict[Rule, int]

    def domain(self, relaxed: Collection[Rule] = ()) -> int:
        """The peers that remain."""
        found = self.bidders
        for rule, mask in self.refused.items():
            if rule not in relaxed:
                found &= ~mask
        return found


class Catalogue:
    """All that is the same for every search over one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        groups: dict[Hashable, list[int]] = {}
        bidders: dict[str, set[int]] = {}
        for index, offer in enumerate(problem.offers):
            for name in offer.nodes:
                bidders.setdefault(name, set()).add(index)
        has_prices = any(offer.prices for offer in problem.offers)
        asked: dict[str, Hashable] = {
            name: (frozenset(who), name if has_prices else "") for name, who in bidders.items()
        }
        for index, w in enumerate(problem.wanted):
            terms = (w.resources, w.gpu_groups, w.pinned, w.location, w.within, w.prefers, w.max_price)
            groups.setdefault((asked.get(w.name), terms), []).append(index)
        examples = [problem.wanted[nodes[0]] for nodes in groups.values()]
        demands = [demand_for(w) for w in examples]
        costs = [
            [node_points(w, demand, offer, problem.weights) for offer in problem.offers]
            for w, demand in zip(examples, demands, strict=True)
        ]
        totals = [sum(column) for column in zip(*costs, strict=True)] or [0] * len(problem.offers)
        order = sorted(range(len(problem.offers)), key=lambda p: (totals[p], p))
        self.offers = tuple(problem.offers[p] for p in order)
        self.index_of = {offer.peer: p for p, offer in enumerate(self.offers)}
        self.everybody = (1 << len(self.offers)) - 1
        place = {old: new for new, old in enumerate(order)}
        self.kinds: list[Kind] = []
        self.kind_of = [0] * len(problem.wanted)
        for number, nodes in enumerate(groups.values()):
            w, row = examples[number], costs[number]
            who = [place[p] for p in sorted(bidders.get(w.name, ()))]
            self.kinds.append(self._kind(w, demands[number], [row[p] for p in order], who))
            for node in nodes:
                self.kind_of[node] = number
        self.room = Room([offer.free for offer in self.offers])
        self._distances: dict[bool, Distances] = {}

    def distances(self, *, is_trusting: bool) -> Distances:
        """Between the peers; see there what trusting means."""
        if is_trusting not in self._distances:
            self._distances[is_trusting] = Distances(
                self.offers,
                self.problem.measurements,
                self.problem.weights,
                is_trusting=is_trusting,
                liars=self.problem.liars,
            )
        return self._distances[is_trusting]

    def _kind(self, wanted: Wanted, demand: Demand, costs: list[int], who: Iterable[int]) -> Kind:
        bidders, refused = 0, dict.fromkeys(ALONE, 0)
        for p in who:
            bidders |= 1 << p
            for rule, _ in broken_rules(wanted, demand, self.offers[p], self.problem.excluded):
                refused[rule] |= 1 << p
        return Kind(wanted, demand, costs, bidders, {rule: mask for rule, mask in refused.items() if mask})


class Instance:
    """What one search works on: some nodes and edges of a catalogue, some rules left out.

    Nodes are renumbered from 0; ``names`` tells which they are. ``links`` has for each node the neighbours along edges,
    ``mates`` those that must live elsewhere, ``twin_before`` an interchangeable node that takes a peer first.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        nodes: Collection[int] | None = None,
        edges: Iterable[Edge] | None = None,
        relaxed: dict[int, Collection[Rule]] | None = None,
        is_trusting: bool = False,
        has_capacity: bool = True,
        has_apart: bool = True,
    ) -> None:
        problem = catalogue.problem
        self.catalogue = catalogue
        self.chosen = range(len(problem.wanted)) if nodes is None else sorted(nodes)
        self.distances = catalogue.distances(is_trusting=is_trusting)
        self.names = [problem.wanted[node].node_id for node in self.chosen]
        self.kind_of = [catalogue.kind_of[node] for node in self.chosen]
        self.kinds = catalogue.kinds
        relaxed = relaxed or {}
        plain = [kind.domain() for kind in self.kinds]
        self.domains = [
            self.kinds[kind].domain(relaxed[node]) if node in relaxed else plain[kind]
            for node, kind in zip(self.chosen, self.kind_of, strict=True)
        ]
        self.demands = [self.kinds[kind].demand for kind in self.kind_of]
        self.costs = [self.kinds[kind].costs for kind in self.kind_of]
        self.spread = spread_points(problem.weights)
        self.has_edge_costs = bool(problem.weights.edges)
        self.has_capacity = has_capacity
        self.links: list[list[tuple[int, Relation]]] = [[] for _ in self.names]
        self.edges: list[tuple[int, int, Edge]] = []
        self._add_edges(problem.edges if edges is None else edges)
        self.apart = [problem.wanted[node].apart if has_apart else "" for node in self.chosen]
        self.mates: list[list[int]] = [[] for _ in self.names]
        for group in _grouped(self.apart).values():
            for v in group:
                self.mates[v] = [u for u in group if u != v]
        self.twin_before, self.twin_after = self._chain_twins()

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return len(self.names)

    def room(self) -> Room:
        """An account of empty peers."""
        if self.has_capacity:
            return self.catalogue.room.copy()
        return Room.endless(len(self.catalogue.offers))

    def points(self, chosen: dict[int, int]) -> int:
        """The objective of an assignment, or of a part of one."""
        loads: dict[int, int] = {}
        total = 0
        for v, p in chosen.items():
            total += self.costs[v][p] + self.spread * loads.get(p, 0)
            loads[p] = loads.get(p, 0) + 1
        if self.has_edge_costs:
            for s, t, _ in self.edges:
                if s in chosen and t in chosen:
                    total += self.distances.points(chosen[s])[chosen[t]]
        return total

    def _add_edges(self, edges: Iterable[Edge]) -> None:
        place = {name: v for v, name in enumerate(self.names)}
        relations: dict[tuple[float, float], Relation] = {}
        for edge in edges:
            s, t = place.get(edge.s), place.get(edge.t)
            if s is None or t is None:
                continue
            bounds = (edge.rtt_ms, edge.bandwidth_bps)
            if bounds not in relations:
                relations[bounds] = Relation(self.distances, *bounds, self.catalogue.everybody)
            self.edges.append((s, t, edge))
            self.links[s].append((t, relations[bounds]))
            self.links[t].append((s, relations[bounds]))

    def _chain_twins(self) -> tuple[list[int], list[int]]:
        """Nodes with the same wishes and the same neighbours can swap peers: one order of them is enough."""
        before, after = [-1] * self.size, [-1] * self.size
        apart, together = self._twin_keys(is_closed=False), self._twin_keys(is_closed=True)
        groups = [twins for twins in apart.values() if len(twins) > 1]
        lonely = {twins[0] for twins in apart.values() if len(twins) == 1}
        groups += [[v for v in twins if v in lonely] for twins in together.values()]
        for twins in groups:
            for first, second in itertools.pairwise(twins):
                after[first], before[second] = second, first
        return before, after

    def _twin_keys(self, *, is_closed: bool) -> dict[Hashable, list[int]]:
        """Nodes by what they may be swapped over. Closed: they are neighbours of each other, all by one bound."""
        groups: dict[Hashable, list[int]] = {}
        for v, links in enumerate(self.links):
            bounds = {id(relation) for _, relation in links}
            if not links or (is_closed and len(bounds) > 1):
                continue
            around = {(u, id(relation)) for u, relation in links}
            if is_closed:
                around.update((v, bound) for bound in bounds)
            key = (self.kind_of[v], self.domains[v], self.apart[v], frozenset(around))
            groups.setdefault(key, []).append(v)
        return groups


def _grouped(labels: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for v, label in enumerate(labels):
        if label:
            found.setdefault(label, []).append(v)
    return found


def _merged(edges: Iterable[Edge], nodes: Collection[str]) -> tuple[Edge, ...]:
    """One edge per pair, with the stricter bounds; those of nodes that are not asked for are left out."""
    found: dict[tuple[str, str], Edge] = {}
    for edge in edges:
        if edge.s == edge.t or edge.s not in nodes or edge.t not in nodes:
            continue
        s, t = min(edge.s, edge.t), max(edge.s, edge.t)
        known = found.get((s, t))
        rtts = [e.rtt_ms for e in (edge, known) if e is not None and e.rtt_ms]
        bandwidth = max(edge.bandwidth_bps, known.bandwidth_bps if known else 0.0)
        found[s, t] = Edge(s, t, min(rtts, default=0.0), bandwidth)
    return tuple(found[pair] for pair in sorted(found))
