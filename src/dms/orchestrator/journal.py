"""What is kept of deployments: the present state of each, and every event that led to it (``spec/orchestration.md`` 7.1).

Both are written in one transaction which is on disk before the deployment goes on. The journal is what users read as
the deployment's events, and what a restart begins with is the state. The ensemble itself, which may be large, is written
apart, as its user wrote it: under the id of the deployment the version that is in force, under ``<id>@<number>`` each
version of one that was ever updated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dms.ensemble.config import EnsembleConfig
from dms.ensemble.groups import expanded
from dms.orchestrator.bidding.bids import describe_bid
from dms.orchestrator.bidding.measured import describe_pair
from dms.orchestrator.lifecycle.events import (
    AllocatesDone,
    AllocationEnded,
    Begun,
    BidsCollected,
    CommitsDone,
    EdgesMeasured,
    Event,
    GivenUp,
    HealthChanged,
    LeftEnded,
    NodeAllocated,
    NodeBids,
    NodeCommitted,
    NodeMeasured,
    NodeStarted,
    PeerLost,
    RestartRequested,
    RestartsDone,
    Reverted,
    Settled,
    ShutdownDone,
    ShutdownRequested,
    StartsDone,
    UpdateEvent,
)
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.orchestrator.updating.ensembles import Ensembles
from dms.orchestrator.updating.state import Version
from dms.orchestrator.updating.telling import describe_progress, describe_update
from dms.store import DeploymentJournal, Documents, JournalEntry, Session, Store
from dms.store.errors import RecordNotFound
from dms.store.schema import deployment_journal, ensembles
from dms.store.schema import deployments as table
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID

__all__ = ["DeploymentRecord", "Journal", "JournalEntry", "changes"]

MAX_BIDS_TOLD = 100
"""Of one event; a deployment of thousands of nodes hears many."""


class StoredDeployment(Wire):
    """One deployment as stored; ``status`` repeats the phase so that it can be queried."""

    id: EnsembleID
    status: str
    created_ns: int
    updated_ns: int
    completed_ns: int
    state: DeploymentState


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """One deployment with its ensemble."""

    id: EnsembleID
    config: EnsembleConfig
    """What is in force, expanded."""
    state: DeploymentState
    in_hand: Ensembles | None = None
    """Where an update is under way: both versions."""

    @property
    def ensembles(self) -> Ensembles:
        """The versions in hand."""
        return self.in_hand or Ensembles(self.config)


@dataclass(frozen=True, slots=True)
class Journal:
    """The deployments of this node on disk."""

    store: Store
    told: Callable[[EnsembleID, str, Mapping[str, object]], object] = lambda _ensemble, _kind, _detail: None
    """Called with each entry once it is on disk."""

    async def submit(self, record: DeploymentRecord, written: EnsembleConfig | None = None) -> None:
        """Begin a deployment: ensemble (as it was ``written``), state and first entry."""

        def transact(session: Session) -> None:
            Documents(session, ensembles, EnsembleConfig).create(written or record.config, record.id)
            self._put(session, record.id, record.state)
            detail = {"metadata": record.config.v1.metadata}
            DeploymentJournal(self.store).append_on(session, record.id, (("submitted", detail),))

        await self.store.run(transact)
        self.told(record.id, "submitted", {"metadata": record.config.v1.metadata})

    async def write(
        self,
        ensemble: EnsembleID,
        state: DeploymentState | None,
        kind: str,
        detail: dict[str, object],
        *,
        also: Callable[[Session], None] | None = None,
    ) -> None:
        """Append one entry, together with the state if that changed, and ``also`` in the same transaction."""

        def transact(session: Session) -> None:
            DeploymentJournal(self.store).append_on(session, ensemble, ((kind, detail),))
            if state is not None:
                self._put(session, ensemble, state)
            if also is not None:
                also(session)

        await self.store.run(transact)
        self.told(ensemble, kind, detail)

    async def write_event(
        self,
        ensemble: EnsembleID,
        event: Event,
        before: DeploymentState,
        after: DeploymentState,
        hand: Ensembles | None = None,
    ) -> None:
        """Append what an event of the machine means, together with the state that follows, and the version that begins."""
        told = _describe(event, after) | changes(before, after)
        written = hand.written if hand is not None else None

        def keep_versions(session: Session) -> None:
            if before.versions != after.versions:
                _keep_versions(session, ensemble, before, after, written)

        await self.write(ensemble, after, _kind(event), told, also=keep_versions)

    async def load(self) -> tuple[DeploymentRecord, ...]:
        """All deployments, oldest first."""

        def fetch(session: Session) -> list[DeploymentRecord]:
            configs = {record.id: record.value for record in Documents(session, ensembles, EnsembleConfig).find_all()}
            stored = [record.value for record in Documents(session, table, StoredDeployment).find_all()]
            return [_record(one, configs) for one in stored if one.id in configs]

        return tuple(sorted(await self.store.run(fetch), key=lambda record: record.state.created_ns))

    async def events(self, ensemble: EnsembleID, after: int) -> tuple[JournalEntry, ...]:
        """The entries of one deployment with a sequence number above ``after``."""
        return await DeploymentJournal(self.store).read(ensemble, after=after)

    async def written(self, ensemble: EnsembleID, version: int = 0) -> EnsembleConfig:
        """The ensemble of a deployment as its user wrote it: of that version, or the one in force.

        :raises RecordNotFound: it is not kept.
        """
        name = _versioned(ensemble, version) if version else ensemble
        return await self.store.run(lambda session: Documents(session, ensembles, EnsembleConfig).get(name).value)

    async def delete(self, ensemble: EnsembleID, versions: Iterable[Version] = ()) -> None:
        """Forget a deployment, its versions and its events."""

        def transact(session: Session) -> None:
            Documents(session, table, StoredDeployment).delete(ensemble)
            Documents(session, ensembles, EnsembleConfig).delete(ensemble)
            _forget_versions(session, ensemble, {version.number for version in versions})
            session.execute(deployment_journal.delete().where(deployment_journal.c.ensemble_id == ensemble))

        await self.store.run(transact)

    def _put(self, session: Session, ensemble: EnsembleID, state: DeploymentState) -> None:
        stored = StoredDeployment(
            id=ensemble,
            status=state.status,
            created_ns=state.created_ns,
            updated_ns=state.updated_ns,
            completed_ns=state.completed_ns,
            state=state,
        )
        Documents(session, table, StoredDeployment).put(ensemble, stored)


def _record(stored: StoredDeployment, configs: Mapping[str, EnsembleConfig]) -> DeploymentRecord:
    base, update = expanded(configs[stored.id]), stored.state.update
    target = configs.get(_versioned(stored.id, update.version)) if update is not None else None
    if target is None:
        return DeploymentRecord(stored.id, base, stored.state)
    hand = Ensembles(base, expanded(target))
    return DeploymentRecord(stored.id, hand.in_force(stored.state), stored.state, hand)


def _keep_versions(
    session: Session,
    ensemble: EnsembleID,
    before: DeploymentState,
    after: DeploymentState,
    written: EnsembleConfig | None,
) -> None:
    """Store the version that begins, forget those that are too old, and have the one in force where it is looked for."""
    documents = Documents(session, ensembles, EnsembleConfig)
    known, kept = ({version.number for version in state.versions} for state in (before, after))
    for number in sorted(kept - known):
        config = documents.get(ensemble).value if number == before.version else written
        if config is not None:
            documents.put(_versioned(ensemble, number), config)
    _forget_versions(session, ensemble, known - kept)
    if after.version != before.version:
        documents.put(ensemble, documents.get(_versioned(ensemble, after.version)).value)


def _forget_versions(session: Session, ensemble: EnsembleID, numbers: Iterable[int]) -> None:
    documents = Documents(session, ensembles, EnsembleConfig)
    for number in sorted(numbers):
        with contextlib.suppress(RecordNotFound):
            documents.delete(_versioned(ensemble, number))


def _versioned(ensemble: EnsembleID, number: int) -> str:
    return f"{ensemble}@{number}"


def changes(before: DeploymentState, after: DeploymentState) -> dict[str, object]:
    """What of a step is told whatever led to it: who follows the events must see where the deployment is."""
    told: dict[str, object] = {}
    if after.queued_ns and not before.queued_ns:
        told |= {"queued_until": after.terms.queue_until_ns}
    if before.status != after.status:
        told |= {"status": after.status}
    if before.update != after.update:
        told |= describe_progress(before, after)
    if after.error and after.error != before.error:
        told |= {"error": after.error}
    return told


def _kind(event: Event) -> str:
    return str(event.__struct_config__.tag)


def _describe(event: Event, after: DeploymentState) -> dict[str, object]:
    """What an event means to people: short, without keys and signatures."""
    if isinstance(event, UpdateEvent):
        return describe_update(event, after)
    match event:
        case BidsCollected():
            chosen = {node: bid.peer for node, bid in sorted(after.assignment.items())}
            told: dict[str, object] = {"bids": [describe_bid(bid) for bid in event.bids[:MAX_BIDS_TOLD]]}
            more = len(event.bids) - MAX_BIDS_TOLD
            return {"round": event.round} | told | {"chosen": chosen} | ({"more_bids": more} if more > 0 else {})
        case EdgesMeasured():
            told = {"pairs": [describe_pair(pair) for pair in event.pairs[:MAX_BIDS_TOLD]]}
            return {"round": event.round} | told | {"chosen": {n: b.peer for n, b in sorted(after.assignment.items())}}
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
            return {"unreached": list(event.unreached)} | ({"lost": event.lost} if event.lost else {})
        case Reverted():
            return {"peers": list(event.peers)}
        case HealthChanged():
            health: dict[str, object] = {"allocation": event.key, "health": "unhealthy" if event.problem else "healthy"}
            return health | ({"why": event.problem} if event.problem else {})
        case RestartsDone():
            failed = {k: r.error for k, r in sorted(event.results.items()) if not r.ok}
            return {"restarted": sorted(k for k, r in event.results.items() if r.ok), "failed": failed}
        case PeerLost():
            return {"peer": event.peer, "why": event.why, "placing": sorted(after.placements)}
        case NodeBids():
            chosen = {event.node: after.assignment[event.node].peer} if event.node in after.assignment else {}
            return {"node": event.node, "bids": [describe_bid(b) for b in event.bids], "chosen": chosen}
        case NodeMeasured():
            chosen = {event.node: after.assignment[event.node].peer} if event.node in after.assignment else {}
            pairs = [describe_pair(pair) for pair in event.pairs[:MAX_BIDS_TOLD]]
            return {"node": event.node, "pairs": pairs, "chosen": chosen}
        case NodeCommitted():
            return {"node": event.node, "refused": {k: r.error for k, r in sorted(event.results.items()) if not r.ok}}
        case NodeAllocated():
            return {"node": event.node, "refused": {} if event.result.ok else {event.node: event.result.error}}
        case NodeStarted():
            failed = {k: r.error for k, r in sorted(event.results.items()) if not r.ok}
            started = sorted(k for k, r in event.results.items() if r.ok)
            return {"node": event.node, "started": started, "failed": failed}
        case LeftEnded():
            return {"peer": event.peer, "allocations": [i.partition("_")[2] for i in event.ids]}
        case RestartRequested():
            return {"allocations": list(event.keys)}
        case ShutdownRequested():
            return {"reason": event.reason} if event.reason else {}
        case Begun() | GivenUp() | Settled():
            return {}
