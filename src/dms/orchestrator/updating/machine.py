"""The table of an update: which event is taken when, beside those of the running deployment; pure.

::

    (stopping ─▶) bidding ─▶ (measuring ─▶) committing ─▶ allocating ─▶ starting ─▶ verifying ─▶ takes over
                     ▲                          │             │             │           │            │
                     ├───── again, elsewhere ───┴─────────────┴─────────────┴───────────┘            │
                     └───────────────────────────── the next batch ──────────────────────────────────┘

When no batch is left the new version is in force. A failure or a cancellation turns the update round: the batch ends, and
what took over already is replaced by the old version again, batch by batch along the same way.
"""

from __future__ import annotations

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.lifecycle.changes import Step
from dms.orchestrator.lifecycle.events import (
    Event,
    HealthChanged,
    UpdateAllocated,
    UpdateBids,
    UpdateCancelled,
    UpdateCommitted,
    UpdateDue,
    UpdateMeasured,
    UpdateRequested,
    UpdateStarted,
)
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.orchestrator.updating import rollout
from dms.orchestrator.updating.turning import Both, begin, current, fail


def step(state: DeploymentState, config: EnsembleConfig, both: Both, event: Event) -> Step | None:
    """What an event means for an update; ``None``: it is none of its business. The deployment runs."""
    if isinstance(event, UpdateRequested):
        return begin(state, event, both)
    if not state.is_updating:
        return None
    match event:
        case UpdateCancelled():
            if current(state).is_back:
                return state, ()
            return fail(state, both, event.at_ns, "it was cancelled", is_cancelled=True)
        case UpdateBids():
            return rollout.on_bids(state, config, both, event)
        case UpdateMeasured():
            return rollout.on_measured(state, config, both, event)
        case UpdateCommitted():
            return rollout.on_committed(state, both, event)
        case UpdateAllocated():
            return rollout.on_allocated(state, both, event)
        case UpdateStarted():
            return rollout.on_started(state, config, both, event)
        case UpdateDue():
            return rollout.on_due(state, config, both, event)
        case HealthChanged() if rollout.concerns(state, event.key.partition(".")[0]):
            return rollout.on_health(state, config, both, event)
        case _:
            return None
