"""What becomes of a running deployment when a part of it fails: restarts where it is, places on other machines, standbys.

Pure, as the machine that calls it (:mod:`dms.orchestrator.lifecycle.machine`): events in, state and
instructions out. Which rung of recovery comes next is :mod:`dms.orchestrator.lifecycle.strategies`'.

A node whose machine died is placed anew (:mod:`dms.orchestrator.lifecycle.placing`), unless it has a standby: that takes its
name, starts, and a new standby is placed.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from dms.allocation.machine import AllocationState
from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.lifecycle.changes import (
    Step,
    end_left,
    leaving,
    records_of,
    with_changes,
    with_record,
    with_records,
)
from dms.orchestrator.lifecycle.events import (
    HealthChanged,
    Instruction,
    LeftEnded,
    NodeStarted,
    PeerLost,
    Place,
    Restart,
    RestartRequested,
    RestartsDone,
)
from dms.orchestrator.lifecycle.placing import (
    attempt_failed,
    is_current,
    next_number,
    open_records,
    place_again,
    placed_at,
    replaced,
    unplaced,
    waiting,
    without_records,
)
from dms.orchestrator.lifecycle.remedies import counted, redeployed, torn_down
from dms.orchestrator.lifecycle.standby import all_standbys, is_standby, standbys_of
from dms.orchestrator.lifecycle.state import DeploymentState, Left, Phase, Placement, Stage
from dms.orchestrator.lifecycle.strategies import Remedy, backoff_ns, choose, ladder, used
from dms.orchestrator.updating.merging import placed_names

RETRY_UNREACHED_NS = 5 * 10**9
"""A restart of which nobody knows whether it happened is asked for again; it is numbered, so it happens once."""
HEAD_START_NS = 10**9
"""One round of bids at a time: those that tell whether a promoted node may start come before those for a new standby."""
HEALTHY, UNHEALTHY = "healthy", "unhealthy"
RUNNING = AllocationState.RUNNING.value


def recover(
    state: DeploymentState, config: EnsembleConfig, key: str, at_ns: int, why: str, *, is_lost: bool = False
) -> Step | None:
    """An allocation has failed: what is done about it; ``None`` when nothing is, and it stays down.

    :param is_lost: where it was it cannot be restarted.
    """
    if state.phase is not Phase.RUNNING:
        return None if is_lost else _in_place(state, config, key, at_ns, why)
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
    state = counted(state, rung, at_ns)
    match rung.remedy:
        case Remedy.RESTART:
            return _restarting(state, rung.keys, key, at_ns + backoff_ns(failures), why)
        case Remedy.REPLACE:
            bid = state.assignment.get(record.node_id)
            excluded = (bid.peer,) if bid is not None and not config.v1.nodes[record.node_id].peer else ()
            return replaced(state, record.node_id, at_ns + backoff_ns(failures), f"{key}: {why}", excluded)
        case Remedy.REDEPLOY:
            return redeployed(state, at_ns, f"{key}: {why}")
        case Remedy.TEARDOWN:
            return torn_down(state, f"{key}: {why}")


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
            state = unplaced(state, node, at_ns, "interrupted by a restart")
        if placement.stage is Stage.MEASURING:  # what was heard may have expired
            stage = Stage.CHECKING if node in state.assignment else Stage.BIDDING
            state = with_changes(state, placements=state.placements | {node: replace(placement, stage=stage)})
    return state, (*end_left(state), *_restarts(state), *(Place(node) for node in state.placements))


def on_health(state: DeploymentState, config: EnsembleConfig, event: HealthChanged) -> Step:
    """What a check found; a failure is one like any other, but ``stay_down`` leaves running what still runs."""
    record = state.allocations.get(event.key)
    if state.phase is Phase.PROVISIONING and record is not None:
        is_there = event.is_failure and record.handle is not None and not record.is_over and not record.due_ns
        why = f"unhealthy: {event.problem}"
        return (recover(state, config, event.key, event.at_ns, why) if is_there else None) or (state, ())
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
    phase = state.phase
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
        if state.phase is not phase:
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
            records.append(waiting(again, "restarted by its user"))
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


def promote_waiting(state: DeploymentState, config: EnsembleConfig, at_ns: int) -> Step:
    """A node for which a place is still sought takes that of its standby, once there is one."""
    instructions: tuple[Instruction, ...] = ()
    for node, placement in tuple(state.placements.items()):
        if placement.stage is Stage.BIDDING and not is_standby(config, node):
            promoted = _promoted(state, config, node, at_ns, placement.why)
            if promoted is not None:
                state, more = promoted
                instructions += more
    return state, instructions


def on_left_ended(state: DeploymentState, event: LeftEnded) -> Step:
    """That peer has nothing of these any more."""
    left = tuple(one for one in state.left if one.bid.peer != event.peer or one.id not in event.ids)
    return (state if left == state.left else with_changes(state, left=left)), ()


def on_node_started(state: DeploymentState, config: EnsembleConfig, event: NodeStarted) -> Step:
    """It runs where it is now."""
    if not is_current(state, event.node, event.round, Stage.STARTING):
        return state, ()
    placed = open_records(state, event.node)
    failed = [r.error for r in event.results.values() if not r.ok]
    if failed or any(record.key not in event.results for record in placed):
        return attempt_failed(state, config, event.node, event.at_ns, "; ".join(failed) or "not started")
    state = with_records(
        state,
        *(with_record(r, status=RUNNING, error="", started_ns=event.at_ns, restarts=r.restarts + 1) for r in placed),
    )
    state = placed_at(state, event.node)
    return recover_failed(state, config, [record.key for record in records_of(state, event.node)], event.at_ns)


def _in_place(state: DeploymentState, config: EnsembleConfig, key: str, at_ns: int, why: str) -> Step | None:
    """While others are still being started only restarts are possible, and only of the one that failed: what its strategy
    would restart with it waits for it, or has begun a moment ago. What this does not mend, another place may.
    """
    rungs = [rung for rung in ladder(config, key) if rung.remedy is Remedy.RESTART]
    rung = choose(rungs, state.tries, at_ns)
    if rung is None:
        return None
    failures = sum(used(state.tries, each, at_ns) for each in rungs)
    return _restarting(counted(state, rung, at_ns), (key,), key, at_ns + backoff_ns(failures), why)


def _restarting(state: DeploymentState, keys: Iterable[str], key: str, due_ns: int, why: str) -> Step:
    """These allocations wait for their restart; the others of them than ``key`` only if they are there."""
    records = []
    for each in keys:
        record = state.allocations.get(each)
        if record is None or record.handle is None or record.node_id in state.placements:
            continue
        if each != key and record.is_over:
            continue
        execution = record.execution if record.due_ns and each != key else record.execution + 1
        error = why if each == key else record.error or f"restarted with {key}"
        records.append(waiting(with_record(record, execution=execution, due_ns=due_ns), error))
    return with_records(state, *records), (Restart(tuple(record.key for record in records)),)


def _moved(state: DeploymentState, config: EnsembleConfig, node: str, at_ns: int, why: str) -> Step | None:
    """A node whose machine is of no more use, somewhere else; ``None`` when it may not be moved."""
    if is_standby(config, node):
        if node in state.placements:
            return place_again(state, node, at_ns, why)
        state, instructions = replaced(state, node, at_ns, why, waits=True)
        return without_records(state, node), instructions
    promoted = _promoted(state, config, node, at_ns, why)
    if promoted is not None:
        return promoted
    if node in state.placements:
        return place_again(state, node, at_ns, why)
    if config.v1.nodes[node].failure_recovery == "redeploy" or config.v1.nodes[node].redundancy:
        return replaced(state, node, at_ns, why)
    return None


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
    failures = state.placements[node].failures if node in state.placements else 0
    has_edges = any(node in (edge.s, edge.t) for edge in config.v1.edges)
    bid, state = state.assignment[chosen], leaving(state, node)
    unneeded = [Left(id=copy.id, bid=bid) for name, copy in copies.items() if name in over]
    moved = [
        waiting(with_record(copy, node_id=node, standby_for="", restarts=former[name].restarts), why)
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
            node: Placement(
                stage=Stage.CHECKING if has_edges else Stage.STARTING,
                due_ns=at_ns,
                round=next_number(state, node),
                failures=failures,
                why=f"{chosen} was promoted: {why}",
            ),
            chosen: Placement(
                due_ns=at_ns + (backoff_ns(failures) if failures else HEAD_START_NS if has_edges else 0),
                round=next_number(state, chosen),
                why="it was promoted",
                is_standby=True,
            ),
        },
    )
    return state, (*end_left(state), Place(node), Place(chosen))


def _restarts(state: DeploymentState) -> tuple[Instruction, ...]:
    """Those that are due together are restarted together, as their order may matter."""
    due: dict[int, list[str]] = {}
    for key, record in state.allocations.items():
        if record.due_ns and not record.is_over:
            due.setdefault(record.due_ns, []).append(key)
    return tuple(Restart(tuple(keys)) for _, keys in sorted(due.items()))
