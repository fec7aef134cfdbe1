"""Whose effects these are: what every part of the shell of a deployment needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dms.actor.actor import Actor
from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.bidding.refusals import Hearing
from dms.types.ids import EnsembleID
from dms.types.places import Place

Note = Callable[[str, dict[str, object]], Awaitable[None]]
"""Writes something worth knowing into the deployment's events."""


Here = Callable[[], Place | None]
"""Tells where this machine is, as far as that is known."""


def nowhere() -> Place | None:
    """It is not known where this machine is."""
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """One deployment, its actor and its diary."""

    ensemble: EnsembleID
    config: EnsembleConfig
    actor: Actor
    note: Note
    hearing: Hearing = field(default_factory=Hearing)
    whole: EnsembleConfig | None = None
    """The ensemble, where ``config`` is narrowed to one node of it."""
    is_dry_run: bool = False
    """Only to see who would bid."""
    here: Here = nowhere
