"""Why not there: for any node and any peer that was heard from, the rule that kept them from each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dms.orchestrator.matching.capacity import Room, demand_for
from dms.orchestrator.matching.distances import Distances
from dms.orchestrator.matching.instance import Problem
from dms.orchestrator.matching.problem import Edge, Offer, Wanted
from dms.orchestrator.matching.ranking import POINTS, node_points, spread_points
from dms.orchestrator.matching.rules import Refusal, Rule, broken_rules
from dms.types.ids import PeerID


class Reasons:
    """Answers about one problem and, if there is one, its assignment."""

    def __init__(self, problem: Problem, assignment: Mapping[str, PeerID] | None = None) -> None:
        self._problem = problem
        self._assignment = dict(assignment or {})
        self._wanted = {w.node_id: w for w in problem.wanted}
        self._index = {offer.peer: p for p, offer in enumerate(problem.offers)}
        self._distances = Distances(
            problem.offers, problem.measurements, problem.weights, is_trusting=False, liars=problem.liars
        )

    def why_not(self, node_id: str, peer: PeerID) -> tuple[Refusal, ...]:
        """All that keeps the node from the peer; empty if it is there, or would be without the ranking.

        What concerns the two alone comes first. With an assignment also what the other nodes leave: room, edges,
        living apart; if none of that either, how much worse it would be.
        """
        wanted = self._wanted[node_id]
        place = self._index.get(peer)
        if place is None:
            return (Refusal(node_id, peer, Rule.NO_BID, "nothing was heard of the peer"),)
        if self._assignment.get(node_id) == peer:
            return ()
        offer = self._problem.offers[place]
        alone = broken_rules(wanted, demand_for(wanted), offer, self._problem.excluded)
        found = [Refusal(node_id, peer, rule, detail) for rule, detail in alone]
        if not found:
            found = [Refusal(node_id, peer, rule, detail) for rule, detail in self._among_others(wanted, place)]
        return tuple(found)

    def table(self, node_id: str) -> Iterator[Refusal]:
        """For every peer heard from that does not host the node, the first reason."""
        for offer in self._problem.offers:
            if refusals := self.why_not(node_id, offer.peer):
                yield refusals[0]

    def _among_others(self, wanted: Wanted, place: int) -> Iterator[tuple[Rule, str]]:
        reasons = [*self._edges(wanted, place), *self._apart(wanted, place), *self._room(wanted, place)]
        yield from reasons
        if not reasons and wanted.node_id in self._assignment:
            yield from self._rank(wanted, place)

    def _edges(self, wanted: Wanted, place: int) -> Iterator[tuple[Rule, str]]:
        for edge, other in self._edges_of(wanted.node_id):
            where = self._assignment.get(other)
            if where is not None:
                breach = self._distances.breach(place, self._index[where], edge)
                if breach:
                    yield Rule.EDGE, f"{edge} to {where}, where {other} is: {breach}"
                continue
            partners = [p for p, offer in enumerate(self._problem.offers) if self._may_host(other, offer)]
            if partners and all(self._distances.breach(place, p, edge) for p in partners):
                near = min(partners, key=lambda p: self._distances.points(place)[p])
                why = f"of {self._problem.offers[near].peer} {self._distances.breach(place, near, edge)}"
                yield Rule.EDGE, f"{edge}: no peer that may host {other} is near enough; {why}"

    def _apart(self, wanted: Wanted, place: int) -> Iterator[tuple[Rule, str]]:
        for other in self._on(place, wanted):
            if wanted.apart and self._wanted[other].apart == wanted.apart:
                yield Rule.APART, f"the peer hosts {other}, which must be elsewhere"

    def _room(self, wanted: Wanted, place: int) -> Iterator[tuple[Rule, str]]:
        room, beside = Room([self._problem.offers[place].free]), self._on(place, wanted)
        for other in beside:
            room.take(0, demand_for(self._wanted[other]))
        if not room.fits(0, demand_for(wanted)):
            yield Rule.CAPACITY, f"the peer is full with {', '.join(beside)}"

    def _rank(self, wanted: Wanted, place: int) -> Iterator[tuple[Rule, str]]:
        there, here = self._points(wanted, place), self._points(wanted, self._index[self._assignment[wanted.node_id]])
        if there > here:
            detail = f"{self._assignment[wanted.node_id]} is better by {(there - here) / POINTS:g}"
        else:
            detail = "all nodes together are placed no worse without it"
        yield Rule.RANK, detail

    def _points(self, wanted: Wanted, place: int) -> int:
        weights = self._problem.weights
        points = node_points(wanted, demand_for(wanted), self._problem.offers[place], weights)
        points += spread_points(weights) * len(self._on(place, wanted))
        if weights.edges:
            for _, other in self._edges_of(wanted.node_id):
                if other in self._assignment:
                    points += self._distances.points(place)[self._index[self._assignment[other]]]
        return points

    def _on(self, place: int, wanted: Wanted) -> list[str]:
        peer = self._problem.offers[place].peer
        return [node for node, where in self._assignment.items() if where == peer and node != wanted.node_id]

    def _edges_of(self, node_id: str) -> Iterator[tuple[Edge, str]]:
        for edge in self._problem.edges:
            if node_id in (edge.s, edge.t):
                yield edge, edge.t if edge.s == node_id else edge.s

    def _may_host(self, node_id: str, offer: Offer) -> bool:
        wanted = self._wanted[node_id]
        return not any(broken_rules(wanted, demand_for(wanted), offer, self._problem.excluded))
