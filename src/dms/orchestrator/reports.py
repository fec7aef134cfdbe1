"""What providers report to an orchestrator: that an allocation lives, changed its state, or has ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.allocation.machine import AllocationState
from dms.orchestrator import messages
from dms.orchestrator.bidding.asking import Note
from dms.orchestrator.lifecycle.events import AllocationEnded, Event
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState
from dms.orchestrator.lifecycle.state import Stage as PlacementStage
from dms.orchestrator.updating import rollout
from dms.orchestrator.updating.state import Stage
from dms.types.ids import EnsembleID

MAX_PROGRESS_CHARS = 300
PROGRESS_EVERY_S = 30.0
"""So often at most it goes into the events how far something is."""
MAX_CHANGES_TOLD = 10_000
"""Changes reported by providers that go into the events: they must not fill our disk."""


class Reports:
    """Takes the reports about the allocations of one deployment."""

    def __init__(
        self,
        ensemble: EnsembleID,
        actor: Actor,
        state: Callable[[], DeploymentState],
        post: Callable[[Event], trio.Event],
        note: Note,
        heard: Callable[[str], None],
    ) -> None:
        self._ensemble, self._actor, self._state = ensemble, actor, state
        self._post, self._note, self._heard = post, note, heard
        self._changes_told = 0
        self._progress_told: dict[str, float] = {}
        self.signs: dict[str, messages.Liveness] = {}
        """The last sign of life of each allocation that was heard in this life of the process."""

    def register(self) -> None:
        """Listen."""
        ensemble, actor = self._ensemble, self._actor
        actor.on(messages.task_termination(ensemble), self._on_termination, payload=messages.TaskTermination)
        actor.on(messages.allocation_liveness(ensemble), self._on_liveness, payload=messages.Liveness)
        actor.on(messages.allocation_status(ensemble), self._on_status, payload=messages.StatusChange)

    async def _on_termination(self, message: Message[messages.TaskTermination]) -> messages.Reply:
        record = self._record_of(message.payload.allocation_id, message)
        if record is None:
            return messages.Reply(ok=False, error="not an allocation of this deployment")
        ended = message.payload
        posted = self._post(
            AllocationEnded(
                at_ns=self._actor.security.now_ns(),
                key=record.key,
                id=record.id,
                status=_known_status(ended.status),
                error=ended.error.err,
                reason=ended.error.reason,
                exit_code=ended.error.exit_code,
                execution=ended.execution,
            )
        )
        await posted.wait()  # acknowledged means on disk: the provider will not say it again
        return messages.Reply(ok=True)

    async def _on_liveness(self, message: Message[messages.Liveness]) -> messages.Reply:
        record = self._record_of(message.payload.allocation_id, message)
        if record is None and self._is_being_placed(message.payload.allocation_id):
            return messages.Reply(ok=True)
        if record is None or record.is_over:
            return messages.Reply(ok=False, error="not a running allocation of this deployment")
        self._heard(record.key)
        before, self.signs[record.key] = self.signs.get(record.key), message.payload
        problem = message.payload.network_problem
        if problem and (before is None or before.network_problem != problem):
            self._changes_told += 1
            if self._changes_told <= MAX_CHANGES_TOLD:
                told: dict[str, object] = {"allocation": record.key, "peer": record.peer, "reason": problem}
                await self._note("no_private_address", told)
        await self._note_progress(record.key, message.payload.progress[:MAX_PROGRESS_CHARS])
        return messages.Reply(ok=True)

    async def _on_status(self, message: Message[messages.StatusChange]) -> messages.Reply:
        record = self._record_of(message.payload.allocation_id, message)
        if record is None:
            return messages.Reply(ok=False, error="not an allocation of this deployment")
        self._heard(record.key)
        change = message.payload
        self._changes_told += 1
        if self._changes_told > MAX_CHANGES_TOLD:
            return messages.Reply(ok=True)
        await self._note(
            "allocation_status",
            {"allocation": record.key, "from": change.old_status, "to": change.new_status, "reason": change.reason},
        )
        return messages.Reply(ok=True)

    async def _note_progress(self, key: str, progress: str) -> None:
        """Whoever follows the events reads what an allocation waits for, now and then."""
        now_s = trio.current_time()
        if not progress or now_s - self._progress_told.get(key, -math.inf) < PROGRESS_EVERY_S:
            return
        self._progress_told[key] = now_s
        self._changes_told += 1
        if self._changes_told <= MAX_CHANGES_TOLD:
            await self._note("allocation_progress", {"allocation": key, "progress": progress})

    def _is_being_placed(self, allocation_id: str) -> bool:
        """Whether its handle is still on its way to us."""
        state = self._state()
        for record in state.allocations.values():
            if record.id != allocation_id:
                continue
            placement = state.placements.get(record.node_id)
            if placement is not None and placement.stage is PlacementStage.ALLOCATING:
                return True
            if rollout.concerns(state, record.node_id):
                return state.update is not None and state.update.stage is Stage.ALLOCATING
        return False

    def _record_of(self, allocation_id: str, message: Message[Any]) -> AllocationRecord | None:
        """The allocation that a report is about; only the allocation's own actor may speak for it."""
        for record in self._state().allocations.values():
            handle = record.handle
            if record.id == allocation_id and handle is not None and handle.id == message.sender.id:
                return record
        return None


def _known_status(status: str) -> str:
    """Whatever a provider calls it, an end is one of ours."""
    try:
        known = AllocationState(status)
    except ValueError:
        return AllocationState.FAILED.value
    return known.value if known.is_final else AllocationState.FAILED.value
