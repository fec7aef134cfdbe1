"""Why not? For every node of an ensemble and every peer that was heard from, the rule that kept them apart; and for all
together one sentence, with what would mend it. Pure: bids, measurements and what was heard in, a report out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.bidding.assignment import measurements_of
from dms.orchestrator.bidding.bid import Bid, asked_price
from dms.orchestrator.bidding.heard import ANY_NODE, Heard
from dms.orchestrator.bidding.measured import MeasuredPair
from dms.orchestrator.bidding.wishes import wishes_of
from dms.orchestrator.explaining.report import NodeReasons, PeerReason, Report
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.orchestrator.matching import (
    Conflict,
    Infeasible,
    Offer,
    Placed,
    Problem,
    Reasons,
    Rule,
    Undecided,
    Unmeasured,
    Wanted,
    offers_of,
    ranking_currency,
    solve,
)
from dms.orchestrator.matching.capacity import demand_for, shortage
from dms.types.ids import PeerID

PLACING = (Phase.PREPARING, Phase.GENERATING)
"""Phases in which peers are looked for."""
MAX_NODES = 50
MAX_PEERS = 20
"""Of each node."""
MAX_SINGLE = 200
"""Nodes; of more than this only one of each kind is looked at, even where they are placed."""
MAX_MENDS = 10
MAX_EXPLAINED = 2_000
"""Nodes; what is larger is not solved anew if it is known already that there is no place."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known when it is asked."""

    bids: tuple[Bid, ...] = ()
    measured: tuple[MeasuredPair, ...] = ()
    heard: Heard = field(default_factory=Heard)
    excluded: AbstractSet[PeerID] = frozenset()


def explain(
    config: EnsembleConfig, evidence: Evidence, *, assignment: Mapping[str, PeerID] | None = None, summary: str = ""
) -> Report:
    """Why the nodes are where they are (``assignment``) or would be, or why they can be nowhere.

    ``summary`` is told where there is nothing better to say.
    """
    if assignment is None:
        return place(config, evidence, summary=summary)[0]
    problem = _problem(config, evidence)
    peers = {offer.peer for offer in problem.offers}
    known = {node: peer for node, peer in assignment.items() if peer in peers}
    rows = _Rows(config, problem, evidence, known)
    return rows.report(Report(summary=summary or "every node has a peer", is_placed=True))


def explain_state(config: EnsembleConfig, state: DeploymentState, evidence: Evidence) -> Report:
    """The same about a deployment. ``evidence`` need not have the bids that were chosen: the state has."""
    asked = {w.node_id: w.name for w in wishes_of(config).wanted}
    chosen = {node: bid for node, bid in state.assignment.items() if node in asked}
    own = [msgspec.structs.replace(bid, node_id=asked[node]) for node, bid in chosen.items()]
    assignment = {node: bid.peer for node, bid in chosen.items()}
    known = Evidence(
        bids=(*evidence.bids, *own),
        measured=state.measured,
        heard=evidence.heard,
        excluded=frozenset({*config.v1.exclude_peers, *state.excluded} - set(assignment.values())),
    )
    if not assignment:
        return explain(config, known, summary=state.error)
    return explain(config, known, assignment=assignment)


def place(config: EnsembleConfig, evidence: Evidence, *, summary: str = "") -> tuple[Report, Mapping[str, PeerID]]:
    """The best assignment, empty if there is none, and the report about it."""
    problem = _problem(config, evidence)
    silent = _silent(problem.wanted, problem.offers)
    if silent:
        rows = _Rows(config, problem, evidence, {})
        mends = tuple(rows.mends_without_bids(silent))[:MAX_MENDS]
        return rows.report(Report(summary=f"no bids for {_names(silent)}", mends=mends)), {}
    if len(problem.wanted) > MAX_EXPLAINED and summary:
        return _Rows(config, problem, evidence, {}).report(Report(summary=summary)), {}
    outcome = solve(problem)
    match outcome:
        case Placed(assignment=found):
            begun = Report(summary="there is a place for every node", is_placed=True)
        case Unmeasured(pairs=pairs, assignment=found):
            text = f"there is a place for every node if {len(pairs)} connections between peers prove good enough"
            begun = Report(summary=text, is_placed=True, unmeasured=len(pairs))
        case Infeasible(conflict=conflict):
            rows = _Rows(config, problem, evidence, {})
            mends = tuple(rows.mends(conflict))[:MAX_MENDS]
            return rows.report(Report(summary=str(conflict), is_proven=True, mends=mends)), {}
        case Undecided():
            return _Rows(config, problem, evidence, {}).report(Report(summary=str(outcome))), {}
    return _Rows(config, problem, evidence, found).report(begun), found


def _problem(config: EnsembleConfig, evidence: Evidence) -> Problem:
    wishes = wishes_of(config)
    return Problem(
        wishes.wanted,
        offers_of(wishes.wanted, evidence.bids),
        wishes.edges,
        measurements=measurements_of(evidence.measured),
        excluded=evidence.excluded,
    )


class _Rows:
    """The reasons of one problem, kind by kind or, with an assignment, node by node."""

    def __init__(
        self, config: EnsembleConfig, problem: Problem, evidence: Evidence, assignment: Mapping[str, PeerID]
    ) -> None:
        self._kinds = wishes_of(config).kinds
        self._problem = problem
        self._evidence = evidence
        self._assignment = assignment
        self._reasons = Reasons(problem, assignment)
        self._offers = {offer.peer: offer for offer in problem.offers}

    def report(self, begun: Report) -> Report:
        """What was begun, with a row for every node."""
        if self._assignment and len(self._problem.wanted) <= MAX_SINGLE:
            named = [(w, 1) for w in self._problem.wanted]
        else:
            by_name = {w.node_id: w for w in self._problem.wanted}
            named = [(by_name[kind.name], len(kind.nodes)) for kind in self._kinds.values()]
        rows = [self._row(wanted, count) for wanted, count in named[:MAX_NODES]]
        currency = ranking_currency(self._problem.wanted, self._evidence.bids)
        others = {bid.peer for bid in self._evidence.bids if asked_price(bid, currency) is None}
        others -= {bid.peer for bid in self._evidence.bids if asked_price(bid, currency) is not None}
        return msgspec.structs.replace(
            begun,
            nodes=tuple(rows),
            more_nodes=sum(count for _, count in named[MAX_NODES:]),
            peers=tuple(self._evidence.heard.about(ANY_NODE).values())[:MAX_PEERS],
            currency=currency,
            uncompared=tuple(sorted(others))[:MAX_PEERS],
        )

    def mends_without_bids(self, silent: Iterable[str]) -> Iterator[str]:
        """What whoever did not bid said, the most frequent first."""
        wanted = {w.node_id: w for w in self._problem.wanted}
        for node in dict.fromkeys(wanted[name].name for name in silent):
            said = Counter((r.rule, r.hint) for r in self._told(wanted[node]).values())
            for (rule, hint), times in said.most_common(3):
                if hint:
                    yield f"{node}: {hint} ({rule}, {times} peer{'s' * (times > 1)})"
            if said:
                continue
            if wanted[node].pinned:
                yield f"{node}: see that {wanted[node].pinned} is up and lets you deploy, or leave peer out"
            else:
                yield f"{node}: nobody answered; nunet peers shows who is connected, nunet cap explain who lets you deploy"

    def mends(self, conflict: Conflict) -> Iterator[str]:
        """What of a conflict can be changed, one thing a line; if it is minimal any one of them suffices."""
        for node, rule in conflict.rules:
            yield f"{node}: {_MENDS.get(rule, 'ask for less')}"
        for edge in conflict.edges:
            yield f"loosen or leave out the {edge}"
        if conflict.keeps_apart:
            yield "ask for fewer standbys, or have more peers bid"
        if conflict.needs_capacity:
            yield f"ask for less in {_names(conflict.nodes)}, or have peers bid that have more free"
        elif not conflict.keeps_apart:
            yield "have other peers bid"

    def _row(self, wanted: Wanted, count: int) -> NodeReasons:
        host = self._assignment.get(wanted.node_id, PeerID(""))
        found = {peer: reason for peer, reason in self._told(wanted).items() if peer != host}
        could: list[PeerID] = []
        for peer in self._offers:
            if len(found) + len(could) >= MAX_PEERS:
                break
            if peer == host:
                continue
            refusals = self._reasons.why_not(wanted.node_id, peer)
            if not refusals:
                found.pop(peer, None)
                could.append(peer)
            if not refusals or (refusals[0].rule is Rule.NO_BID and peer in found):
                continue
            first = refusals[0]
            found[peer] = PeerReason(
                peer=peer, rule=first.rule.value, text=first.detail, hint=_MENDS.get(first.rule, "")
            )
        return NodeReasons(
            node=wanted.node_id,
            count=count,
            peer=host,
            reasons=tuple(found.values())[:MAX_PEERS],
            could=tuple(could),
            more=len((found.keys() | self._offers.keys()) - {host, *could}) - min(len(found), MAX_PEERS),
        )

    def _told(self, wanted: Wanted) -> dict[PeerID, PeerReason]:
        """What was heard of it, and of bids that could not be used."""
        found = self._evidence.heard.about(wanted.name, wanted.node_id)
        for bid in self._evidence.bids:
            offer = self._offers.get(bid.peer)
            if bid.node_id != wanted.name or (offer is not None and wanted.name in offer.nodes):
                continue
            short = shortage(bid.free, demand_for(wanted)) or "its bid cannot be used"
            found[bid.peer] = PeerReason(peer=bid.peer, rule=Rule.RESOURCES.value, text=short, hint="ask for less")
        return found


_MENDS: dict[Rule, str] = {
    Rule.EXCLUDED: "take the peer out of exclude_peers",
    Rule.PINNED: "leave peer out, so that others may host it",
    Rule.LOCATION: "accept more places, or reject fewer",
    Rule.DISTANCE: "allow a larger distance",
    Rule.RESOURCES: "ask for less",
    Rule.PRICE: "allow a higher price",
    Rule.EDGE: "loosen or leave out the edge",
    Rule.CAPACITY: "ask for less, or have more peers bid",
}


def _silent(wanted: Iterable[Wanted], offers: Iterable[Offer]) -> tuple[str, ...]:
    asked = {name for offer in offers for name in offer.nodes}
    return tuple(w.node_id for w in wanted if w.name not in asked)


def _names(nodes: tuple[str, ...]) -> str:
    return ", ".join(nodes[:6]) + (f" and {len(nodes) - 6} more" if len(nodes) > 6 else "")
