"""When a node looks around: the times of ``spec/network.md`` 5. Pure, but for the loop that keeps them.

Every round has a first time, a period, and a shorter wait after a failure, so that a node without network looks again
soon, and a large network does not look all at once.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from dms.network.errors import NetworkError

log = logging.getLogger(__name__)

FAILED_FIRST_S = 10.0
FAILED_GROWTH = 1.25
FAILED_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class Times:
    """When something is done: first after so long, then with this period, times a random factor.

    With every success the period grows by ``growth``, up to ``max_s``.
    """

    first_s: float
    period_s: float
    growth: float = 1.0
    max_s: float = float("inf")
    least: float = 1.0
    most: float = 1.0


SEARCH = Times(60.0, 15 * 60.0, least=0.9, most=1.1)
"""Asking the rendezvous for peers."""
ADVERTISE = Times(60.0, 6 * 3600.0, least=0.9, most=1.0)
"""Saying there that we exist."""
WALK = Times(300.0, 300.0, growth=1.5, max_s=4 * 3600.0, least=0.5, most=1.5)
"""Walking through the hash table."""

MAX_FOUND = 40
"""Peers that one search takes from the rendezvous."""
MAX_DIALLED = 16
"""New ones of these, at random, that are dialled."""
DIAL_S = 10.0
WALK_DEPTH = 20


class Pace:
    """How long to wait before the next time."""

    def __init__(self, times: Times, rng: random.Random) -> None:
        self._times = times
        self._rng = rng
        self._period_s = times.period_s
        self._failed_s = FAILED_FIRST_S

    def first_s(self) -> float:
        """Before the first time."""
        return self._times.first_s

    def after_success_s(self) -> float:
        """After one that worked."""
        self._failed_s = FAILED_FIRST_S
        wait_s = self._period_s * self._rng.uniform(self._times.least, self._times.most)
        self._period_s = min(self._period_s * self._times.growth, self._times.max_s)
        return wait_s

    def after_failure_s(self) -> float:
        """After one that did not."""
        wait_s = self._failed_s
        self._failed_s = min(self._failed_s * FAILED_GROWTH, FAILED_MAX_S)
        return wait_s


async def keep_up(times: Times, job: Callable[[], Awaitable[bool]], rng: random.Random) -> None:
    """Do a job at its times until cancelled; it returns whether it worked, and may raise what the network raises."""
    pace = Pace(times, rng)
    await trio.sleep(pace.first_s())
    while True:
        try:
            worked = await job()
        except NetworkError as error:
            log.debug("%s failed: %s", getattr(job, "__name__", job), error)
            worked = False
        await trio.sleep(pace.after_success_s() if worked else pace.after_failure_s())
