"""Waiting on the real clock, for what other processes bring about and no event tells of."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_S = 60.0
"""A busy machine may take long; whoever waits for what never comes learns it all the same."""
LOOK_S = 0.1


def look_until(
    holds: Callable[[], object],
    tell: Callable[[], object] = lambda: "it never was so",
    *,
    timeout_s: float = WAIT_S,
    every_s: float = LOOK_S,
) -> None:
    """Look again and again until something holds. ``holds`` itself raises where it is clear that it never will.

    :raises AssertionError: it never did; with what ``tell`` tells then.
    """
    give_up = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > give_up:
            raise AssertionError(tell())
        time.sleep(every_s)
