"""When a provider counts as dead: the pure core of detection, after Lifeguard (local health and confirmed suspicion).

A provider is *suspected* once it cannot be reached, and dead when the suspicion has lasted long enough. How long that is:

* shorter the more other peers say that they cannot reach it either;
* longer the worse we are ourselves: each of our own delays and failures raises a score by which all waits are multiplied,
  each success lowers it. Time in which we did not run does not count at all;
* without end as long as a connection to it holds. Its kernel answers then, and a program that is short of processor
  time is no dead machine; signs of life decide in that case, which have more patience.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

PROBE_INTERVAL_S = 2.0
PROBE_TIMEOUT_S = 1.0
MIN_SUSPICION_S = 1.5
MAX_SUSPICION_S = 4.0
CONFIRMERS = 3
"""How many other peers are asked."""
LEAST_FAILURES = 2
"""Of our own attempts to reach it: one may be bad luck."""
LAG_S = 0.25
"""Of our own that is worth a point."""
MAX_SCORE = 8


class LocalHealth:
    """How well we are: 0 is well."""

    def __init__(self) -> None:
        self.score = 0

    @property
    def multiplier(self) -> int:
        """By which all waits are stretched."""
        return 1 + self.score

    def reached(self) -> None:
        """We reached somebody in time."""
        self.score = max(0, self.score - 1)

    def lagged(self, lag_s: float) -> None:
        """We woke up so much later than we wanted to."""
        self.score = min(MAX_SCORE, self.score + int(lag_s / LAG_S))

    def misjudged(self) -> None:
        """Somebody whom we suspected was well."""
        self.score = min(MAX_SCORE, self.score + 1)


@dataclass(slots=True)
class Suspicion:
    """What speaks against one peer."""

    since_s: float
    failures: int = 0
    denials: set[str] = field(default_factory=set)
    """Peers that cannot reach it either."""
    is_connected: bool = False

    def failed(self, *, is_connected: bool) -> None:
        """We could not reach it."""
        self.failures += 1
        self.is_connected = is_connected

    def denied(self, by: str) -> None:
        """Another peer could not reach it."""
        self.denials.add(by)

    def slept(self, lag_s: float) -> None:
        """Time in which we did not run does not count."""
        self.since_s += lag_s

    def timeout_s(self, health: LocalHealth) -> float:
        """How long the suspicion must last; Lifeguard's, logarithmic in the number of those who share it."""
        share = math.log(1 + min(CONFIRMERS, len(self.denials))) / math.log(1 + CONFIRMERS)
        return (MAX_SUSPICION_S - (MAX_SUSPICION_S - MIN_SUSPICION_S) * share) * health.multiplier

    def is_dead(self, now_s: float, health: LocalHealth) -> bool:
        """Whether it counts as dead now."""
        if self.is_connected or self.failures < LEAST_FAILURES:
            return False
        return now_s - self.since_s >= self.timeout_s(health)
