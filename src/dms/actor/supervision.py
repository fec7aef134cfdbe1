"""What to do when a child ends: the decision alone, fed with events and the time (``spec/security.md`` 5.8).

As in Erlang: a *strategy* says who is restarted beside the one that failed, a *restart* kind which ends count as failures, an
*intensity* how often is too often. Restarts wait longer each time, so that what fails at once does not fail all the time.
:mod:`dms.actor.children` carries it out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class Strategy(StrEnum):
    """Who is restarted when one fails."""

    ONE_FOR_ONE = "one_for_one"
    """That one: the children do not depend on each other."""
    ONE_FOR_ALL = "one_for_all"
    """All: none can go on without the others."""
    REST_FOR_ONE = "rest_for_one"
    """That one and all that were started after it: each depends on those before it."""


class Restart(StrEnum):
    """When a child is restarted."""

    PERMANENT = "permanent"
    """However it ends."""
    TRANSIENT = "transient"
    """When it fails; its own return is its end."""
    TEMPORARY = "temporary"
    """Never."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """More than ``max_restarts`` within ``period_s`` is too often. Counted per child under one_for_one, else in all."""

    max_restarts: int = 5
    period_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before a restart, growing with the number of those within the period."""

    first_s: float = 0.5
    factor: float = 3.0
    max_s: float = 60.0

    def delay_s(self, restarts: int) -> float:
        """Before the restart that ``restarts`` others preceded."""
        return min(self.max_s, self.first_s * self.factor ** min(restarts, 64))


@dataclass(frozen=True, slots=True)
class Forget:
    """It is over; nothing is to be done."""


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Stop those of ``names`` that run, the last started first; wait; start them in this order."""

    names: tuple[str, ...]
    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It failed too often: it, or under the other strategies the whole group, is not restarted."""

    restarts: int


Decision = Forget | StartAgain | GiveUp


class Supervision:
    """The children of one supervisor by name, in the order of their start."""

    def __init__(
        self,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        *,
        intensity: Intensity | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.strategy = strategy
        self._intensity = intensity or Intensity()
        self._backoff = backoff or Backoff()
        self._kinds: dict[str, Restart] = {}
        self._restarts: dict[str, deque[float]] = {}

    def add(self, name: str, restart: Restart) -> None:
        """A child was started."""
        self._kinds[name] = restart

    def remove(self, name: str) -> None:
        """It ended for good."""
        self._kinds.pop(name, None)
        if self.strategy is Strategy.ONE_FOR_ONE or not self._kinds:
            self._restarts.pop(self._counted_as(name), None)

    def ended(self, name: str, *, failed: bool, now_s: float) -> Decision:
        """A child ended by itself."""
        kind = self._kinds[name]
        if kind is Restart.TEMPORARY or (kind is Restart.TRANSIENT and not failed):
            return Forget()
        recent = self._restarts.setdefault(self._counted_as(name), deque())
        while recent and recent[0] <= now_s - self._intensity.period_s:
            recent.popleft()
        if len(recent) >= self._intensity.max_restarts:
            return GiveUp(len(recent))
        delay_s = self._backoff.delay_s(len(recent))
        recent.append(now_s)
        return StartAgain(self._affected(name), delay_s)

    def _affected(self, name: str) -> tuple[str, ...]:
        names = list(self._kinds)
        match self.strategy:
            case Strategy.ONE_FOR_ONE:
                return (name,)
            case Strategy.ONE_FOR_ALL:
                return tuple(names)
            case Strategy.REST_FOR_ONE:
                return tuple(names[names.index(name) :])

    def _counted_as(self, name: str) -> str:
        return name if self.strategy is Strategy.ONE_FOR_ONE else ""
