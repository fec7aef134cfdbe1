"""One schedule as it is kept."""

from __future__ import annotations

from enum import Enum

import msgspec

from dms.ensemble.config import EnsembleConfig
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID

KEPT = 20
"""Runs that are remembered."""


class Overlap(Enum):
    """What happens at a time when the deployment of the last one still goes on."""

    SKIP = "skip"
    """That time is left out."""
    ALLOW = "allow"
    """Both go on."""
    REPLACE = "replace"
    """The earlier one is ended."""


class ScheduledRun(Wire):
    """One time: its number from 1, when, and its deployment or why there is none. UNIX nanoseconds."""

    number: int
    at_ns: int
    ensemble_id: EnsembleID = EnsembleID("")
    error: str = ""


class Schedule(Wire):
    """An ensemble, its times, and how each run is to be deployed.

    ``owner`` is a DID, ``tokens`` what it showed to be allowed to deploy; both are asked again at each time. ``due_ns``: up
    to which moment times were seen to. ``missed`` is a value of :class:`~dms.tasks.plan.Missed`.
    """

    id: str
    owner: str
    cron: str
    ensemble: EnsembleConfig
    zone: str = "UTC"
    tokens: bytes = b""
    timeout_s: float = 120.0
    queue_for_s: float = 0.0
    run_for_s: float = 0.0
    overlap: Overlap = Overlap.SKIP
    missed: str = "once"
    is_paused: bool = False
    created_ns: int = 0
    due_ns: int = 0
    count: int = 0
    """Runs so far."""
    runs: tuple[ScheduledRun, ...] = msgspec.field(default=())
