"""Waiting, on the real clock, for what happens on the other side of a socket."""

from __future__ import annotations

from collections.abc import Callable

import trio

WAIT_S = 30.0
"""A busy machine may take long; whoever waits for what never comes learns it all the same."""
LOOK_S = 0.003


async def until(condition: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Until something holds that other tasks, or others' machines, bring about and that no event tells of.

    :raises trio.TooSlowError: it never did.
    """
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110  no event tells
            await trio.sleep(LOOK_S)
