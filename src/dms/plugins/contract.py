"""What a plugin is given, and what it gives. These names stay; what is added has a default.

========================  =====================================================================================
group of entry points     what the entry point names
========================  =====================================================================================
``dms.executors``         ``async def open(place: ExecutorPlace) -> Executor``
``dms.storage``           ``def make() -> Provider``
``dms.hardware``          ``def make() -> GPUSource``
``dms.events``            ``async def listen(events: Subscription) -> None``, for as long as the node runs
========================  =====================================================================================

The name of an executor or of storage is what an ensemble calls it, so it has a dot, as ``example.echo``: names without one
are kept for what comes with the node, and what has a dot is left to the provider to understand.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from dms.executor.protocol import Executor
from dms.hardware.gpu import GPUSource
from dms.observe.events import Subscription
from dms.storage.transfer import Provider

EXECUTORS, STORAGE, HARDWARE, EVENTS = "dms.executors", "dms.storage", "dms.hardware", "dms.events"
GROUPS: Final = (EXECUTORS, STORAGE, HARDWARE, EVENTS)
NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
DOTTED_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}(\.[a-z0-9_-]{1,63}){1,3}")


@dataclass(frozen=True, slots=True)
class ExecutorPlace:
    """Where an executor lives."""

    nursery: trio.Nursery
    """Holds its tasks; cancelling it leaves workloads running, to be adopted by the next start."""
    state_dir: Path
    """Its own; made when it first writes there."""
    executor_id: str
    """Tells what belongs to this node from what belongs to others; the same after a restart."""


OpenExecutor = Callable[[ExecutorPlace], Awaitable[Executor]]
MakeProvider = Callable[[], Provider]
MakeGPUSource = Callable[[], GPUSource]
Listen = Callable[[Subscription], Awaitable[None]]
