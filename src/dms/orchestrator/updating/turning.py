"""The turning points of an update, decided: it begins, a batch takes over, it is done, or all of it is taken back; pure.

What runs is touched at these points only, and each of them is one step of the deployment's machine: after a crash it has
happened or it has not. What shall not be anywhere any more goes to ``state.left``, where it stays until its machine has
said that it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from dms.allocation.machine import AllocationState
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.ids import allocation_id, allocation_key
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
from dms.orchestrator.lifecycle.events import (
    CarryUpdate,
    FetchLogs,
    Instruction,
    Place,
    PlaceStandbys,
    UpdateRequested,
)
from dms.orchestrator.lifecycle.standby import all_standbys
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState, Left, Phase, Placement
from dms.orchestrator.updating.merging import alias, placed_names, plain
from dms.orchestrator.updating.moves import has_data
from dms.orchestrator.updating.state import Outcome, Stage, Update
from dms.orchestrator.updating.versions import decided, requested, succeeded
from dms.types.ids import PeerID

STOP_WAIT_NS = 30 * 10**9
"""What is told to end and says nothing is waited for no longer: its machine is gone, or will hear of it."""
BACK_PATIENCE_NS = 600 * 10**9
"""The longest that the way back waits for the old version to be well; after that it is there as it is."""
ROUNDS_PER_UPDATE = 1000
"""Placements after an update are numbered from there on, so that no answer to an earlier one is taken for theirs."""


@dataclass(frozen=True, slots=True)
class Both:
    """The ensemble as it was, and as it is to be; expanded."""

    old: EnsembleConfig
    new: EnsembleConfig

    def goal(self, update: Update) -> EnsembleConfig:
        """Where the update is heading: back, if it is being undone."""
        return self.old if update.is_back else self.new


def begin(state: DeploymentState, event: UpdateRequested, both: Both) -> Step:
    """A new version is wanted. One at a time, each once, and of what it was worked out for."""
    if state.phase is not Phase.RUNNING or state.update is not None:
        return state, ()
    if event.base != state.version or any(version.request == event.request for version in state.versions):
        return state, ()
    state, number = requested(state, event)
    update = Update(
        version=number,
        serial=state.updates + 1,
        ensemble=ensemble_of(next(iter(state.allocations.values()))),
        begun_ns=event.at_ns,
        deadline_ns=event.deadline_ns,
        moves=event.moves,
        terms=event.terms,
        request=event.request,
    )
    return next_batch(with_changes(state, update=update, updates=state.updates + 1), both, event.at_ns)


def next_batch(state: DeploymentState, both: Both, at_ns: int) -> Step:
    """Go on with the next nodes; when none is left the update is done, or undone."""
    update = current(state)
    moves, switched = update.moves, set(update.switched)
    todo = update.switched if update.is_back else tuple(n for n in (*moves.added, *moves.replaced) if n not in switched)
    beside = [node for node in todo if node not in moves.stops]
    size = min(update.terms.batch or len(todo), update.size or len(todo))
    batch = tuple(beside[:size]) if beside else todo[: update.terms.batch or 1]
    update = replace(
        update, batch=batch, stopped={}, ending=(), stage=Stage.BIDDING, round=update.round + 1, due_ns=at_ns
    )
    update = replace(update, failures=0, blamed=(), heard=(), measurings=0, well_ns={})
    state = with_changes(state, update=update)
    if not batch:
        return _undone(state, at_ns) if update.is_back else _done(state, both, at_ns)
    if not beside:
        return stop(state, batch, at_ns)
    return state, (CarryUpdate(),)


def stop(state: DeploymentState, nodes: Iterable[str], at_ns: int) -> Step:
    """End what these nodes of the batch replace before that runs."""
    update, ending = current(state), list(current(state).ending)
    homes = dict(update.stopped)
    for node in nodes:
        why = update.moves.stops.get(node, "there is no room beside it")
        bid = state.assignment.get(node)
        homes[node] = bid.peer if bid is not None else PeerID("")
        open_records = [record for record in records_of(state, node) if not record.is_over]
        ending += [record.id for record in open_records if bid is not None]
        waiting = [_waiting(fresh(record), f"ended before its successor starts: {why}") for record in open_records]
        state = with_records(_unplaced(_leaving(state, node), node), *waiting)
    update = replace(
        update,
        stopped=homes,
        ending=tuple(ending),
        stage=Stage.STOPPING,
        round=update.round + 1,
        due_ns=at_ns + STOP_WAIT_NS,
    )
    return with_changes(state, update=update), (*end_left(state), CarryUpdate())


def take_over(state: DeploymentState, both: Both, at_ns: int) -> Step:
    """The batch is well: it takes the names of what it replaces, and that is ended."""
    update = current(state)
    for own, node in placed_names(update).items():
        if own != node:
            state = _handed_over(state, both, own, node)
    over = tuple(FetchLogs(r.key) for node in update.batch for r in records_of(state, node) if r.is_over)
    batch = set(update.batch)
    switched = (
        tuple(node for node in update.switched if node not in batch)
        if update.is_back
        else (*update.switched, *update.batch)
    )
    state = with_changes(state, update=replace(update, switched=switched, batch=()))
    state, instructions = next_batch(state, both, at_ns)
    return state, _once((*end_left(state), *over, *instructions))


def fail(state: DeploymentState, both: Both, at_ns: int, why: str, *, is_cancelled: bool = False) -> Step:
    """The update, or its way back, cannot go on as it should."""
    if current(state).is_back:
        return _fallen_back(state, both, at_ns, why)
    return _turned_back(state, both, at_ns, why, is_cancelled=is_cancelled)


def without_batch(state: DeploymentState) -> DeploymentState:
    """Whatever was begun for the batch is to end."""
    for own in placed_names(current(state)):
        state = _ended(state, own)
    return state


def abandon(state: DeploymentState, both: Both, at_ns: int) -> DeploymentState:
    """The deployment does not run any more: it ends as it is, or begins anew as it was before the update."""
    update = current(state)
    state = decided(state, update.version, Outcome.CANCELLED, at_ns, f"the deployment is {state.phase.value} meanwhile")
    if state.phase.is_creating:
        records = [record for node in both.old.v1.nodes for record in _begun(state, both.old, node)]
        return with_changes(state, allocations={record.key: record for record in records}, update=None)
    if state.phase is Phase.SHUTTING_DOWN:
        # only reserved: nothing can be ended there, and more than this may be on these machines
        for own in placed_names(update):
            if any(record.handle is None for record in records_of(state, own)):
                state = _ended(state, own)
    return state


def current(state: DeploymentState) -> Update:
    """The update that is under way."""
    assert state.update is not None
    return state.update


def records_at(state: DeploymentState, both: Both, own: str, node: str) -> Iterator[AllocationRecord]:
    """What a node of the batch has, placed nowhere yet."""
    update = current(state)
    goal = both.goal(update).v1
    for name in goal.nodes[node].allocations:
        placed = name if own == node else alias(name, update.serial)
        yield AllocationRecord(
            id=allocation_id(update.ensemble, own, placed), node_id=own, name=placed, type=goal.allocations[name].type
        )


# the ways of an update to end -----------------------------------------------------------------------------------------


def _done(state: DeploymentState, both: Both, at_ns: int) -> Step:
    """All of the new version is well: what it does not have any more ends, and it is in force."""
    wanted = {*both.new.v1.nodes, *all_standbys(both.new)}
    known = {record.node_id for record in state.allocations.values()} | set(state.placements)
    for node in sorted(known - wanted):
        state = _ended(state, node)
    state = with_changes(succeeded(state, current(state).version, at_ns), update=None)
    return state, (*end_left(state), CarryUpdate(), PlaceStandbys())


def _undone(state: DeploymentState, at_ns: int) -> Step:
    update = current(state)
    outcome = Outcome.CANCELLED if update.is_cancelled else Outcome.REVERTED
    state = with_changes(decided(state, update.version, outcome, at_ns, update.why), update=None)
    return state, (*end_left(state), CarryUpdate(), PlaceStandbys())


def _turned_back(state: DeploymentState, both: Both, at_ns: int, why: str, *, is_cancelled: bool) -> Step:
    """What was added ends; what was replaced already is replaced again, by what it was."""
    update, instructions = current(state), list[Instruction]()
    state = without_batch(state)
    for node, home in update.stopped.items():
        state, more = _placed_again(state, both, node, home, at_ns, why)
        instructions += more
    added = set(update.moves.added)
    for node in update.switched:
        if node in added:
            state = _ended(state, node)
    back = replace(
        update,
        is_back=True,
        serial=state.updates + 1,
        why=why,
        is_cancelled=is_cancelled,
        begun_ns=at_ns,
        deadline_ns=at_ns + min(BACK_PATIENCE_NS, update.deadline_ns - update.begun_ns),
        terms=replace(update.terms, queue_until_ns=0),
        switched=tuple(node for node in update.switched if node not in added),
        size=0,
    )
    state = with_changes(state, update=back, updates=state.updates + 1)
    state, more = next_batch(state, both, at_ns)
    return state, _once((*end_left(state), *instructions, *more))


def _fallen_back(state: DeploymentState, both: Both, at_ns: int, why: str) -> Step:
    """What it was finds no place beside what it has become: that ends at once, and recovery places the other."""
    update, instructions = current(state), list[Instruction]()
    state = without_batch(state)
    for node in update.batch:
        bid = state.assignment.get(node)
        home = update.stopped.get(node) or (bid.peer if bid is not None else PeerID(""))
        state, more = _placed_again(_ended(state, node), both, node, home, at_ns, why)
        instructions += more
    batch = set(update.batch)
    left = tuple(node for node in update.switched if node not in batch)
    state = with_changes(state, update=replace(update, switched=left, batch=()))
    state, more = next_batch(state, both, at_ns)
    return state, _once((*end_left(state), *instructions, *more))


# small steps ----------------------------------------------------------------------------------------------------------


def _handed_over(state: DeploymentState, both: Both, own: str, node: str) -> DeploymentState:
    """What runs as ``own`` is ``node`` now, and what was that ends with its standbys."""
    update = current(state)
    names = {alias(name, update.serial): name for name in both.goal(update).v1.nodes[node].allocations}
    bid, records = state.assignment[own], records_of(state, own)
    for each in (node, *(r.node_id for r in state.allocations.values() if r.standby_for == node)):
        state = _ended(state, each)
    kept = {key: record for key, record in state.allocations.items() if record.node_id != own}
    moved = [with_record(record, node_id=node, name=names[record.name]) for record in records]
    tries = {name: each for name, each in state.tries.items() if name not in _rungs_of(node, moved)}
    assignment = {name: each for name, each in state.assignment.items() if name != own} | {node: bid}
    return with_records(with_changes(state, allocations=kept, assignment=assignment, tries=tries), *moved)


def _rungs_of(node: str, records: Iterable[AllocationRecord]) -> set[str]:
    return {f"node {node}", *(f"allocation {record.key}" for record in records)}


def _placed_again(
    state: DeploymentState, both: Both, node: str, home: PeerID, at_ns: int, why: str
) -> tuple[DeploymentState, tuple[Instruction, ...]]:
    """Recovery places a node of the old version; where its data is, if it has any."""
    kept = records_of(state, node)
    records = kept or tuple(_begun(state, both.old, node))
    waiting = [_waiting(fresh(record), why) for record in records if not record.is_over]
    placement = Placement(
        due_ns=at_ns,
        round=state.updates * ROUNDS_PER_UPDATE + 1,
        why=why,
        only=home if has_data(both.old.v1, node) else PeerID(""),
    )
    state = with_records(with_changes(state, placements=state.placements | {node: placement}), *waiting)
    return state, (Place(node),)


def _ended(state: DeploymentState, node: str) -> DeploymentState:
    """There shall be nothing of a node any more; what was given up as lost may be there all the same."""
    state = _unplaced(_leaving(state, node), node)
    kept = {key: record for key, record in state.allocations.items() if record.node_id != node}
    return with_changes(state, allocations=kept)


def _leaving(state: DeploymentState, node: str) -> DeploymentState:
    """Its machine shall have nothing of a node any more, and what it wrote is kept here: also of what has ended there."""
    update, bid = current(state), state.assignment.get(node)
    if bid is None:
        return state
    batch = placed_names(update)
    is_latest = not update.is_back if node in batch else node in update.switched
    version = update.version if is_latest else state.version
    home, serial = batch.get(node, node), update.serial if batch.get(node, node) != node else 0
    known = {(one.id, one.bid.peer) for one in state.left}
    new = [
        Left(id=record.id, bid=bid, version=version, key=allocation_key(home, plain(record.name, serial)))
        for record in records_of(state, node)
        if record.handle is not None and (record.id, bid.peer) not in known
    ]
    told = {(one.id, one.bid.peer) for one in new}
    left = [one for one in leaving(state, node).left if (one.id, one.bid.peer) not in told]
    return with_changes(leaving(state, node), left=(*left, *new))


def _unplaced(state: DeploymentState, node: str) -> DeploymentState:
    if node not in state.placements:
        return state
    return with_changes(state, placements={name: each for name, each in state.placements.items() if name != node})


def _begun(state: DeploymentState, config: EnsembleConfig, node: str) -> Iterator[AllocationRecord]:
    for name in config.v1.nodes[node].allocations:
        id_, type_ = allocation_id(current(state).ensemble, node, name), config.v1.allocations[name].type
        yield AllocationRecord(id=id_, node_id=node, name=name, type=type_)


def _waiting(record: AllocationRecord, why: str) -> AllocationRecord:
    return with_record(record, status=AllocationState.PENDING.value, error=why)


def _once(instructions: Iterable[Any]) -> tuple[Instruction, ...]:
    return tuple(dict.fromkeys(instructions))
