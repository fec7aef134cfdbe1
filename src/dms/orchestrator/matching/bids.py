"""The matching over bids as they come: what :mod:`dms.orchestrator.lifecycle.machine` asks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from dms.orchestrator.bidding.bid import Bid, asked_price
from dms.orchestrator.bidding.whereabouts import US_PER_MS, coordinate_of_bid, place_of_bid
from dms.orchestrator.matching.capacity import demand_for, shortage
from dms.orchestrator.matching.instance import Problem
from dms.orchestrator.matching.measurements import Measurements
from dms.orchestrator.matching.outcome import Conflict, Infeasible, Undecided
from dms.orchestrator.matching.problem import DEFAULT_WEIGHTS, Edge, Offer, Wanted, Weights
from dms.orchestrator.matching.solve import solve
from dms.resources.arithmetic import check, covers
from dms.resources.errors import InvalidResources
from dms.types.ids import PeerID
from dms.types.resources import Resources


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Why there is no assignment: nodes without any usable bid, or those whose bids cannot be reconciled.

    ``conflict`` has the proof, if there is one; without it the search was given up.
    """

    without_bids: tuple[str, ...] = ()
    contended: tuple[str, ...] = ()
    conflict: Conflict | None = None

    def __str__(self) -> str:
        if self.without_bids:
            return f"no bids for {', '.join(self.without_bids)}"
        if self.conflict is not None:
            return str(self.conflict)
        return f"no placement of {', '.join(self.contended)} was found in time, and none excluded"


def offers_of(wanted: Iterable[Wanted], bids: Iterable[Bid]) -> tuple[Offer, ...]:
    """One offer per peer: for the nodes that its newest bids name and that it could hold alone.

    Bids whose amounts are no amounts are not looked at.

    What it has free is the least that its bids say; a peer that does not say hosts one node. Prices are those in one
    currency (:func:`ranking_currency`); what is asked in others counts as much as the dearest of these, as numbers of
    different currencies cannot be compared.
    """
    wanted, bids = tuple(wanted), tuple(bids)
    nodes = {w.name: w for w in wanted}
    newest: dict[PeerID, dict[str, Bid]] = {}
    for bid in bids:
        w = nodes.get(bid.node_id)
        if w is None or (w.pinned and bid.peer != w.pinned):
            continue
        if bid.free is None or (_is_sound(bid.free) and not shortage(bid.free, demand_for(w))):
            newest.setdefault(bid.peer, {})[bid.node_id] = bid
    currency = ranking_currency(wanted, bids)
    asked = [price for mine in newest.values() for bid in mine.values() if (price := asked_price(bid, currency))]
    dearest = max(filter(math.isfinite, asked), default=0.0)
    return tuple(_offer(peer, mine, currency, dearest) for peer, mine in newest.items())


def ranking_currency(wanted: Iterable[Wanted], bids: Iterable[Bid]) -> str:
    """The one in which prices are compared: the first that the ensemble names and somebody asks for, else the one that most
    peers ask for; nothing when nobody asks for anything."""
    asked = Counter(currency for _, currency in {(b.peer, p.currency) for b in bids for p in b.prices})
    named = (currency for w in wanted for currency in w.currencies)
    first = next((currency for currency in named if currency in asked), "")
    return first or min(asked, key=lambda currency: (-asked[currency], currency), default="")


def match(
    wanted: Iterable[Wanted],
    bids: Iterable[Bid],
    edges: Iterable[Edge] = (),
    *,
    measurements: Measurements | None = None,
    weights: Weights = DEFAULT_WEIGHTS,
    excluded: AbstractSet[PeerID] = frozenset(),
    work: int | None = None,
    explains: bool = True,
) -> Mapping[str, Bid] | Unmatched:
    """One bid for every node, or why not. Edges that were not measured count as kept: :func:`solve` tells which."""
    nodes, heard = tuple(wanted), tuple(bids)
    offers = offers_of(nodes, heard)
    asked = {name for offer in offers for name in offer.nodes}
    silent = tuple(w.node_id for w in nodes if w.name not in asked)
    if silent:
        return Unmatched(without_bids=silent)
    problem = Problem(nodes, offers, edges, measurements=measurements, weights=weights, excluded=excluded)
    outcome = solve(problem, work=work, explains=explains)
    if isinstance(outcome, Infeasible):
        return Unmatched(contended=outcome.conflict.nodes, conflict=outcome.conflict)
    if isinstance(outcome, Undecided):
        return Unmatched(contended=tuple(w.node_id for w in nodes))
    by_pair = {(bid.node_id, bid.peer): bid for bid in heard}
    return {w.node_id: by_pair[w.name, outcome.assignment[w.node_id]] for w in nodes}


def _is_sound(resources: Resources) -> bool:
    try:
        check(resources)
    except InvalidResources:
        return False
    return True


def _offer(peer: PeerID, bids: Mapping[str, Bid], currency: str, dearest: float) -> Offer:
    free = None
    for bid in bids.values():
        if bid.free is not None and (free is None or covers(free, bid.free)):
            free = bid.free
    some = next(iter(bids.values()))
    asked = {name: asked_price(bid, currency) for name, bid in bids.items() if bid.prices}
    prices = {name: dearest if price is None else price for name, price in asked.items()}
    return Offer(
        peer=peer,
        nodes=frozenset(bids),
        free=free,
        location=some.location,
        prices=prices,
        place=None if some.doubt else place_of_bid(some),
        coordinate=coordinate_of_bid(some),
        latency_ms=some.latency_us / US_PER_MS if some.latency_us else None,
        doubt=some.doubt,
    )
