"""How a task runs (``spec/platform.md`` 4.1, 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dms.tasks.errors import BadPlan
from dms.tasks.trigger import Trigger

HIGHEST, NORMAL, LOWEST = 0, 5, 9
MAX_EXPONENT = 60


class Missed(Enum):
    """What becomes of times at which a task could not run: it was paused, the machine slept, its clock was set forward."""

    ONCE = "once"
    """It runs once for all of them, as soon as it can."""
    SKIP = "skip"
    """They are left out."""


@dataclass(frozen=True, slots=True)
class Retry:
    """After a failure up to ``max_retries`` more attempts: the n-th ``base_s`` · 2ⁿ⁻¹ later, at most ``max_s``, and of that
    a random part of ``jitter`` less, so that many who failed together do not come back together.
    """

    max_retries: int = 3
    base_s: float = 1.0
    max_s: float = 300.0
    jitter: float = 0.5

    def delay_s(self, attempt: int, random: float) -> float:
        """How long to wait before attempt number ``attempt``, counted from 1; ``random`` from 0 to 1."""
        whole_s = min(self.max_s, self.base_s * 2.0 ** min(attempt - 1, MAX_EXPONENT))
        return whole_s * (1.0 - self.jitter * random)


NO_RETRY = Retry(max_retries=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One task's rules. ``priority``: 0 is the most urgent, 9 the least. ``overlaps``: it may run beside itself."""

    name: str
    triggers: tuple[Trigger, ...]
    priority: int = NORMAL
    missed: Missed = Missed.ONCE
    retry: Retry = NO_RETRY
    overlaps: bool = False

    def __post_init__(self) -> None:
        if not self.triggers:
            raise BadPlan(f"the task {self.name} has no trigger")
        if not HIGHEST <= self.priority <= LOWEST:
            raise BadPlan(f"the task {self.name} has priority {self.priority}: it is from {HIGHEST} to {LOWEST}")
