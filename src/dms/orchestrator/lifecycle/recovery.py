"""What becomes of a running deployment when a part of it fails: restarts where it is, places on other machines, standbys.

Pure, as the machine that calls it (:mod:`dms.orchestrator.lifecycle.machine`): events in, state and
instructions out. Which rung of recovery comes next is :mod:`dms.orchestrator.lifecycle.strategies`'.

A node is *placed* while the others run in the same stages as a whole deployment (bids, commit, allocate, start), kept in
``state.placements``. What its former machine may still have is in ``state.left`` until that machine has answered; until
then it is not chosen again, so that telling it cannot end what is new. A node with a standby is not placed: the standby
takes its name, starts, and a new standby is placed.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dms.allocation.machine import AllocationState
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.ids import allocation_id
from dms.orchestrator.bidding.assignment import assign
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.wishes import wishes_of
from dms.orchestrator.lifecycle.changes import (
    Step,
    end_left,
    ensemble_of,
    fresh,
    giving_back,
    leaving,
    records_of,
    revert_owed,
    unassigned,
    with_changes,
    with_record,
    with_records,
)
from dms.orchestrator.lifecycle.events import (
    CollectBids,
    HealthChanged,
    Instruction,
    LeftEnded,
    NodeAllocated,
    NodeBids,
    NodeCommitted,
    NodeStarted,
    PeerLost,
    Place,
    Restart,
    RestartRequested,
    RestartsDone,
    ShutdownAll,
)
from dms.orchestrator.lifecycle.standby import (
    all_standbys,
    group_of,
    is_standby,
    narrowed,
    node_of,
    primary_of,
    standbys_of,
)
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState, Left, Phase, Placement, Stage, Tries
from dms.orchestrator.lifecycle.strategies import MAX_TRIES, Remedy, Rung, backoff_ns, choose, ladder, used
from dms.orchestrator.updating.merging import placed_names
from dms.types.ids import EnsembleID, PeerID

RETRY_UNREACHED_NS = 5 * 10**9
"""A restart of which nobody knows whether it happened is asked for again; it is numbered, so it happens once."""
HEALTHY, UNHEALTHY = "healthy", "unhealthy"
RUNNING, PENDING, STANDBY = (
    s.value for s in (AllocationState.RUNNING, AllocationState.PENDING, AllocationState.STANDBY)
)


def recover(
    state: DeploymentState, config: EnsembleConfig, key: str, at_ns: int, why: str, *, is_lost: bool = False
) -> Step | None:
    """An allocation has failed: what is done about it; ``None`` when nothing is, and it stays down.

    :param is_lost: where it was it cannot be restarted.
    """
    record = state.allocations[key]
    if is_lost:
        moved = _moved(state, config, record.node_id, at_ns, why)
        if moved is not None:
            return moved
    useless = {Remedy.RESTART, Remedy.REPLACE} if is_lost else set()
    rungs = [rung for rung in ladder(config, key) if rung.remedy not in useless]
    rung = choose(rungs, state.tries, at_ns)
    if rung is None:
        return None
    failures = sum(used(state.tries, each, at_ns) for each in rungs)
    state = _counted(state, rung, at_ns)
    match rung.remedy:
        case Remedy.RESTART:
            return _restarting(state, rung, key, at_ns + backoff_ns(failures), why)
        case Remedy.REPLACE:
            bid = state.assignment.get(record.node_id)
            excluded = (bid.peer,) if bid is not None and not config.v1.nodes[record.node_id].peer else ()
            return _replaced(state, record.node_id, at_ns + backoff_ns(failures), f"{key}: {why}", excluded)
        case Remedy.REDEPLOY:
            return _redeployed(state, at_ns, f"{key}: {why}")
        case Remedy.TEARDOWN:
            return _torn_down(state, f"{key}: {why}")


def recover_failed(state: DeploymentState, config: EnsembleConfig, keys: Iterable[str], at_ns: int) -> Step:
    """The same for what had failed before it was time to recover anything."""
    instructions: tuple[Instruction, ...] = ()
    for key in keys:
        record = state.allocations.get(key)
        if state.phase is not Phase.RUNNING or record is None or record.status != AllocationState.FAILED.value:
            continue
        recovered = recover(state, config, key, at_ns, record.error)
        if recovered is not None:
            state, more = recovered
            instructions += more
    return state, instructions


def place_standbys(state: DeploymentState, config: EnsembleConfig, at_ns: int) -> Step:
    """Begin to place the standbys that there are not."""
    missing = [n for n in all_standbys(config) if n not in state.assignment and n not in state.placements]
    placements = {node: Placement(due_ns=at_ns, why="a standby is wanted", is_standby=True) for node in missing}
    if not missing:
        return state, ()
    return with_changes(state, placements=state.placements | placements), tuple(Place(node) for node in missing)


def resumed(state: DeploymentState, at_ns: int) -> Step:
    """After a restart of the orchestrator: whatever was under way goes on, or begins again."""
    for node, placement in state.placements.items():
        if placement.stage in (Stage.COMMITTING, Stage.ALLOCATING):
            state = _unplaced(state, node, at_ns, "interrupted by a restart")
    return state, (*end_left(state), *_restarts(state), *(Place(node) for node in state.placements))


def on_health(state: DeploymentState, config: EnsembleConfig, event: HealthChanged) -> Step:
    """What a check found; a failure is one like any other, but ``stay_down`` leaves running what still runs."""
    record = state.allocations.get(event.key)
    if record is None or record.status != RUNNING:
        return state, ()
    health = UNHEALTHY if event.problem else HEALTHY
    if (record.health, record.health_problem) != (health, event.problem):
        state = with_records(state, with_record(record, health=health, health_problem=event.problem))
    if not event.is_failure:
        return state, ()
    return recover(state, config, event.key, event.at_ns, f"unhealthy: {event.problem}") or (state, ())


def on_restarts(state: DeploymentState, config: EnsembleConfig, event: RestartsDone) -> tuple[Step, tuple[str, ...]]:
    """What became of restarts; and the keys of those that stay down."""
    instructions: tuple[Instruction, ...] = ()
    down: list[str] = []
    for key, result in event.results.items():
        record = state.allocations.get(key)
        if record is None or not record.due_ns or (result.execution and result.execution < record.execution):
            continue
        if result.ok:
            record = with_record(
                record,
                status=RUNNING,
                error="",
                due_ns=0,
                execution=max(record.execution, result.execution),
                started_ns=event.at_ns,
                restarts=record.restarts + 1,
                health="",
                health_problem="",
            )
            state = with_records(state, record)
            continue
        if result.is_unreached:
            state = with_records(state, with_record(record, due_ns=event.at_ns + RETRY_UNREACHED_NS))
            instructions += (Restart((key,)),)
            continue
        recovered = recover(state, config, key, event.at_ns, result.error, is_lost=result.is_gone)
        if recovered is None:
            failed = AllocationState.FAILED.value
            state = with_records(
                state, with_record(record, status=failed, error=result.error, ended_ns=event.at_ns, due_ns=0)
            )
            down.append(key)
            continue
        state, more = recovered
        instructions += more
        if state.phase is not Phase.RUNNING:
            break
    return (state, instructions), tuple(down)


def can_restart(state: DeploymentState, key: str) -> bool:
    """Whether an allocation runs, and nothing else is being done about it."""
    record = state.allocations.get(key)
    return (
        record is not None
        and record.status == RUNNING
        and record.handle is not None
        and record.node_id not in state.placements
        and (state.update is None or record.node_id not in placed_names(state.update))
    )


def on_restart_requested(state: DeploymentState, event: RestartRequested) -> Step:
    """Those that can be restarted are, at once; it counts as nobody's failure."""
    records = []
    for key in dict.fromkeys(event.keys):
        if can_restart(state, key):
            record = state.allocations[key]
            again = with_record(record, execution=record.execution + 1, due_ns=event.at_ns)
            records.append(_waiting(again, "restarted by its user"))
    if not records:
        return state, ()
    return with_records(state, *records), (Restart(tuple(record.key for record in records)),)


def on_peer_lost(state: DeploymentState, config: EnsembleConfig, event: PeerLost) -> Step:
    """Its nodes go elsewhere, if they may: to their standbys, or to whoever bids."""
    before, instructions = state, list[Instruction]()
    for node, bid in sorted(state.assignment.items()):
        if bid.peer != event.peer or all(record.is_over for record in records_of(state, node)):
            continue
        moved = _moved(state, config, node, event.at_ns, event.why or "its machine is gone")
        if moved is not None:
            state, more = moved
            instructions += more
    return state, () if state is before else tuple(dict.fromkeys(instructions))


def on_left_ended(state: DeploymentState, event: LeftEnded) -> Step:
    """That peer has nothing of these any more."""
    left = tuple(one for one in state.left if one.bid.peer != event.peer or one.id not in event.ids)
    return (state if left == state.left else with_changes(state, left=left)), ()


# placing a node ------------------------------------------------------------------------------------------------------


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


def on_node_bids(state: DeploymentState, config: EnsembleConfig, event: NodeBids) -> Step:
    """Choose, or try again later."""
    if not _is_current(state, event.node, event.round, Stage.BIDDING):
        return state, ()
    narrow, excluded = wanted_of(state, config, event.node)
    result = assign(wishes_of(narrow), tuple(bid for bid in event.bids if bid.peer not in excluded))
    if not isinstance(result, dict):
        return _attempt_failed(state, config, event.node, event.at_ns, str(result))
    bid = result[event.node]
    state = with_records(state, *_records_at(state, config, event.node, bid))
    return _at_stage(with_changes(state, assignment=state.assignment | {event.node: bid}), event.node, Stage.COMMITTING)


def on_node_committed(state: DeploymentState, config: EnsembleConfig, event: NodeCommitted) -> Step:
    """Allocate what was reserved."""
    if not _is_current(state, event.node, event.round, Stage.COMMITTING):
        return state, ()
    placed = _open(state, event.node)
    refused = [r.error for r in event.results.values() if not r.ok]
    if refused or any(record.key not in event.results for record in placed):
        return _attempt_failed(state, config, event.node, event.at_ns, "; ".join(refused) or "no answer")
    records = [with_record(record, ports=event.results[record.key].ports) for record in placed]
    return _at_stage(with_records(state, *records), event.node, Stage.ALLOCATING)


def on_node_allocated(state: DeploymentState, config: EnsembleConfig, event: NodeAllocated) -> Step:
    """A standby is ready then; everything else is started."""
    if not _is_current(state, event.node, event.round, Stage.ALLOCATING):
        return state, ()
    placed, handles = _open(state, event.node), event.result.handles
    if not event.result.ok or any(record.id not in handles for record in placed):
        return _attempt_failed(state, config, event.node, event.at_ns, event.result.error or "not allocated")
    waits = is_standby(config, event.node)
    status = STANDBY if waits else PENDING
    state = with_records(state, *(with_record(r, handle=handles[r.id], status=status) for r in placed))
    return (_placed(state, event.node), ()) if waits else _at_stage(state, event.node, Stage.STARTING)


def on_node_started(state: DeploymentState, config: EnsembleConfig, event: NodeStarted) -> Step:
    """It runs where it is now."""
    if not _is_current(state, event.node, event.round, Stage.STARTING):
        return state, ()
    placed = _open(state, event.node)
    failed = [r.error for r in event.results.values() if not r.ok]
    if failed or any(record.key not in event.results for record in placed):
        return _attempt_failed(state, config, event.node, event.at_ns, "; ".join(failed) or "not started")
    state = with_records(
        state,
        *(with_record(r, status=RUNNING, error="", started_ns=event.at_ns, restarts=r.restarts + 1) for r in placed),
    )
    state = _placed(state, event.node)
    return recover_failed(state, config, [record.key for record in records_of(state, event.node)], event.at_ns)


def _attempt_failed(state: DeploymentState, config: EnsembleConfig, node: str, at_ns: int, why: str) -> Step:
    state = _unplaced(state, node, at_ns, why)
    placement = state.placements[node]
    if placement.failures >= MAX_TRIES and not is_standby(config, node):
        key = f"{node}.{node_of(config, node).allocations[0]}"
        rungs = [rung for rung in ladder(config, key) if rung.remedy in (Remedy.REDEPLOY, Remedy.TEARDOWN)]
        rung = choose(rungs, state.tries, at_ns)
        if rung is not None:
            why = f"{node} could not be placed again: {why}"
            state = _counted(state, rung, at_ns)
            return _redeployed(state, at_ns, why) if rung.remedy is Remedy.REDEPLOY else _torn_down(state, why)
    return state, (*end_left(state), Place(node))


def _unplaced(state: DeploymentState, node: str, at_ns: int, why: str) -> DeploymentState:
    """The attempt came to nothing: another follows after a while."""
    before = state.placements[node]
    bid = state.assignment.get(node) if before.stage is not Stage.BIDDING else None
    records = [record for record in records_of(state, node) if not record.is_over]
    state = with_records(leaving(state, node), *(_waiting(fresh(r), why) for r in records))
    if before.is_standby:
        state = _without_records(state, node)
    again = msgspec.structs.replace(
        before,
        stage=Stage.BIDDING,
        round=before.round + 1,
        due_ns=at_ns + backoff_ns(before.failures),
        failures=before.failures + 1,
        blamed=() if bid is None else tuple(dict.fromkeys((*before.blamed, bid.peer))),
        why=why,
    )
    return with_changes(state, placements=state.placements | {node: again})


def _without_records(state: DeploymentState, node: str) -> DeploymentState:
    """Standbys have records only while they have a place."""
    kept = {key: record for key, record in state.allocations.items() if record.node_id != node}
    return with_changes(state, allocations=kept)


def _is_current(state: DeploymentState, node: str, number: int, stage: Stage) -> bool:
    placement = state.placements.get(node)
    return placement is not None and placement.round == number and placement.stage is stage


def _at_stage(state: DeploymentState, node: str, stage: Stage) -> Step:
    placement = msgspec.structs.replace(state.placements[node], stage=stage)
    return with_changes(state, placements=state.placements | {node: placement}), (Place(node),)


def _placed(state: DeploymentState, node: str) -> DeploymentState:
    return with_changes(state, placements={name: p for name, p in state.placements.items() if name != node})


def _open(state: DeploymentState, node: str) -> tuple[AllocationRecord, ...]:
    return tuple(record for record in records_of(state, node) if not record.is_over)


def _records_at(state: DeploymentState, config: EnsembleConfig, node: str, bid: Bid) -> tuple[AllocationRecord, ...]:
    """The records of a node that is placed anew; a standby has none before."""
    known = records_of(state, node)
    if known:
        return tuple(with_record(record, peer=bid.peer) for record in known if not record.is_over)
    ensemble: EnsembleID = ensemble_of(next(iter(state.allocations.values())))
    return tuple(
        AllocationRecord(
            id=allocation_id(ensemble, node, name),
            node_id=node,
            name=name,
            type=config.v1.allocations[name].type,
            peer=bid.peer,
            standby_for=primary_of(config, node),
        )
        for name in node_of(config, node).allocations
    )


# remedies ------------------------------------------------------------------------------------------------------------


def _restarting(state: DeploymentState, rung: Rung, key: str, due_ns: int, why: str) -> Step:
    """The allocations of the rung wait for their restart; the others of them than ``key`` only if they are there."""
    records = []
    for each in rung.keys:
        record = state.allocations.get(each)
        if record is None or record.handle is None or record.node_id in state.placements:
            continue
        if each != key and record.is_over:
            continue
        execution = record.execution if record.due_ns and each != key else record.execution + 1
        error = why if each == key else record.error or f"restarted with {key}"
        records.append(_waiting(with_record(record, execution=execution, due_ns=due_ns), error))
    return with_records(state, *records), (Restart(tuple(record.key for record in records)),)


def _waiting(record: AllocationRecord, why: str) -> AllocationRecord:
    return with_record(
        record, status=PENDING, error=why, reason="", exit_code=None, ended_ns=0, health="", health_problem=""
    )


def _moved(state: DeploymentState, config: EnsembleConfig, node: str, at_ns: int, why: str) -> Step | None:
    """A node whose machine is of no more use, somewhere else; ``None`` when it may not be moved."""
    if is_standby(config, node):
        if node in state.placements:
            return _again(state, node, at_ns, why)
        state, instructions = _replaced(state, node, at_ns, why, waits=True)
        return _without_records(state, node), instructions
    promoted = _promoted(state, config, node, at_ns, why)
    if promoted is not None:
        return promoted
    if node in state.placements:
        return _again(state, node, at_ns, why)
    if config.v1.nodes[node].failure_recovery == "redeploy" or config.v1.nodes[node].redundancy:
        return _replaced(state, node, at_ns, why)
    return None


def _again(state: DeploymentState, node: str, at_ns: int, why: str) -> Step:
    state = _unplaced(state, node, at_ns, why)
    return state, (*end_left(state), Place(node))


def _replaced(
    state: DeploymentState,
    node: str,
    due_ns: int,
    why: str,
    excluded: tuple[PeerID, ...] = (),
    *,
    waits: bool = False,
) -> Step:
    """Give up the machine of a node and place it elsewhere."""
    number = _next_number(state, node)
    placement = Placement(due_ns=due_ns, round=number, excluded=excluded, why=why, is_standby=waits)
    records = [_waiting(fresh(record), why) for record in _open(state, node)]
    state = with_changes(leaving(state, node), placements=state.placements | {node: placement})
    state = with_records(state, *records)
    return state, (*end_left(state), Place(node))


def _promoted(state: DeploymentState, config: EnsembleConfig, node: str, at_ns: int, why: str) -> Step | None:
    """A standby takes the place of its primary: name, records and handles move; a new standby is placed.

    :returns: ``None`` when no standby is ready.
    """
    place = state.assignment.get(node)
    ready = (
        each
        for each in standbys_of(config, node)
        if each in state.assignment
        and each not in state.placements
        and (place is None or state.assignment[each].peer != place.peer)
    )
    chosen = next(ready, None)
    if chosen is None:
        return None
    over = {record.name for record in records_of(state, node) if record.is_over}
    former = {record.name: record for record in records_of(state, node)}
    copies = {record.name: record for record in records_of(state, chosen)}
    bid, state = state.assignment[chosen], leaving(state, node)
    unneeded = [Left(id=copy.id, bid=bid) for name, copy in copies.items() if name in over]
    moved = [
        _waiting(with_record(copy, node_id=node, standby_for="", restarts=former[name].restarts), why)
        for name, copy in copies.items()
        if name not in over
    ]
    kept = {key: record for key, record in state.allocations.items() if record.node_id != chosen}
    assignment = {name: each for name, each in state.assignment.items() if name != chosen} | {node: bid}
    state = with_records(with_changes(state, allocations=kept, assignment=assignment), *moved)
    state = with_changes(
        state,
        left=(*state.left, *unneeded),
        placements=state.placements
        | {
            node: Placement(stage=Stage.STARTING, round=_next_number(state, node), why=f"{chosen} was promoted: {why}"),
            chosen: Placement(due_ns=at_ns, round=_next_number(state, chosen), why="it was promoted", is_standby=True),
        },
    )
    return state, (*end_left(state), Place(node), Place(chosen))


def _next_number(state: DeploymentState, node: str) -> int:
    return state.placements[node].round + 1 if node in state.placements else 1


def _redeployed(state: DeploymentState, at_ns: int, why: str) -> Step:
    """Everything anew, with as much time as at the beginning."""
    patience_ns = state.patience_ns or state.deadline_ns - state.created_ns
    state = giving_back(state)
    tries = {name: each for name, each in state.tries.items() if name == "ensemble"}
    again = with_changes(
        unassigned(state),
        phase=Phase.PREPARING,
        round=state.round + 1,
        attempts=0,
        deadline_ns=at_ns + patience_ns,
        patience_ns=patience_ns,
        tries=tries,
        error=why,
        trouble=why,
    )
    return again, (*revert_owed(again), CollectBids(again.round))


def _torn_down(state: DeploymentState, why: str) -> Step:
    return with_changes(state, phase=Phase.SHUTTING_DOWN, teardown=why, placements={}), (ShutdownAll(),)


def _counted(state: DeploymentState, rung: Rung, at_ns: int) -> DeploymentState:
    count = used(state.tries, rung, at_ns) + 1
    return with_changes(state, tries=state.tries | {rung.name: Tries(count=count, last_ns=at_ns)})


def _restarts(state: DeploymentState) -> tuple[Instruction, ...]:
    """Those that are due together are restarted together, as their order may matter."""
    due: dict[int, list[str]] = {}
    for key, record in state.allocations.items():
        if record.due_ns and not record.is_over:
            due.setdefault(record.due_ns, []).append(key)
    return tuple(Restart(tuple(keys)) for _, keys in sorted(due.items()))
