"""How a node dies at once: whatever its tasks hold against their cancellation is taken from them."""

# ruff: noqa: SLF001  trio tells nobody which scopes there are

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import trio


def tasks_below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """A task and all that it began, directly or not."""
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from tasks_below(child)


def open_shields(task: trio.lowlevel.Task) -> None:
    """Take the shields from all scopes of a task and of those below it: who is dead finishes nothing."""
    for below in tasks_below(task):
        status: Any = below._cancel_status
        while status is not None:
            if status._scope.shield:
                status._scope.shield = False
            status = status._parent
