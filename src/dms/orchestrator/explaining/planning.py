"""A dry run: what would become of an ensemble if it were deployed, or became the new version of what runs.

Peers are asked for bids as always, told that it is a dry run, and nothing is reserved anywhere; edges are measured, those to
nodes that stay, too. What peers have free may be gone a moment later: a plan is no promise.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import trio

from dms.actor.actor import Actor
from dms.ensemble.changes import Changes, Difference, changes_between
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.groups import expanded
from dms.ensemble.problem import Problem
from dms.orchestrator.bidding.asking import Context, Here, nowhere
from dms.orchestrator.bidding.assignment import Measure, assign
from dms.orchestrator.bidding.bids import BidBook, collect_bids
from dms.orchestrator.bidding.edges import measure_edges
from dms.orchestrator.bidding.heard import ANY_NODE, UNREACHABLE, Heard, heard_from
from dms.orchestrator.bidding.measured import MeasuredPair
from dms.orchestrator.bidding.wishes import wishes_of
from dms.orchestrator.explaining.report import Connection, PeerReason, Report
from dms.orchestrator.explaining.why import Evidence, place
from dms.orchestrator.journal import DeploymentRecord
from dms.orchestrator.lifecycle.machine import begin
from dms.orchestrator.lifecycle.neighbours import with_neighbours
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.orchestrator.updating.moves import moves_between, problems_between
from dms.types.ids import EnsembleID, PeerID

MAX_PLANS = 4
"""At once; more wait."""
PLAN_TIME_S = 60.0
MEASURE_S = 30.0
"""For the edges; what is not measured by then is told."""
MAX_MEASURINGS = 12
MAX_CONNECTIONS = 200
"""That are told."""
NS_PER_S = 10**9
RUNNING = (Phase.COMMITTING, Phase.PROVISIONING, Phase.RUNNING)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found. ``placed``: the nodes that would be placed; ``kept``: those that stay where they are.

    ``report`` is ``None`` when no node needs a place.
    """

    changes: Changes
    problems: tuple[Problem, ...] = ()
    running: EnsembleID | None = None
    placed: Mapping[str, PeerID] = field(default_factory=dict)
    kept: Mapping[str, PeerID] = field(default_factory=dict)
    report: Report | None = None

    @property
    def is_feasible(self) -> bool:
        """Whether it could be carried out now, as far as is known."""
        return not self.problems and (self.report is None or self.report.is_placed)


def changes_to(config: EnsembleConfig, running: DeploymentRecord | None) -> Changes:
    """What the ensemble changes in what runs; all of it is new if nothing does."""
    if running is not None:
        return changes_between(running.config, config)
    v1 = expanded(config).v1
    return Changes(Difference(added=tuple(v1.nodes)), Difference(added=tuple(v1.allocations)))


def nodes_to_place(config: EnsembleConfig, changes: Changes) -> tuple[str, ...]:
    """The nodes that need a place: new ones, and those that are not what they were, or what is on them is not."""
    fresh = {*changes.nodes.added, *changes.nodes.changed}
    altered = {*changes.allocations.added, *changes.allocations.changed}
    nodes = expanded(config).v1.nodes
    return tuple(name for name, node in nodes.items() if name in fresh or not altered.isdisjoint(node.allocations))


def part_of(config: EnsembleConfig, names: Iterable[str], kept: Mapping[str, PeerID] | None = None) -> EnsembleConfig:
    """The ensemble with these nodes only, the edges among them, and those to nodes that are kept where they are."""
    v1, chosen, homes = expanded(config).v1, set(names), kept or {}
    part = msgspec.structs.replace(v1, nodes={name: node for name, node in v1.nodes.items() if name in chosen})
    edges = [
        edge
        for edge in v1.edges
        if not chosen.isdisjoint((edge.s, edge.t)) and all(end in chosen or end in homes for end in (edge.s, edge.t))
    ]
    return with_neighbours(part, v1, edges, {name: peer for name, peer in homes.items() if name not in chosen})


def running_version(records: Iterable[DeploymentRecord], config: EnsembleConfig) -> DeploymentRecord | None:
    """The deployment of the same ensemble that runs, or is being started, the newest of several.

    Ensembles have no name of their own: the ``name`` in the metadata tells which are the same, where both have none the
    names of their nodes.
    """
    name, nodes = config.v1.metadata.get("name", ""), set(expanded(config).v1.nodes)
    found = None
    for record in records:
        if record.state.phase not in RUNNING:
            continue
        theirs = record.config.v1.metadata.get("name", "")
        is_same = theirs == name if name or theirs else set(expanded(record.config).v1.nodes) == nodes
        if is_same and (found is None or record.state.created_ns >= found.state.created_ns):
            found = record
    return found


class Planner:
    """Makes plans for one node, a few at a time."""

    def __init__(self, root: Actor, new_id: Callable[[], EnsembleID], here: Here = nowhere) -> None:
        self._root = root
        self._here = here
        self._new_id = new_id
        self._limit = trio.CapacityLimiter(MAX_PLANS)

    async def plan(self, config: EnsembleConfig, running: DeploymentRecord | None) -> Plan:
        """Ask for bids for whatever needs a place, and see. Takes a round of bids, at most; the ensemble must be valid."""
        changes = changes_to(config, running)
        problems: tuple[Problem, ...] = ()
        names = nodes_to_place(config, changes)
        of, kept = None, {}
        if running is not None:
            homes = {node: bid.peer for node, bid in running.state.assignment.items()}
            moves = moves_between(running.config, expanded(config), homes)
            problems, names = problems_between(running.config, expanded(config)), (*moves.added, *moves.replaced)
            of, kept = running.id, _kept(running, set(expanded(config).v1.nodes) - set(names))
        if not names:
            return Plan(changes, problems, of, kept=kept)
        part = part_of(config, names, kept)
        async with self._limit:
            evidence = await self._ask(part)
        report, placed = place(part, evidence)
        report = msgspec.structs.replace(report, measured=_connections(evidence.measured))
        placed = {node: peer for node, peer in placed.items() if node in set(names)}
        return Plan(changes, problems, of, placed, kept, report)

    async def _ask(self, config: EnsembleConfig) -> Evidence:
        """One round of bids, by an actor that lives as long as that."""
        ensemble = self._new_id()
        unreachable = Heard()
        measured: list[MeasuredPair] = []

        async def note(kind: str, detail: dict[str, object]) -> None:
            if kind == "peer_unreachable":
                peer = PeerID(str(detail["peer"]))
                unreachable.add(ANY_NODE, PeerReason(peer=peer, rule=UNREACHABLE, text=str(detail["reason"])))

        actor = self._root.prepare_child(ensemble)
        await self._root.start_child(actor)
        try:
            context = Context(ensemble, config, actor, note, is_dry_run=True, here=self._here)
            now_ns = actor.security.now_ns()
            state = begin(ensemble, config, now_ns=now_ns, deadline_ns=now_ns + int(PLAN_TIME_S * NS_PER_S))
            bids = await collect_bids(context, state, secrets.token_hex(12), BidBook())
            with trio.move_on_after(MEASURE_S):
                await _measure(context, msgspec.structs.replace(state, heard=bids), measured)
        finally:
            actor.stop()
        heard = heard_from(context.hearing)
        for reason in unreachable.about(ANY_NODE).values():
            heard.add(ANY_NODE, reason)
        return Evidence(bids=bids, measured=tuple(measured), heard=heard, excluded=frozenset(config.v1.exclude_peers))


async def _measure(context: Context, state: DeploymentState, measured: list[MeasuredPair]) -> None:
    """Measure what the best assignment rests on, until it is certain."""
    for _ in range(MAX_MEASURINGS):
        result = assign(wishes_of(context.config), state.heard, measured)
        if not isinstance(result, Measure):
            return
        measured += await measure_edges(context, state, result.pairs)


def _connections(measured: Iterable[MeasuredPair]) -> tuple[Connection, ...]:
    return tuple(
        Connection(a=p.a, b=p.b, rtt_ms=p.rtt_ms, bandwidth_bps=p.bandwidth_bps, error=p.error) for p in measured
    )[:MAX_CONNECTIONS]


def _kept(running: DeploymentRecord, names: set[str]) -> dict[str, PeerID]:
    return {node: bid.peer for node, bid in running.state.assignment.items() if node in names}
