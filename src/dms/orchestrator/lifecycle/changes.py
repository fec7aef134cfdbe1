"""What several parts of a deployment's machine do to its state: small, pure, and each leaves a whole state."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from dms.allocation.machine import AllocationState
from dms.ensemble.ids import allocation_id
from dms.orchestrator.lifecycle.events import EndLeft, Instruction, Revert
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState, Left
from dms.types.ids import EnsembleID

Step = tuple[DeploymentState, tuple[Instruction, ...]]
Told = TypeVar("Told", bound=msgspec.Struct)


def with_changes(state: DeploymentState, **changes: object) -> DeploymentState:
    """The same state but for some members."""
    return msgspec.structs.replace(state, **changes)


def in_order(told: Told) -> Told:
    """The same as it comes from the disk, where names are sorted: what follows must not depend on who came first."""
    unordered = {
        member: {key: by_name[key] for key in sorted(by_name)}
        for member in told.__struct_fields__
        if isinstance(by_name := getattr(told, member), dict) and list(by_name) != sorted(by_name)
    }
    return msgspec.structs.replace(told, **unordered) if unordered else told


def with_record(record: AllocationRecord, **changes: object) -> AllocationRecord:
    """The same record but for some members."""
    return msgspec.structs.replace(record, **changes)


def with_records(state: DeploymentState, *records: AllocationRecord) -> DeploymentState:
    """The same state with these records in place of those with their keys."""
    return with_changes(state, allocations=state.allocations | {record.key: record for record in records})


def records_of(state: DeploymentState, node: str) -> tuple[AllocationRecord, ...]:
    """Those of one node."""
    return tuple(record for record in state.allocations.values() if record.node_id == node)


def fresh(record: AllocationRecord) -> AllocationRecord:
    """As before it was placed anywhere; how often it was restarted is remembered."""
    return AllocationRecord(
        id=allocation_id(ensemble_of(record), record.node_id, record.name),
        node_id=record.node_id,
        name=record.name,
        type=record.type,
        restarts=record.restarts,
    )


def ensemble_of(record: AllocationRecord) -> EnsembleID:
    """The ensemble of an allocation, out of its id."""
    return EnsembleID(record.id.partition("_")[0])


def leaving(state: DeploymentState, node: str) -> DeploymentState:
    """The machine of a node shall have nothing of it any more; what has ended there is over anyway."""
    bid = state.assignment.get(node)
    if bid is None:
        return state
    known = {(one.id, one.bid.peer) for one in state.left}
    more = [
        Left(id=record.id, bid=bid)
        for record in records_of(state, node)
        if not record.is_over and (record.id, bid.peer) not in known
    ]
    assignment = {name: each for name, each in state.assignment.items() if name != node}
    return with_changes(state, left=(*state.left, *more), assignment=assignment)


def giving_back(state: DeploymentState) -> DeploymentState:
    """All peers of the assignment, and those with remains, owe whatever they have of this deployment."""
    bids = (*state.owed, *(one.bid for one in state.left), *(bid for _, bid in sorted(state.assignment.items())))
    owed = {bid.peer: bid for bid in bids}
    return with_changes(state, owed=tuple(bid for _, bid in sorted(owed.items())), left=(), placements={})


def revert_owed(state: DeploymentState) -> tuple[Instruction, ...]:
    """What tells the peers that owe."""
    return (Revert(state.owed),) if state.owed else ()


def end_left(state: DeploymentState) -> tuple[Instruction, ...]:
    """What tells the peers with remains."""
    return (EndLeft(),) if state.left else ()


def unassigned(state: DeploymentState) -> DeploymentState:
    """Back to the beginning: nothing is reserved anywhere and nothing has run."""
    records = {key: fresh(record) for key, record in state.allocations.items() if not record.is_standby}
    return with_changes(state, assignment={}, allocations=records, network=None)


def failures_of(state: DeploymentState) -> list[str]:
    """What is wrong now, allocation by allocation."""
    failed = AllocationState.FAILED.value
    return [
        f"{record.key}: {record.error}"
        for record in state.allocations.values()
        if record.status == failed or (record.error and not record.is_over)
    ]
