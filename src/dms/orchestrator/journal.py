"""What is kept of deployments: the present state of each, and every event that led to it (``spec/orchestration.md`` 7.1).

Both are written in one transaction which is on disk before the deployment goes on. The journal is what users read as
the deployment's events, and what a restart begins with is the state.
"""

from __future__ import annotations

from dataclasses import dataclass

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.effects import describe_bid
from dms.orchestrator.machine import (
    AllocatesDone,
    AllocationEnded,
    Begun,
    BidsCollected,
    CommitsDone,
    Event,
    ShutdownDone,
    ShutdownRequested,
    StartsDone,
)
from dms.orchestrator.state import DeploymentState
from dms.store import DeploymentJournal, Documents, JournalEntry, Session, Store
from dms.store.schema import deployment_journal
from dms.store.schema import deployments as table
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID

__all__ = ["DeploymentRecord", "Journal", "JournalEntry"]


class DeploymentRecord(Wire):
    """One deployment as stored; ``status`` repeats the phase so that it can be queried."""

    id: EnsembleID
    status: str
    created_ns: int
    updated_ns: int
    completed_ns: int
    metadata: dict[str, str]
    config: EnsembleConfig
    state: DeploymentState


@dataclass(frozen=True, slots=True)
class Journal:
    """The deployments of this node on disk."""

    store: Store

    async def write(
        self,
        ensemble: EnsembleID,
        config: EnsembleConfig,
        state: DeploymentState | None,
        kind: str,
        detail: dict[str, object],
    ) -> None:
        """Append one entry, together with the state if that changed."""
        record = None if state is None else record_of(ensemble, config, state)

        def transact(session: Session) -> None:
            DeploymentJournal(self.store).append_on(session, ensemble, ((kind, detail),))
            if record is not None:
                Documents(session, table, DeploymentRecord).put(ensemble, record)

        await self.store.run(transact)

    async def write_event(
        self,
        ensemble: EnsembleID,
        config: EnsembleConfig,
        event: Event,
        before: DeploymentState,
        after: DeploymentState,
    ) -> None:
        """Append what an event of the machine means, together with the state that follows."""
        detail = _describe(event, after)
        if before.phase is not after.phase:
            detail |= {"status": after.phase.value}
        if after.error and after.error != before.error:
            detail |= {"error": after.error}
        await self.write(ensemble, config, after, _kind(event), detail)

    async def load(self) -> tuple[DeploymentRecord, ...]:
        """All deployments, oldest first."""
        records = await self.store.run(lambda session: Documents(session, table, DeploymentRecord).find_all())
        return tuple(sorted((record.value for record in records), key=lambda r: r.created_ns))

    async def events(self, ensemble: EnsembleID, after: int) -> tuple[JournalEntry, ...]:
        """The entries of one deployment with a sequence number above ``after``."""
        return await DeploymentJournal(self.store).read(ensemble, after=after)

    async def delete(self, ensemble: EnsembleID) -> None:
        """Forget a deployment and its events."""

        def transact(session: Session) -> None:
            Documents(session, table, DeploymentRecord).delete(ensemble)
            session.execute(deployment_journal.delete().where(deployment_journal.c.ensemble_id == ensemble))

        await self.store.run(transact)


def record_of(ensemble: EnsembleID, config: EnsembleConfig, state: DeploymentState) -> DeploymentRecord:
    """The stored form of a deployment."""
    return DeploymentRecord(
        id=ensemble,
        status=state.phase.value,
        created_ns=state.created_ns,
        updated_ns=state.updated_ns,
        completed_ns=state.completed_ns,
        metadata=config.v1.metadata,
        config=config,
        state=state,
    )


def _kind(event: Event) -> str:
    return str(event.__struct_config__.tag)


def _describe(event: Event, after: DeploymentState) -> dict[str, object]:
    """What an event means to people: short, without keys and signatures."""
    match event:
        case BidsCollected():
            chosen = {node: bid.peer for node, bid in sorted(after.assignment.items())}
            return {"round": event.round, "bids": [describe_bid(b) for b in event.bids], "chosen": chosen}
        case CommitsDone():
            return {"refused": {k: r.error for k, r in sorted(event.results.items()) if not r.ok}}
        case AllocatesDone():
            return {"refused": {k: r.error for k, r in sorted(event.results.items()) if not r.ok}}
        case StartsDone():
            failed = {k: r.error for k, r in sorted(event.results.items()) if not r.ok}
            return {"started": sorted(k for k, r in event.results.items() if r.ok), "failed": failed}
        case AllocationEnded():
            out: dict[str, object] = {"allocation": event.key, "state": event.status}
            if event.error:
                out |= {"why": event.error}
            return out if event.exit_code is None else out | {"exit_code": event.exit_code}
        case ShutdownDone():
            return {"unreached": list(event.unreached)}
        case Begun() | ShutdownRequested():
            return {}
