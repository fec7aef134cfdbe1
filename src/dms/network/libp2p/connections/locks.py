"""A lock that costs nothing while nobody holds it: trio's own gives way to other tasks at every acquisition, of which a small
message met ten."""

from __future__ import annotations

import trio


class QuickLock:
    """Fair, as trio's is; whoever takes it in a loop has to give way somewhere else."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    @property
    def is_held(self) -> bool:
        """Whether somebody has it."""
        return self._lock.locked()

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
