"""From bids to an assignment, with all that the ensemble says: the step between *Preparing* and *Committing*, pure.

Edges are measured only where it matters: the matching names the pairs of peers that its best assignment rests on, they
are measured, and it is asked again (``spec/orchestration.md`` 5.3, 12.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.measured import MeasuredPair
from dms.orchestrator.bidding.wishes import Wishes
from dms.orchestrator.matching import (
    Infeasible,
    Measurements,
    Problem,
    Undecided,
    Unmatched,
    Unmeasured,
    offers_of,
    solve,
)
from dms.types.ids import PeerID

UNREACHABLE_RTT_MS = 1e9
"""Of a pair that could not be measured: no edge holds there."""


@dataclass(frozen=True, slots=True)
class Measure:
    """These pairs of peers must be measured first."""

    pairs: tuple[tuple[PeerID, PeerID], ...]


Assignment = Mapping[str, Bid] | Unmatched | Measure
"""One bid for every node, or why not yet."""


def assign(
    wishes: Wishes,
    bids: Iterable[Bid],
    measured: Iterable[MeasuredPair] = (),
    *,
    work: int | None = None,
) -> Assignment:
    """The best assignment known. With ``work`` it only matters whether there is one."""
    heard = tuple(bids)
    offers = offers_of(wishes.wanted, heard)
    asked = {name for offer in offers for name in offer.nodes}
    silent = tuple(w.node_id for w in wishes.wanted if w.name not in asked)
    if silent:
        return Unmatched(without_bids=silent)
    problem = Problem(wishes.wanted, offers, wishes.edges, measurements=measurements_of(measured))
    outcome = solve(problem, work=work, explains=work is None)
    if isinstance(outcome, Infeasible):
        return Unmatched(contended=outcome.conflict.nodes, conflict=outcome.conflict)
    if isinstance(outcome, Undecided):
        return Unmatched(contended=tuple(w.node_id for w in wishes.wanted))
    if isinstance(outcome, Unmeasured):
        return Measure(outcome.pairs)
    by_pair = {(bid.node_id, bid.peer): msgspec.structs.replace(bid, proof=b"") for bid in heard}
    return {w.node_id: by_pair[w.name, outcome.assignment[w.node_id]] for w in wishes.wanted}


def measurements_of(measured: Iterable[MeasuredPair]) -> Measurements:
    """For the matching. What could not be measured is as bad as can be."""
    known = Measurements()
    for pair in measured:
        known.record(
            pair.a,
            pair.b,
            rtt_ms=UNREACHABLE_RTT_MS if pair.rtt_ms is None else pair.rtt_ms,
            bandwidth_bps=pair.bandwidth_bps or 0.0,
        )
    return known
