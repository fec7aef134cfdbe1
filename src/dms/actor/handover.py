"""Running a coroutine, and being told when it waits for the first time.

Most messages are handled without waiting for anything. A task of its own for each costs more than everything that
:mod:`dms.actor.gate` does otherwise; so one task handles message after message, and only one that really waits keeps it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

R = TypeVar("R")


@types.coroutine
def run_telling(coroutine: Coroutine[Any, Any, R], on_wait: Callable[[], None]) -> Generator[Any, Any, R]:
    """``await coroutine``, and call ``on_wait`` before it waits for the first time, if it does at all.

    It stays in the task that awaits this: what it waits for wakes that very task, and its cancellation comes through.
    """
    try:
        trap = coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    on_wait()
    while True:
        try:
            sent = yield trap
        except BaseException as exc:  # noqa: BLE001 (whatever it is, it is meant for the coroutine)
            resume = partial(coroutine.throw, exc)
        else:
            resume = partial(coroutine.send, sent)
        try:
            trap = resume()
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
