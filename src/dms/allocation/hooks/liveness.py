"""Signs of life: the allocation tells its orchestrator that it runs and what it uses (``spec/orchestration.md`` 3.7, 9).

They begin before the workload, whose content may have to be fetched first, and go on until its results are where they belong:
either may take longer than an orchestrator waits in silence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from dms.allocation.hooks.hook import Hook

if TYPE_CHECKING:
    from dms.allocation.allocation import Allocation

INTERVAL_S = 30.0
BUSY_INTERVAL_S = 5.0
"""While something is done that people wait for, and want to know how far it is."""
ORPHAN_GRACE_S = 3 * 3600.0
"""How long work goes on while its orchestrator cannot be reached, before it is ended."""

Push = Callable[["Allocation", int], Awaitable[bool | None]]
"""Sends sign number *n*: ``True`` it was taken, ``False`` the orchestrator does not want the allocation, ``None`` no answer."""


class LivenessHook(Hook):
    """Pushes from the start of the allocation to its end; ends what nobody owns any more."""

    def __init__(self, push: Push, *, interval_s: float = INTERVAL_S, orphan_grace_s: float = ORPHAN_GRACE_S) -> None:
        self._push = push
        self._interval_s = interval_s
        self._orphan_grace_s = orphan_grace_s
        self._scope: trio.CancelScope | None = None

    async def prerun(self, allocation: Allocation) -> None:
        """Begin."""
        if self._scope is None:
            self._scope = trio.CancelScope()
            allocation.actor.start_soon(self._run, allocation, self._scope)

    async def poststart(self, allocation: Allocation) -> None:
        """Begin, if that was not before."""
        await self.prerun(allocation)

    async def stop(self, allocation: Allocation) -> None:
        """Stop."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None

    async def _run(self, allocation: Allocation, scope: trio.CancelScope) -> None:
        with scope:
            number, last_heard = 0, trio.current_time()
            while True:
                if allocation.view.state.is_final:  # a standby that was never needed
                    return
                number += 1
                answer = await self._push(allocation, number)
                if answer is not None:
                    last_heard = trio.current_time()
                if answer is False:
                    allocation.shutdown_soon("the orchestrator does not know this allocation any more")
                    return
                if trio.current_time() - last_heard > self._orphan_grace_s:
                    allocation.shutdown_soon("the orchestrator cannot be reached")
                    return
                await trio.sleep(min(self._interval_s, BUSY_INTERVAL_S) if allocation.is_busy else self._interval_s)
