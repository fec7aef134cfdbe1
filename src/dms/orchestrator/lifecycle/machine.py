"""The deployment as a pure state machine: events in, new state and instructions out (``spec/orchestration.md`` 5.3).

::

    Preparing ─▶ Generating ─▶ Committing ─▶ Provisioning ─▶ Running ─▶ Completed / Failed
        ▲             │             │              │             │
        └──── no match, refusal, failure: revert ──┘             ▼
        (until the deadline, then Failed)                  ShuttingDown ─▶ Completed

The shell writes each event and the state that follows from it to disk in one transaction *before* it carries out the
instructions, so that after a crash :func:`resume` tells what is still to be done. Every instruction may therefore be
carried out twice; providers take it the same way. Peers that must give something back stay in the state
(``owed``) until they said that they did.

While it runs it may become another version of itself: :mod:`dms.orchestrator.updating.machine`.
"""

from __future__ import annotations

from collections.abc import Iterable

from dms.allocation.machine import AllocationState
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.ids import allocation_id
from dms.orchestrator.bidding.assignment import Measure, assign
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.measured import without_failures
from dms.orchestrator.bidding.wishes import wishes_of
from dms.orchestrator.lifecycle.changes import (
    Step,
    end_left,
    failures_of,
    giving_back,
    in_order,
    leaving,
    revert_owed,
    unassigned,
    with_changes,
    with_record,
)
from dms.orchestrator.lifecycle.events import (
    Allocate,
    AllocatesDone,
    AllocationEnded,
    Begun,
    BidsCollected,
    CollectBids,
    Commit,
    CommitsDone,
    EdgesMeasured,
    EndLost,
    Event,
    FetchLogs,
    Finish,
    GivenUp,
    HealthChanged,
    Instruction,
    LeftEnded,
    MeasureEdges,
    NodeAllocated,
    NodeBids,
    NodeCommitted,
    NodeMeasured,
    NodeStarted,
    PeerLost,
    PlaceStandbys,
    RestartRequested,
    RestartsDone,
    Reverted,
    Settled,
    ShutdownAll,
    ShutdownDone,
    ShutdownRequested,
    StandbysWanted,
    StartAll,
    StartsDone,
    Supervise,
)
from dms.orchestrator.lifecycle.placing import (
    on_node_allocated,
    on_node_bids,
    on_node_committed,
    on_node_measured,
)
from dms.orchestrator.lifecycle.recovery import (
    on_health,
    on_left_ended,
    on_node_started,
    on_peer_lost,
    on_restart_requested,
    on_restarts,
    place_standbys,
    promote_waiting,
    recover,
    recover_failed,
    resumed,
)
from dms.orchestrator.lifecycle.state import LOST, AllocationRecord, DeploymentState, Network, Phase
from dms.orchestrator.lifecycle.strategies import is_restartable
from dms.orchestrator.matching import Unmatched
from dms.orchestrator.private_network.plan import addressed
from dms.orchestrator.scheduling import queueing
from dms.orchestrator.updating import machine as updating
from dms.orchestrator.updating import rollout
from dms.orchestrator.updating.turning import Both, abandon
from dms.types.ids import EnsembleID

MAX_PROVISION_ATTEMPTS = 3
"""Starting may fail for a reason of one machine; after this many machines it is the ensemble's fault."""

BID_WINDOW_S = 5.0
MAX_MEASURINGS = 12
"""Of one round of bids: each tells more, and the first usually enough."""
MAX_MEASURED = 20_000
NS_PER_S = 10**9


def begin(ensemble: EnsembleID, config: EnsembleConfig, *, now_ns: int, deadline_ns: int) -> DeploymentState:
    """The state before anything happened."""
    records = {}
    for node_id, node in sorted(config.v1.nodes.items()):
        for name in node.allocations:
            record = AllocationRecord(
                id=allocation_id(ensemble, node_id, name),
                node_id=node_id,
                name=name,
                type=config.v1.allocations[name].type,
            )
            records[record.key] = record
    return DeploymentState(
        phase=Phase.PREPARING, deadline_ns=deadline_ns, created_ns=now_ns, updated_ns=now_ns, allocations=records
    )


def step(state: DeploymentState, config: EnsembleConfig, event: Event, both: Both | None = None) -> Step:
    """Apply one event. What comes late, twice or does not fit the phase changes nothing.

    :param both: the two versions of the ensemble, while it becomes another one; ``config`` is what of them is in force.
    """
    if state.is_settled:
        return state, ()
    both = both or Both(config, config)
    before = in_order(state)
    after, instructions = _step(before, config, in_order(event), both)
    if before.is_updating and after.phase is not Phase.RUNNING and after.update is not None:
        after = abandon(after, both, event.at_ns)
    if after is before:
        return state, instructions
    after = addressed(after, config)
    return queueing.stamped(with_changes(after, updated_ns=event.at_ns), event.at_ns), instructions


def resume(state: DeploymentState, now_ns: int) -> Step:
    """After a restart: what is to be done from the stored state on (``spec/orchestration.md`` 7.2)."""
    owed = revert_owed(state)
    match state.phase:
        case Phase.PREPARING | Phase.GENERATING:
            why = state.error if queueing.is_queued(state) else "interrupted by a restart"
            after, instructions = _next_round(state, now_ns, why)
            return after, instructions if after.phase.is_final else (*owed, *instructions)
        case Phase.COMMITTING:
            return _retry(state, now_ns, "interrupted by a restart", blamed=())
        case Phase.PROVISIONING:
            after, restarts = resumed(state, now_ns)
            return after, (*owed, StartAll(), *restarts)
        case Phase.RUNNING:
            after, instructions = resumed(state, now_ns)
            after, updates = rollout.resumed(after, now_ns)
            return after, tuple(dict.fromkeys((*owed, *instructions, *updates, Supervise(), PlaceStandbys())))
        case Phase.SHUTTING_DOWN:
            return state, (ShutdownAll(),)
        case _ if not state.is_settled:
            lost = tuple(EndLost(key) for key, record in state.allocations.items() if record.reason == LOST)
            return state, (*owed, *end_left(state), *lost, Finish())
        case _:
            return state, ()


def _step(state: DeploymentState, config: EnsembleConfig, event: Event, both: Both) -> Step:
    phase = state.phase
    match event:
        case Reverted():
            owed = tuple(bid for bid in state.owed if bid.peer not in event.peers)
            return (state if owed == state.owed else with_changes(state, owed=owed)), ()
        case Settled() if phase.is_final:
            return with_changes(state, is_settled=True), ()
        case LeftEnded() if phase.is_final:
            return on_left_ended(state, event)
        case _ if phase.is_final:
            return state, ()
        case Begun() if phase is Phase.PREPARING and not state.round:
            if event.at_ns + int(BID_WINDOW_S * NS_PER_S) > state.deadline_ns:
                return _fail(state, event.at_ns, "failed to create deployment: no time is left until its deadline")
            return with_changes(state, round=1), (*queueing.turn(state, event.at_ns), CollectBids(1))
        case BidsCollected() if phase is Phase.PREPARING and event.round == state.round:
            return _on_bids(state, config, event)
        case EdgesMeasured() if phase is Phase.GENERATING and event.round == state.round:
            return _on_measured(state, config, event)
        case CommitsDone() if phase is Phase.COMMITTING:
            return _on_commits(state, event)
        case AllocatesDone() if phase is Phase.COMMITTING:
            return _on_allocates(state, event)
        case StartsDone() if phase is Phase.PROVISIONING:
            return _on_starts(state, config, event)
        case HealthChanged() if phase is Phase.PROVISIONING:
            return on_health(state, config, event)
        case RestartsDone() if phase is Phase.PROVISIONING:
            (after, instructions), down = on_restarts(state, config, event)
            return after, (*instructions, *(each for key in down for each in (FetchLogs(key), EndLost(key))))
        case AllocationEnded():
            return _on_ended(state, config, event, both)
        case LeftEnded():
            after, instructions = on_left_ended(state, event)
            return rollout.on_left_ended(after, event.at_ns) if after.is_updating else (after, instructions)
        case ShutdownRequested() if phase is not Phase.SHUTTING_DOWN:
            return with_changes(state, phase=Phase.SHUTTING_DOWN, placements={}), (ShutdownAll(),)
        case ShutdownDone() if phase is Phase.SHUTTING_DOWN:
            return _on_shutdown(state, event)
        case GivenUp():
            return _fail(state, event.at_ns, event.error, ended_by="its orchestrator was given up")
        case _ if phase is Phase.RUNNING:
            return _while_running(state, config, event, both)
        case _:
            return state, ()


def _while_running(state: DeploymentState, config: EnsembleConfig, event: Event, both: Both) -> Step:
    """What supervision and recovery are told, and an update; see :mod:`dms.orchestrator.lifecycle.recovery`."""
    if isinstance(event, HealthChanged) and rollout.is_stale(state, event):
        return state, ()
    updated = updating.step(state, config, both, event)
    if updated is not None:
        return updated if updated[0] is state else _conclude(updated[0], event.at_ns, updated[1])
    down: tuple[str, ...] = ()
    match event:
        case HealthChanged():
            after, instructions = on_health(state, config, event)
        case RestartRequested():
            return on_restart_requested(state, event)
        case RestartsDone():
            (after, instructions), down = on_restarts(state, config, event)
        case PeerLost():
            after, ends = rollout.on_peer_lost(state, both, event) if state.is_updating else (state, ())
            after, instructions = on_peer_lost(after, config, event)
            instructions = tuple(dict.fromkeys((*ends, *instructions)))
        case StandbysWanted() if state.update is None:
            after, instructions = place_standbys(state, config, event.at_ns)
        case NodeBids():
            after, instructions = on_node_bids(state, config, event)
        case NodeMeasured():
            after, instructions = on_node_measured(state, config, event)
        case NodeCommitted():
            after, instructions = on_node_committed(state, config, event)
        case NodeAllocated():
            after, instructions = on_node_allocated(state, config, event)
        case NodeStarted():
            after, instructions = on_node_started(state, config, event)
        case _:
            return state, ()
    if after is state:
        return state, instructions
    after, promotions = promote_waiting(after, config, event.at_ns)
    instructions = tuple(dict.fromkeys((*instructions, *promotions)))
    follow = tuple(each for key in down for each in (FetchLogs(key), EndLost(key)))
    return _conclude(after, event.at_ns, (*instructions, *follow))


def _on_bids(state: DeploymentState, config: EnsembleConfig, event: BidsCollected) -> Step:
    if event.gives_way:
        return _next_round(state, event.at_ns, state.error or "others wait for the same longer")
    measured = without_failures(state.measured)
    return _assigned(with_changes(state, measurings=0, measured=measured), config, event.bids, event.at_ns)


def _on_measured(state: DeploymentState, config: EnsembleConfig, event: EdgesMeasured) -> Step:
    news = {(pair.a, pair.b): pair for pair in (*state.measured, *event.pairs)}
    measured = tuple(news.values())[-MAX_MEASURED:]
    return _assigned(with_changes(state, measured=measured), config, state.heard, event.at_ns)


def _assigned(state: DeploymentState, config: EnsembleConfig, bids: tuple[Bid, ...], at_ns: int) -> Step:
    result = assign(wishes_of(config), bids, state.measured)
    state = with_changes(state, heard=())
    if isinstance(result, Measure):
        if state.measurings >= MAX_MEASURINGS:
            return _next_round(state, at_ns, "no placement that keeps the edges was found in time, and none excluded")
        measuring = with_changes(state, phase=Phase.GENERATING, heard=bids, measurings=state.measurings + 1)
        return measuring, (MeasureEdges(state.round, result.pairs),)
    if isinstance(result, Unmatched):
        return _next_round(state, at_ns, str(result))
    records = {key: with_record(record, peer=result[record.node_id].peer) for key, record in state.allocations.items()}
    peers = {bid.peer for bid in result.values()}
    chosen = with_changes(
        state,
        phase=Phase.COMMITTING,
        assignment=dict(result),
        allocations=records,
        error="",
        # whoever hosts again takes what it still has of us for what it is asked for now
        owed=tuple(bid for bid in state.owed if bid.peer not in peers),
    )
    return chosen, (Commit(),)


def _on_commits(state: DeploymentState, event: CommitsDone) -> Step:
    refused = {key: r.error for key, r in sorted(event.results.items()) if not r.ok}
    missing = [key for key in state.allocations if key not in event.results]
    if refused or missing:
        why = "; ".join(f"{key}: {error}" for key, error in refused.items()) or f"{', '.join(missing)}: no answer"
        return _retry(state, event.at_ns, why, blamed=(*refused, *missing))
    records = {key: with_record(record, ports=event.results[key].ports) for key, record in state.allocations.items()}
    return with_changes(state, allocations=records), (Allocate(),)


def _on_allocates(state: DeploymentState, event: AllocatesDone) -> Step:
    failed = {node: r.error for node, r in sorted(event.results.items()) if not r.ok}
    handles = {id_: handle for r in event.results.values() for id_, handle in r.handles.items()}
    missing = [record.key for record in state.allocations.values() if record.id not in handles]
    if failed or missing:
        why = "; ".join(f"{node}: {error}" for node, error in failed.items()) or f"{', '.join(missing)}: not allocated"
        blamed = [key for key, record in state.allocations.items() if record.node_id in failed] or missing
        return _retry(state, event.at_ns, why, blamed=blamed)
    records = {key: with_record(record, handle=handles[record.id]) for key, record in state.allocations.items()}
    provisioning = with_changes(
        state,
        phase=Phase.PROVISIONING,
        allocations=records,
        attempts=state.attempts + 1,
        network=Network(cidr=event.network) if event.network else None,
    )
    return provisioning, (StartAll(),)


def _on_starts(state: DeploymentState, config: EnsembleConfig, event: StartsDone) -> Step:
    failed = {key: r for key, r in sorted(event.results.items()) if not r.ok}
    missing = [key for key in state.allocations if key not in event.results]
    if failed or missing:
        why = "; ".join(f"{key}: {r.error}" for key, r in failed.items()) or f"{', '.join(missing)}: not started"
        if any(r.is_hopeless for r in failed.values()) or state.attempts >= MAX_PROVISION_ATTEMPTS:
            return _fail(state, event.at_ns, f"failed to provision deployment: {why}")
        return _retry(state, event.at_ns, why, blamed=tuple(failed) or missing)
    records = {
        key: with_record(record, started_ns=record.ended_ns)
        if record.is_over
        else record
        if record.due_ns
        else with_record(record, status=AllocationState.RUNNING.value, started_ns=event.at_ns)
        for key, record in state.allocations.items()
    }
    running = with_changes(state, phase=Phase.RUNNING, allocations=records, error="")
    running, waiting = place_standbys(running, config, event.at_ns)
    running, again = recover_failed(running, config, running.allocations, event.at_ns)
    return _conclude(running, event.at_ns, (Supervise(), *waiting, *again))


def _on_ended(state: DeploymentState, config: EnsembleConfig, event: AllocationEnded, both: Both) -> Step:
    record = state.allocations.get(event.key)
    if record is None or record.is_over or record.handle is None:
        return state, ()
    if not AllocationState(event.status).is_final or _is_stale(record, event):
        return state, ()
    is_bad = event.status != AllocationState.COMPLETED.value
    is_new = rollout.concerns(state, record.node_id)
    is_held = record.node_id in state.placements and event.reason != LOST
    if state.phase in (Phase.PROVISIONING, Phase.RUNNING) and is_bad and not is_new and not is_held:
        is_lost = event.reason == LOST or event.status == AllocationState.TERMINATED.value
        why = event.error or f"it is {event.status}"
        recovered = recover(state, config, event.key, event.at_ns, why, is_lost=is_lost)
        if recovered is not None:
            return _conclude(recovered[0], event.at_ns, recovered[1])
    ended = with_record(
        record,
        status=event.status,
        error=event.error,
        reason=event.reason,
        exit_code=event.exit_code,
        ended_ns=event.at_ns,
        due_ns=0,
    )
    after = with_changes(state, allocations=state.allocations | {event.key: ended})
    if is_new:
        after, instructions = rollout.on_ended(after, config, both, ended, event)
        return _conclude(after, event.at_ns, instructions)
    follow: tuple[Instruction, ...] = (FetchLogs(event.key),)
    if event.reason == LOST or (event.status == AllocationState.FAILED.value and _is_held(config, record)):
        follow = (*follow, EndLost(event.key))
    if state.phase is not Phase.RUNNING:
        return after, follow
    return _conclude(after, event.at_ns, follow)


def _is_held(config: EnsembleConfig, record: AllocationRecord) -> bool:
    """Whether its provider keeps its place after a failure, until it is told."""
    return not record.is_standby and is_restartable(config, record.node_id, record.name)


def _is_stale(record: AllocationRecord, event: AllocationEnded) -> bool:
    """Whether it is about an execution that is over for us already."""
    if event.id and event.id != record.id:
        return True
    if event.reason == LOST:
        return False
    return event.execution < record.execution if event.execution else bool(record.due_ns)


def _on_shutdown(state: DeploymentState, event: ShutdownDone) -> Step:
    records = {
        key: record
        if record.is_over
        else with_record(
            record,
            status=AllocationState.TERMINATED.value,
            ended_ns=event.at_ns,
            error=f"its outputs are lost: {event.lost[key]}" if key in event.lost else record.error,
        )
        for key, record in state.allocations.items()
    }
    unreached = [f"could not reach {', '.join(event.unreached)}"] if event.unreached else []
    ended = with_changes(state, allocations=records)
    teardown = [f"torn down: {state.teardown}"] if state.teardown else []
    error = "; ".join([*teardown, *failures_of(ended), *unreached])
    phase = Phase.FAILED if state.teardown else Phase.COMPLETED
    done = with_changes(ended, phase=phase, error=error, completed_ns=event.at_ns)
    return done, (*revert_owed(done), *end_left(done), Finish())


def _conclude(state: DeploymentState, at_ns: int, instructions: tuple[Instruction, ...]) -> Step:
    """When everything has ended the deployment has: truthfully, as failed if any part of it failed."""
    if state.phase is not Phase.RUNNING:
        return state, instructions  # it escalated
    failed = failures_of(state)
    error = "; ".join(failed)
    if state.update or not all(r.is_over for r in state.allocations.values() if not r.is_standby):
        return (state if error == state.error else with_changes(state, error=error)), instructions
    for node in [record.node_id for record in state.allocations.values() if record.is_standby]:
        state = leaving(state, node)
    records = {
        key: with_record(record, status=AllocationState.TERMINATED.value, ended_ns=at_ns)
        if record.is_standby
        else record
        for key, record in state.allocations.items()
    }
    phase = Phase.FAILED if failed else Phase.COMPLETED
    ended = with_changes(state, phase=phase, error=error, completed_ns=at_ns, allocations=records, placements={})
    kept = tuple(i for i in instructions if isinstance(i, FetchLogs | EndLost))
    return ended, (*kept, *revert_owed(ended), *end_left(ended), Finish())


def _next_round(state: DeploymentState, at_ns: int, why: str) -> Step:
    is_over = queueing.is_over(state, at_ns)
    if is_over or (at_ns + int(BID_WINDOW_S * NS_PER_S) > state.deadline_ns and not queueing.may_wait(state, at_ns)):
        why = f"{queueing.waited(state, at_ns)}: {why}" if is_over else why
        if state.trouble and state.trouble != why:
            why = f"{why}; before that {state.trouble}"
        return _fail(state, at_ns, f"failed to create deployment: {why}")
    again = with_changes(unassigned(state), phase=Phase.PREPARING, round=state.round + 1, error=why)
    return queueing.waiting(state, again, at_ns), (*queueing.turn(again, at_ns), CollectBids(again.round))


def _retry(state: DeploymentState, at_ns: int, why: str, *, blamed: Iterable[str]) -> Step:
    peers = {str(state.allocations[key].peer) for key in blamed if key in state.allocations}
    failures = dict(state.failures)
    for peer in peers - {""}:
        failures[peer] = failures.get(peer, 0) + 1
    trouble = why if peers else state.trouble
    after, instructions = _next_round(giving_back(with_changes(state, failures=failures, trouble=trouble)), at_ns, why)
    if after.phase.is_final:
        return after, instructions
    return after, (*revert_owed(after), *instructions)


def _fail(state: DeploymentState, at_ns: int, error: str, *, ended_by: str = "not deployed") -> Step:
    state = giving_back(state)
    records = {
        key: record
        if record.is_over
        else with_record(record, status=AllocationState.FAILED.value, error=ended_by, ended_ns=at_ns)
        for key, record in state.allocations.items()
    }
    failed = with_changes(state, phase=Phase.FAILED, error=error, completed_ns=at_ns, allocations=records)
    return failed, (*revert_owed(failed), Finish())
