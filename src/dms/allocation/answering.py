"""How long whoever orders a start waits for the answer: fetching volumes may take longer than anybody does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from dms.types.errors import DMSError

START_ANSWER_S = 30.0
"""After that the order is answered while volumes are still fetched; how it went on is reported."""


async def try_start(
    start: Callable[[], Awaitable[None]],
    start_soon: Callable[[Callable[[], Awaitable[None]]], object],
    may_answer: Callable[[], bool],
) -> DMSError | None:
    """Why it failed, or nothing: it has begun, or goes on beside and ``may_answer`` says that the rest is reported.

    :param start_soon: runs what goes on.
    """
    done, failures = trio.Event(), list[DMSError]()

    async def run() -> None:
        try:
            await start()
        except DMSError as exc:
            failures.append(exc)
        finally:
            done.set()

    start_soon(run)
    while not done.is_set():
        with trio.move_on_after(START_ANSWER_S):
            await done.wait()
        if not done.is_set() and may_answer():
            break
    return failures[0] if failures else None
