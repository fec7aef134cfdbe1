"""When a task is due (``spec/platform.md`` 4.2). A task may have several triggers; what comes due together runs once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dms.tasks.cron import CronExpression
from dms.tasks.errors import BadPlan


@dataclass(frozen=True, slots=True)
class Interval:
    """Again and again, by the clock that never jumps.

    Each time ``every_s`` and up to ``jitter_s`` more after the last time that it was due; the first time ``first_s`` after it
    was added, if that is given. What falls due while the task still runs is left out.
    """

    every_s: float
    jitter_s: float = 0.0
    first_s: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.every_s < math.inf and 0 <= self.jitter_s < math.inf and 0 <= (self.first_s or 0) < math.inf):
            raise BadPlan(f"not an interval: {self.every_s:g} s, jitter {self.jitter_s:g} s")


@dataclass(frozen=True, slots=True)
class Cron:
    """At the times of a cron expression, by the wall clock, up to ``jitter_s`` later."""

    expression: CronExpression
    jitter_s: float = 0.0


@dataclass(frozen=True, slots=True)
class At:
    """Once, at a moment of the wall clock (seconds since 1970); at once, if that is over."""

    wall_s: float


@dataclass(frozen=True, slots=True)
class After:
    """Once, so long after the task was added."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Fired:
    """Whenever :meth:`~dms.tasks.scheduler.Scheduler.fire` says so. What is fired while the task waits or runs is not
    lost: it runs once more.

    Between the starts of two runs lie at least ``gap_s``, so that many events cost few runs.
    """

    gap_s: float = 0.0


Trigger = Interval | Cron | At | After | Fired


def is_one_time(trigger: Trigger) -> bool:
    """Whether it is over once it was due."""
    return isinstance(trigger, At | After)
