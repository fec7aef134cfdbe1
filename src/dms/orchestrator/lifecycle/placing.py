"""A node that is placed while the others run: bids, reservation, allocation, as of a whole deployment; pure.

Because its machine died, or as a standby: ``state.placements`` has how far it is. What its former machine may still have is
in ``state.left`` until that machine has answered; until then it is not chosen again, so that telling it cannot end what is new.
Edges to nodes that stay must hold for the new place: they are measured anew, also for a standby, and once more when it takes
over.
"""

from __future__ import annotations

import msgspec

from dms.allocation.machine import AllocationState
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.ids import allocation_id
from dms.orchestrator.bidding.assignment import Assignment, Measure, assign
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.wishes import wishes_of
from dms.orchestrator.lifecycle.changes import (
    Step,
    end_left,
    ensemble_of,
    fresh,
    leaving,
    records_of,
    with_changes,
    with_record,
    with_records,
)
from dms.orchestrator.lifecycle.events import NodeAllocated, NodeBids, NodeCommitted, NodeMeasured, Place
from dms.orchestrator.lifecycle.neighbours import with_neighbours
from dms.orchestrator.lifecycle.remedies import counted, redeployed, torn_down
from dms.orchestrator.lifecycle.standby import group_of, is_standby, narrowed, node_of, primary_of
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState, Placement, Stage
from dms.orchestrator.lifecycle.strategies import MAX_TRIES, Remedy, backoff_ns, choose, ladder
from dms.orchestrator.matching import Unmatched
from dms.types.ids import AllocationID, EnsembleID, PeerID

MAX_MEASURINGS = 12
"""Of one round of bids: each tells more, and the first usually enough."""
MAX_MEASURED = 20_000
MAX_STEM_CHARS = 55
"""Of a name that gets a number."""
PENDING, STANDBY = AllocationState.PENDING.value, AllocationState.STANDBY.value


def wanted_of(state: DeploymentState, config: EnsembleConfig, node: str) -> tuple[EnsembleConfig, tuple[PeerID, ...]]:
    """The ensemble narrowed to a node that is being placed, and who cannot have it."""
    placement = state.placements.get(node) or Placement()
    others = [each for each in group_of(config, node) if each != node]
    group = {node, *others}
    taken = [state.assignment[each].peer for each in others if each in state.assignment]
    left = [one.bid.peer for one in state.left if one.id.partition("_")[2].partition(".")[0] in group]
    excluded = tuple(dict.fromkeys((*state.excluded, *placement.excluded, *placement.blamed, *taken, *left)))
    over = {record.name for record in records_of(state, node) if record.is_over}
    names = [name for name in node_of(config, node).allocations if name not in over]
    return narrowed(config, node, names, excluded, only=placement.only or None), excluded


def asked_of(state: DeploymentState, config: EnsembleConfig, node: str, *, is_alone: bool = False) -> EnsembleConfig:
    """What bids are wanted for: the node and, where edges bind it to nodes that have a place, these, pinned to where they
    are and in need of nothing. So is a node that has its place already: only what lies between is in question then.

    Those bound to it that have no place either count, too, unless ``is_alone``: it does not go where they could not follow.
    """
    part = wanted_of(state, config, node)[0].v1
    together = () if is_alone else _lost_together(state, config, node)
    for other in together:
        more = wanted_of(state, config, other)[0].v1
        part = msgspec.structs.replace(
            part, nodes=part.nodes | more.nodes, allocations=part.allocations | more.allocations
        )
    primary, group = primary_of(config, node), set(group_of(config, node))
    homes = {name: bid.peer for name, bid in state.assignment.items()}
    edges = []
    for edge in config.v1.edges:
        other = edge.t if edge.s == primary else edge.s if edge.t == primary else ""
        if other and (other in together or (other in homes and other not in group)):
            edges.append(msgspec.structs.replace(edge, s=node, t=other))
        elif {edge.s, edge.t} <= {*together, *homes} and (edge.s in together or edge.t in together):
            edges.append(edge)
    return with_neighbours(part, config.v1, edges, homes)


def _lost_together(state: DeploymentState, config: EnsembleConfig, node: str) -> tuple[str, ...]:
    """The nodes without a place that edges bind to this one, directly or through others of them."""
    if node in state.assignment or is_standby(config, node):
        return ()
    homeless = {each for each in state.placements if each not in state.assignment and not is_standby(config, each)}
    found = {node}
    while (
        more := {
            each
            for edge in config.v1.edges
            if found & {edge.s, edge.t}
            for each in (edge.s, edge.t)
            if each in homeless
        }
        - found
    ):
        found |= more
    return tuple(sorted(found - {node}))


def on_node_bids(state: DeploymentState, config: EnsembleConfig, event: NodeBids) -> Step:
    """Choose, have edges measured, or try again later."""
    if not is_current(state, event.node, event.round, Stage.BIDDING, Stage.CHECKING):
        return state, ()
    placement = msgspec.structs.replace(state.placements[event.node], heard=event.bids, measured=(), measurings=0)
    state = with_changes(state, placements=state.placements | {event.node: placement})
    return _chosen(state, config, event.node, event.at_ns)


def on_node_measured(state: DeploymentState, config: EnsembleConfig, event: NodeMeasured) -> Step:
    """The same, with what is known now."""
    if not is_current(state, event.node, event.round, Stage.MEASURING):
        return state, ()
    before = state.placements[event.node]
    news = {(pair.a, pair.b): pair for pair in (*before.measured, *event.pairs)}
    placement = msgspec.structs.replace(before, measured=tuple(news.values()))
    known = {(pair.a, pair.b): pair for pair in (*state.measured, *event.pairs)}
    state = with_changes(
        state,
        placements=state.placements | {event.node: placement},
        measured=tuple(known.values())[-MAX_MEASURED:],
    )
    return _chosen(state, config, event.node, event.at_ns)


def pairs_to_measure(state: DeploymentState, config: EnsembleConfig, node: str) -> tuple[tuple[PeerID, PeerID], ...]:
    """The connections on which the best place for a node rests."""
    result = _assigned(state, config, node)
    return result.pairs if isinstance(result, Measure) else ()


def _assigned(state: DeploymentState, config: EnsembleConfig, node: str) -> Assignment:
    placement = state.placements[node]
    together = (node, *_lost_together(state, config, node))
    excluded = {each: set(wanted_of(state, config, each)[1]) for each in together if each not in state.assignment}
    bids = [bid for bid in placement.heard if bid.peer not in excluded.get(bid.node_id, ())]
    result = assign(wishes_of(asked_of(state, config, node)), bids, placement.measured)
    if not isinstance(result, Unmatched) or len(together) == 1:
        return result
    alone = [bid for bid in bids if bid.node_id not in together[1:]]
    return assign(wishes_of(asked_of(state, config, node, is_alone=True)), alone, placement.measured)


def _chosen(state: DeploymentState, config: EnsembleConfig, node: str, at_ns: int) -> Step:
    placement, result = state.placements[node], _assigned(state, config, node)
    if isinstance(result, Measure) and placement.measurings < MAX_MEASURINGS:
        placement = msgspec.structs.replace(placement, measurings=placement.measurings + 1)
        return _at_stage(with_changes(state, placements=state.placements | {node: placement}), node, Stage.MEASURING)
    is_violated = isinstance(result, Unmatched) and result.conflict is not None
    if node in state.assignment and not is_violated:  # where nobody can tell it stays
        return _at_stage(_unheard(state, node), node, Stage.STARTING)
    if isinstance(result, Measure):
        why = "no place that keeps the edges was found in time, and none excluded"
        return attempt_failed(state, config, node, at_ns, why)
    if isinstance(result, Unmatched):
        return attempt_failed(state, config, node, at_ns, str(result))
    bid = result[node]
    state = with_records(_unheard(state, node), *_records_at(state, config, node, bid))
    return _at_stage(with_changes(state, assignment=state.assignment | {node: bid}), node, Stage.COMMITTING)


def _unheard(state: DeploymentState, node: str) -> DeploymentState:
    placement = msgspec.structs.replace(state.placements[node], heard=(), measured=())
    return with_changes(state, placements=state.placements | {node: placement})


def on_node_committed(state: DeploymentState, config: EnsembleConfig, event: NodeCommitted) -> Step:
    """Allocate what was reserved."""
    if not is_current(state, event.node, event.round, Stage.COMMITTING):
        return state, ()
    records = open_records(state, event.node)
    refused = [r.error for r in event.results.values() if not r.ok]
    if refused or any(record.key not in event.results for record in records):
        return attempt_failed(state, config, event.node, event.at_ns, "; ".join(refused) or "no answer")
    known = [with_record(record, ports=event.results[record.key].ports) for record in records]
    return _at_stage(with_records(state, *known), event.node, Stage.ALLOCATING)


def on_node_allocated(state: DeploymentState, config: EnsembleConfig, event: NodeAllocated) -> Step:
    """A standby is ready then; everything else is started."""
    if not is_current(state, event.node, event.round, Stage.ALLOCATING):
        return state, ()
    records, handles = open_records(state, event.node), event.result.handles
    if not event.result.ok or any(record.id not in handles for record in records):
        return attempt_failed(state, config, event.node, event.at_ns, event.result.error or "not allocated")
    waits = is_standby(config, event.node)
    status = STANDBY if waits else PENDING
    state = with_records(state, *(with_record(r, handle=handles[r.id], status=status) for r in records))
    return (placed_at(state, event.node), ()) if waits else _at_stage(state, event.node, Stage.STARTING)


def attempt_failed(state: DeploymentState, config: EnsembleConfig, node: str, at_ns: int, why: str) -> Step:
    """It is tried again after a while; after several times the ensemble has failed, if it says what then."""
    state = unplaced(state, node, at_ns, why)
    placement = state.placements[node]
    if placement.failures >= MAX_TRIES and not is_standby(config, node):
        key = f"{node}.{node_of(config, node).allocations[0]}"
        rungs = [rung for rung in ladder(config, key) if rung.remedy in (Remedy.REDEPLOY, Remedy.TEARDOWN)]
        rung = choose(rungs, state.tries, at_ns)
        if rung is not None:
            why = f"{node} could not be placed again: {why}"
            state = counted(state, rung, at_ns)
            return redeployed(state, at_ns, why) if rung.remedy is Remedy.REDEPLOY else torn_down(state, why)
    return state, (*end_left(state), Place(node))


def unplaced(state: DeploymentState, node: str, at_ns: int, why: str) -> DeploymentState:
    """The attempt came to nothing: another follows after a while."""
    before = state.placements[node]
    bid = state.assignment.get(node) if before.stage is not Stage.BIDDING else None
    records = [record for record in records_of(state, node) if not record.is_over]
    state = with_records(leaving(state, node), *(waiting(fresh(r), why) for r in records))
    if before.is_standby:
        state = without_records(state, node)
    again = msgspec.structs.replace(
        before,
        stage=Stage.BIDDING,
        heard=(),
        measured=(),
        round=before.round + 1,
        due_ns=at_ns + backoff_ns(before.failures),
        failures=before.failures + 1,
        blamed=() if bid is None else tuple(dict.fromkeys((*before.blamed, bid.peer))),
        why=why,
    )
    return with_changes(state, placements=state.placements | {node: again})


def without_records(state: DeploymentState, node: str) -> DeploymentState:
    """Standbys have records only while they have a place."""
    kept = {key: record for key, record in state.allocations.items() if record.node_id != node}
    return with_changes(state, allocations=kept)


def is_current(state: DeploymentState, node: str, number: int, *stages: Stage) -> bool:
    """Whether an answer is to what is asked now."""
    placement = state.placements.get(node)
    return placement is not None and placement.round == number and placement.stage in stages


def _at_stage(state: DeploymentState, node: str, stage: Stage) -> Step:
    placement = msgspec.structs.replace(state.placements[node], stage=stage)
    return with_changes(state, placements=state.placements | {node: placement}), (Place(node),)


def placed_at(state: DeploymentState, node: str) -> DeploymentState:
    """Its placement is over."""
    return with_changes(state, placements={name: p for name, p in state.placements.items() if name != node})


def open_records(state: DeploymentState, node: str) -> tuple[AllocationRecord, ...]:
    """Those of a node that have not ended."""
    return tuple(record for record in records_of(state, node) if not record.is_over)


def _records_at(state: DeploymentState, config: EnsembleConfig, node: str, bid: Bid) -> tuple[AllocationRecord, ...]:
    """The records of a node that is placed anew; a standby has none before."""
    known = records_of(state, node)
    if known:
        return tuple(with_record(record, peer=bid.peer) for record in known if not record.is_over)
    ensemble: EnsembleID = ensemble_of(next(iter(state.allocations.values())))
    return tuple(
        AllocationRecord(
            id=_unused_id(state, config, ensemble, node, name),
            node_id=node,
            name=name,
            type=config.v1.allocations[name].type,
            peer=bid.peer,
            standby_for=primary_of(config, node),
        )
        for name in node_of(config, node).allocations
    )


def place_again(state: DeploymentState, node: str, at_ns: int, why: str) -> Step:
    """What is being done came to nothing."""
    state = unplaced(state, node, at_ns, why)
    return state, (*end_left(state), Place(node))


def replaced(
    state: DeploymentState,
    node: str,
    due_ns: int,
    why: str,
    excluded: tuple[PeerID, ...] = (),
    *,
    waits: bool = False,
) -> Step:
    """Give up the machine of a node and place it elsewhere."""
    number = next_number(state, node)
    placement = Placement(due_ns=due_ns, round=number, excluded=excluded, why=why, is_standby=waits)
    records = [waiting(fresh(record), why) for record in open_records(state, node)]
    state = with_changes(leaving(state, node), placements=state.placements | {node: placement})
    state = with_records(state, *records)
    return state, (*end_left(state), Place(node))


def waiting(record: AllocationRecord, why: str) -> AllocationRecord:
    """As it is until it runs again."""
    return with_record(
        record, status=PENDING, error=why, reason="", exit_code=None, ended_ns=0, health="", health_problem=""
    )


def next_number(state: DeploymentState, node: str) -> int:
    """Of its next round."""
    return state.placements[node].round + 1 if node in state.placements else 1


def _unused_id(
    state: DeploymentState, config: EnsembleConfig, ensemble: EnsembleID, node: str, name: str
) -> AllocationID:
    """That of its name, unless one that was promoted still has it."""
    taken = {record.id for record in state.allocations.values()} | {one.id for one in state.left}
    others = set(node_of(config, node).allocations)
    number, called = 1, name
    while (found := allocation_id(ensemble, node, called)) in taken or (called != name and called in others):
        number += 1
        called = f"{name[:MAX_STEM_CHARS]}-s{number}"
    return found
