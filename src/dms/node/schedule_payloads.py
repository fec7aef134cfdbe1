"""Payloads of ``/dms/node/deployment/schedule/*``; ours, the original has no schedules."""

from __future__ import annotations

from typing import Any

import msgspec

from dms.orchestrator.scheduling.schedule import Overlap
from dms.types.gojson import Wire


class NewSchedule(Wire):
    """An ensemble and its times; ``zone`` as in ``Europe/Berlin``, empty is UTC."""

    ensemble: Any = msgspec.field(name="Ensemble")
    cron: str
    zone: str = ""
    timeout_ms: int = 120_000
    """For each deployment: until it must run."""
    queue_timeout_ms: int = 0
    run_for_ms: int = 0
    overlap: str = Overlap.SKIP.value
    missed: str = "once"
    """As in :class:`dms.tasks.Missed`."""


class NewScheduleReply(Wire):
    """Its id and when it is due first; or why there is none."""

    id: str
    next_at: str = ""
    error: str = ""
    hint: str = ""


class ScheduleRun(Wire):
    """One run: its deployment, or why there is none."""

    number: int
    at: str
    deployment: str = ""
    error: str = ""


class ScheduleInfo(Wire):
    """One schedule; times RFC 3339, empty where there is none."""

    id: str
    cron: str
    zone: str
    owner: str
    overlap: str
    missed: str
    is_paused: bool
    created_at: str
    next_at: str
    count: int
    metadata: dict[str, str]
    runs: tuple[ScheduleRun, ...]


class SchedulesReply(Wire):
    """All schedules, oldest first."""

    schedules: tuple[ScheduleInfo, ...]
    error: str = ""


class ScheduleRequest(Wire):
    """One schedule, by its id or the beginning of it."""

    id: str
