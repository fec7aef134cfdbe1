"""The journal of deployments with somebody who reads along.

What is written must follow from what is on disk by the machine alone, from the event as it would be read again; and what
another life finds on disk must be what was acknowledged last, or the one step that was under way when the power went.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.journal import DeploymentRecord, Journal
from dms.orchestrator.lifecycle.events import Event
from dms.orchestrator.lifecycle.machine import step
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.orchestrator.updating.ensembles import Ensembles
from dms.store import Session
from dms.types import gojson
from dms.types.ids import EnsembleID


@dataclass(slots=True)
class Book:
    """What is known to be on the disk of one machine, over all its lives."""

    complain: Callable[[str], None]
    written: dict[EnsembleID, DeploymentState] = field(default_factory=dict)
    under_way: dict[EnsembleID, DeploymentState] = field(default_factory=dict)

    def replay(
        self, ensemble: EnsembleID, event: Event, before: DeploymentState, after: DeploymentState, hand: Ensembles
    ) -> None:
        """Take the step once more, from the bytes."""
        if self.written.get(ensemble) != before:
            self.complain(f"{type(event).__name__} is applied to a state that is not on disk")
        again = gojson.decode(gojson.encode(event), type(event))
        config = hand.in_force(before)
        found, _ = step(gojson.decode(gojson.encode(before), DeploymentState), config, again, hand.both)
        if found != after:
            self.complain(f"{type(event).__name__} leads elsewhere when it is replayed:\n{found}\n{after}")

    def found(self, records: tuple[DeploymentRecord, ...]) -> None:
        """What a new life reads."""
        states = {record.id: record.state for record in records}
        for ensemble, state in self.written.items():
            if states.get(ensemble) not in (state, self.under_way.get(ensemble, state)):
                self.complain(f"acknowledged was\n{state}\nand on disk is\n{states.get(ensemble)}")
        self.written, self.under_way = states, {}


@dataclass(frozen=True, slots=True)
class ReadAlong(Journal):
    """The product's own, and the book beside it."""

    book: Book = field(kw_only=True)

    async def submit(self, record: DeploymentRecord, written: EnsembleConfig | None = None) -> None:
        """As the original."""
        self.book.under_way[record.id] = record.state
        await Journal.submit(self, record, written)
        self.book.written[record.id] = self.book.under_way.pop(record.id)

    async def write(
        self,
        ensemble: EnsembleID,
        state: DeploymentState | None,
        kind: str,
        detail: dict[str, object],
        *,
        also: Callable[[Session], None] | None = None,
    ) -> None:
        """As the original."""
        if state is None:
            await Journal.write(self, ensemble, None, kind, detail, also=also)
            return
        self.book.under_way[ensemble] = state
        await Journal.write(self, ensemble, state, kind, detail, also=also)
        self.book.under_way.pop(ensemble, None)
        self.book.written[ensemble] = state

    async def write_event(
        self,
        ensemble: EnsembleID,
        event: Event,
        before: DeploymentState,
        after: DeploymentState,
        hand: Ensembles | None = None,
    ) -> None:
        """As the original."""
        if hand is not None:
            self.book.replay(ensemble, event, before, after, hand)
        await Journal.write_event(self, ensemble, event, before, after, hand)

    async def load(self) -> tuple[DeploymentRecord, ...]:
        """As the original."""
        records = await Journal.load(self)
        self.book.found(records)
        return records
