"""A batch of an update, decided: bids, reservations, allocations, starts, and whether it is well; pure.

The stages are those of a deployment, for the nodes of the batch together, so that edges among them hold, and edges to
those that stay where they are. An attempt that comes to nothing is undone and made again, on other machines, as often as
:data:`MAX_ATTEMPTS`; what its own program does wrong it would do anywhere, so that ends the update at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from dms.allocation.machine import AllocationState
from dms.ensemble.config import SERVICE, EnsembleConfig
from dms.ensemble.requirements import node_resources
from dms.orchestrator.bidding.assignment import Measure, assign
from dms.orchestrator.bidding.measured import without_failures
from dms.orchestrator.bidding.wishes import wishes_of
from dms.orchestrator.lifecycle.changes import Step, end_left, records_of, with_changes, with_record, with_records
from dms.orchestrator.lifecycle.events import (
    AllocationEnded,
    CarryUpdate,
    HealthChanged,
    PeerLost,
    UpdateAllocated,
    UpdateBids,
    UpdateCommitted,
    UpdateDue,
    UpdateMeasured,
    UpdateStarted,
)
from dms.orchestrator.lifecycle.state import LOST, AllocationRecord, DeploymentState
from dms.orchestrator.lifecycle.strategies import backoff_ns
from dms.orchestrator.matching import Unmatched
from dms.orchestrator.updating.merging import part_asked, placed_names
from dms.orchestrator.updating.state import Stage
from dms.orchestrator.updating.turning import Both, current, fail, records_at, stop, take_over, without_batch
from dms.resources.arithmetic import fits
from dms.types.ids import PeerID

MAX_ATTEMPTS = 3
"""For a batch; after that it is the ensemble's fault."""
BID_ROUNDS = 2
"""Without a place for all of a batch; after that it is made smaller, or room is made for it."""
MAX_MEASURINGS = 12
MAX_MEASURED = 20_000
PAUSE_NS = 10 * 10**9
"""Between the rounds of bids of one that waits for capacity."""
AGAIN_NS = 10**9
HEALTHY = "healthy"
RUNNING = AllocationState.RUNNING.value


def concerns(state: DeploymentState, node: str) -> bool:
    """Whether a node is one of those that are being added or replaced now."""
    return state.is_updating and node in placed_names(current(state))


def is_stale(state: DeploymentState, event: HealthChanged) -> bool:
    """Whether it is about what had that name before."""
    record = state.allocations.get(event.key)
    return bool(event.id) and record is not None and record.id != event.id


def is_starting(state: DeploymentState, node: str) -> bool:
    """Whether nothing can be heard yet of what is on a node, as it is being started."""
    return concerns(state, node) and current(state).stage is Stage.STARTING


def resumed(state: DeploymentState, at_ns: int) -> Step:
    """After a restart of the orchestrator: what was reserved is given back, what was started is asked for again."""
    if not state.is_updating:
        return state, ()
    if current(state).stage in (Stage.MEASURING, Stage.COMMITTING, Stage.ALLOCATING):
        state = _again(state, at_ns + AGAIN_NS, "interrupted by a restart")
    return state, (*end_left(state), CarryUpdate())


def asked_for(state: DeploymentState, config: EnsembleConfig, both: Both) -> EnsembleConfig:
    """What bids are asked for: the batch, and those that stay and are bound to it. Peers that cannot have any are
    excluded."""
    update = current(state)
    placed = placed_names(update)
    left = [one.bid.peer for one in state.left if one.id.partition("_")[2].partition(".")[0] in placed]
    excluded = tuple(dict.fromkeys((*state.excluded, *update.blamed, *left)))
    homes = {n: bid.peer for n, bid in state.assignment.items() if n not in placed}
    return part_asked(config, both.goal(update), update, homes, excluded)


def on_bids(state: DeploymentState, config: EnsembleConfig, both: Both, event: UpdateBids) -> Step:
    """Choose, have edges measured, or see what can be done without a place."""
    if not _is_at(state, event.round, Stage.BIDDING):
        return state, ()
    update = replace(current(state), heard=event.bids, measurings=0)
    state = with_changes(state, update=update, measured=without_failures(state.measured))
    return _chosen(state, config, both, event.at_ns)


def on_measured(state: DeploymentState, config: EnsembleConfig, both: Both, event: UpdateMeasured) -> Step:
    """More is known of the edges."""
    if not _is_at(state, event.round, Stage.MEASURING):
        return state, ()
    news = {(pair.a, pair.b): pair for pair in (*state.measured, *event.pairs)}
    return _chosen(with_changes(state, measured=tuple(news.values())[-MAX_MEASURED:]), config, both, event.at_ns)


def pairs_to_measure(state: DeploymentState, config: EnsembleConfig, both: Both) -> tuple[tuple[PeerID, PeerID], ...]:
    """The connections on which the best placement rests."""
    result = _assigned(state, config, both)[1]
    return result.pairs if isinstance(result, Measure) else ()


def on_committed(state: DeploymentState, both: Both, event: UpdateCommitted) -> Step:
    """Allocate what was reserved."""
    if not _is_at(state, event.round, Stage.COMMITTING):
        return state, ()
    records = batch_records(state)
    refused = {key: result.error for key, result in sorted(event.results.items()) if not result.ok}
    missing = [record.key for record in records if record.key not in event.results]
    if refused or missing:
        return _failed(state, both, event.at_ns, _why(refused, missing, "no answer"), (*refused, *missing))
    ports = (with_record(record, ports=event.results[record.key].ports) for record in records)
    return _to(with_records(state, *ports), Stage.ALLOCATING)


def on_allocated(state: DeploymentState, both: Both, event: UpdateAllocated) -> Step:
    """Start what was allocated."""
    if not _is_at(state, event.round, Stage.ALLOCATING):
        return state, ()
    records = batch_records(state)
    handles = {id_: handle for result in event.results.values() for id_, handle in result.handles.items()}
    refused = {node: result.error for node, result in sorted(event.results.items()) if not result.ok}
    missing = [record.key for record in records if record.id not in handles]
    if refused or missing:
        return _failed(state, both, event.at_ns, _why(refused, missing, "not allocated"), missing)
    return _to(with_records(state, *(with_record(r, handle=handles[r.id]) for r in records)), Stage.STARTING)


def on_started(state: DeploymentState, config: EnsembleConfig, both: Both, event: UpdateStarted) -> Step:
    """They run; whether they go on to is seen now."""
    if not _is_at(state, event.round, Stage.STARTING):
        return state, ()
    failed = {key: result for key, result in sorted(event.results.items()) if not result.ok}
    missing = [record.key for record in batch_records(state) if record.key not in event.results]
    if failed or missing:
        why = _why({key: result.error for key, result in failed.items()}, () if failed else missing, "not started")
        if any(result.is_hopeless for result in failed.values()):
            return fail(state, both, event.at_ns, why)
        return _failed(state, both, event.at_ns, why, tuple(failed) or missing)
    running = (
        with_record(r, status=RUNNING, error="", started_ns=event.at_ns) for r in batch_records(state) if not r.is_over
    )
    state = with_changes(with_records(state, *running), update=replace(current(state), stage=Stage.VERIFYING))
    ended = next((r for r in batch_records(state) if _is_bad(r)), None)
    if ended is not None:
        return fail(state, both, event.at_ns, _ended_badly(ended))
    return _looked_at(state, config, both, event.at_ns)


def on_ended(
    state: DeploymentState, config: EnsembleConfig, both: Both, record: AllocationRecord, event: AllocationEnded
) -> Step:
    """One of the batch has ended, and its record in ``state`` says how."""
    if current(state).stage not in (Stage.STARTING, Stage.VERIFYING):
        return state, ()
    if event.reason == LOST or event.status == AllocationState.TERMINATED.value:
        why = f"{record.key}: {event.error or 'it was ended'}"
        return _failed(state, both, event.at_ns, why, (record.key,))
    if current(state).stage is Stage.STARTING:
        return state, ()  # its start is still being answered
    if _is_bad(record):
        return fail(state, both, event.at_ns, _ended_badly(record))
    return _looked_at(state, config, both, event.at_ns)


def on_health(state: DeploymentState, config: EnsembleConfig, both: Both, event: HealthChanged) -> Step:
    """A check of one of the batch has found something."""
    record = state.allocations.get(event.key)
    if record is None or record.status != RUNNING or current(state).stage is not Stage.VERIFYING:
        return state, ()
    health = "unhealthy" if event.problem else HEALTHY
    well_ns = {key: since_ns for key, since_ns in current(state).well_ns.items() if key != event.key}
    if not event.problem:
        well_ns[event.key] = current(state).well_ns.get(event.key, event.at_ns)
    state = with_records(state, with_record(record, health=health, health_problem=event.problem))
    state = with_changes(state, update=replace(current(state), well_ns=well_ns))
    if event.is_failure:
        return fail(state, both, event.at_ns, f"{event.key}: unhealthy: {event.problem}")
    return _looked_at(state, config, both, event.at_ns)


def on_due(state: DeploymentState, config: EnsembleConfig, both: Both, event: UpdateDue) -> Step:
    """It is time to look."""
    if _is_at(state, event.round, Stage.STOPPING):
        return _room_made(state, event.at_ns)
    if _is_at(state, event.round, Stage.VERIFYING):
        after, instructions = _looked_at(state, config, both, event.at_ns)
        return after, instructions or (CarryUpdate(),)
    return state, ()


def on_left_ended(state: DeploymentState, at_ns: int) -> Step:
    """Perhaps all has ended that had to end first."""
    update = current(state)
    if update.stage is not Stage.STOPPING:
        return state, ()
    left = {one.id for one in state.left}
    ending = tuple(id_ for id_ in update.ending if id_ in left)
    if ending == update.ending and ending:
        return state, ()
    state = with_changes(state, update=replace(update, ending=ending))
    return (state, ()) if ending else _room_made(state, at_ns)


def on_peer_lost(state: DeploymentState, both: Both, event: PeerLost) -> Step:
    """A machine of the batch is dead."""
    keys = tuple(record.key for record in batch_records(state) if record.peer == event.peer)
    if not keys:
        return state, ()
    return _failed(state, both, event.at_ns, f"{', '.join(keys)}: {event.why or 'its machine is gone'}", keys)


def batch_records(state: DeploymentState) -> tuple[AllocationRecord, ...]:
    """Those of the nodes that are being added or replaced."""
    return tuple(record for own in placed_names(current(state)) for record in records_of(state, own))


# a place for each -----------------------------------------------------------------------------------------------------


def _assigned(state: DeploymentState, config: EnsembleConfig, both: Both) -> tuple[EnsembleConfig, object]:
    part = asked_for(state, config, both)
    excluded = set(part.v1.exclude_peers)
    bids = tuple(bid for bid in current(state).heard if bid.peer not in excluded)
    return part, assign(wishes_of(part), bids, state.measured)


def _chosen(state: DeploymentState, config: EnsembleConfig, both: Both, at_ns: int) -> Step:
    update = current(state)
    _, result = _assigned(state, config, both)
    if isinstance(result, Measure):
        if update.measurings >= MAX_MEASURINGS:
            why = "no placement that keeps the edges was found in time, and none excluded"
            return _unplaceable(state, config, both, at_ns, why)
        update = replace(update, stage=Stage.MEASURING, measurings=update.measurings + 1)
        return with_changes(state, update=update), (CarryUpdate(),)
    if isinstance(result, Unmatched) or not isinstance(result, dict):
        return _unplaceable(state, config, both, at_ns, str(result))
    chosen = {own: result[own] for own in placed_names(update)}
    records = [
        with_record(record, peer=chosen[own].peer)
        for own, node in placed_names(update).items()
        for record in records_at(state, both, own, node)
    ]
    state = with_records(with_changes(state, assignment=state.assignment | chosen), *records)
    return _to(with_changes(state, update=replace(update, heard=())), Stage.COMMITTING)


def _unplaceable(state: DeploymentState, config: EnsembleConfig, both: Both, at_ns: int, why: str) -> Step:
    """There is no place for all of the batch beside what runs."""
    update = current(state)
    if not update.is_back and at_ns < update.terms.queue_until_ns:
        return _again(state, at_ns + PAUSE_NS, why), (CarryUpdate(),)
    if not update.is_back and at_ns >= update.deadline_ns:
        return fail(state, both, at_ns, why)
    if update.failures + 1 < BID_ROUNDS:
        state = with_changes(state, update=replace(update, failures=update.failures + 1))
        return _again(state, at_ns + AGAIN_NS, why), (CarryUpdate(),)
    if len(update.batch) > 1 and not update.terms.batch:
        half = len(update.batch) // 2
        smaller = replace(update, batch=update.batch[:half], size=half, failures=0)
        return _again(with_changes(state, update=smaller), at_ns, why), (CarryUpdate(),)
    makes_room = [node for node in update.batch if _makes_room(state, config, both, node)]
    if makes_room and update.terms.may_stop and not update.is_back:
        state = with_changes(state, update=replace(update, failures=0, why=why))
        return stop(state, makes_room, at_ns)
    return fail(state, both, at_ns, f"no place for {', '.join(update.batch[:5])}: {why}")


def _makes_room(state: DeploymentState, config: EnsembleConfig, both: Both, node: str) -> bool:
    """Whether ending what runs of a node makes room for its successor, which wants no more than that."""
    update = current(state)
    if node not in update.moves.replaced or node in update.stopped or node not in state.assignment:
        return False
    return fits(node_resources(config, node), node_resources(both.goal(update), node))


def _room_made(state: DeploymentState, at_ns: int) -> Step:
    update = replace(current(state), stage=Stage.BIDDING, due_ns=at_ns, ending=())
    return with_changes(state, update=replace(update, round=update.round + 1)), (CarryUpdate(),)


# attempts -------------------------------------------------------------------------------------------------------------


def _failed(state: DeploymentState, both: Both, at_ns: int, why: str, blamed: Iterable[str]) -> Step:
    """This attempt came to nothing; ``blamed`` are allocations whose machines are not asked again."""
    update = current(state)
    peers = [state.allocations[key].peer for key in blamed if key in state.allocations]
    if update.failures + 1 >= MAX_ATTEMPTS or (not update.is_back and at_ns >= update.deadline_ns):
        return fail(state, both, at_ns, why)
    again = replace(update, failures=update.failures + 1, blamed=tuple(dict.fromkeys((*update.blamed, *peers))))
    state = _again(with_changes(state, update=again), at_ns + backoff_ns(update.failures), why)
    return state, (*end_left(state), CarryUpdate())


def _again(state: DeploymentState, due_ns: int, why: str) -> DeploymentState:
    state = without_batch(state)
    update = current(state)
    update = replace(update, stage=Stage.BIDDING, round=update.round + 1, due_ns=due_ns, heard=(), well_ns={})
    return with_changes(state, update=update if update.is_back else replace(update, why=why))


def _looked_at(state: DeploymentState, config: EnsembleConfig, both: Both, at_ns: int) -> Step:
    """Whether the batch was well for long enough; if not yet, when to look again."""
    update = current(state)
    well_ns, waits_for = at_ns, ""
    for record in batch_records(state):
        if record.is_over:
            continue
        check = config.v1.allocations[record.name].healthcheck
        since_ns: int | None = record.started_ns
        if check is not None and check.type:
            since_ns = update.well_ns.get(record.key)
        if since_ns is None:
            waits_for = record.health_problem or f"{record.key} is not known to be well"
            continue
        well_ns = max(well_ns, since_ns + update.terms.healthy_for_ns)
    patience_ns = update.deadline_ns - max(update.begun_ns, update.terms.queue_until_ns)
    started_ns = max((record.started_ns for record in batch_records(state)), default=at_ns)
    limit_ns = min(update.deadline_ns, started_ns + patience_ns)  # what was left of the queue is not for waiting here
    is_late = at_ns >= limit_ns
    if (not waits_for and well_ns <= at_ns) or (is_late and update.is_back):
        return take_over(state, both, at_ns)  # ill as it may be, it is what was there before
    if is_late:
        return fail(state, both, at_ns, f"it was not well in time: {waits_for or 'it did not run for long enough'}")
    due_ns = limit_ns if waits_for else min(well_ns, limit_ns)
    if due_ns == update.due_ns:
        return state, ()
    return with_changes(state, update=replace(update, due_ns=due_ns)), (CarryUpdate(),)


# small steps ----------------------------------------------------------------------------------------------------------


def _is_at(state: DeploymentState, number: int, stage: Stage) -> bool:
    return state.is_updating and current(state).round == number and current(state).stage is stage


def _to(state: DeploymentState, stage: Stage) -> Step:
    return with_changes(state, update=replace(current(state), stage=stage)), (CarryUpdate(),)


def _is_bad(record: AllocationRecord) -> bool:
    """Whether it should not have ended, or not so; a service is not there to end."""
    return record.is_over and (record.status != AllocationState.COMPLETED.value or record.type == SERVICE)


def _ended_badly(record: AllocationRecord) -> str:
    code = "" if record.exit_code is None else f" with exit code {record.exit_code}"
    return f"{record.key}: {record.error or f'it ended{code}'}"


def _why(refused: dict[str, str], missing: Iterable[str], otherwise: str) -> str:
    return "; ".join(f"{key}: {error}" for key, error in refused.items()) or f"{', '.join(missing)}: {otherwise}"
