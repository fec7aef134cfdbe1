"""A workload that writes more into its volumes than the disk it has is ended.

Executors limit what is written beside the volumes. Volumes are directories that outlast a workload and may be shared with
the next one, so no storage driver counts them: they are looked at, the more seldom the longer that takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dms.allocation.hooks.hook import Hook
from dms.executor.protocol import EndReason
from dms.observe import get_logger
from dms.storage.errors import TooLarge
from dms.storage.prepare import Volumes
from dms.types.errors import DMSError

if TYPE_CHECKING:
    from dms.allocation.allocation import Allocation

DEFAULT_DISK_BYTES = 10 * 1024**3
"""For allocations that say nothing, as for what a container writes elsewhere."""
INTERVAL_S = 5.0
MAX_INTERVAL_S = 600.0
SHARE = 0.02
"""Of one processor that looking may take at most."""

log = get_logger(__name__)


class DiskLimitHook(Hook):
    """Looks while the workload runs; what is there when it starts counts, too."""

    def __init__(self, volumes: Volumes, *, interval_s: float = INTERVAL_S) -> None:
        self._volumes = volumes
        self._interval_s = interval_s
        self._scope: trio.CancelScope | None = None

    async def poststart(self, allocation: Allocation) -> None:
        """Begin, if it can write to a volume at all."""
        if self._scope is None and not all(volume.read_only for volume in allocation.spec.volumes):
            self._scope = trio.CancelScope()
            allocation.actor.start_soon(self._watch, allocation, self._scope)

    async def postrun(self, allocation: Allocation) -> None:
        """What it leaves is not judged any more."""
        await self.stop(allocation)

    async def stop(self, allocation: Allocation) -> None:
        """Stop."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None

    async def _watch(self, allocation: Allocation, scope: trio.CancelScope) -> None:
        limit_bytes = allocation.spec.resources.disk.size or DEFAULT_DISK_BYTES
        with scope:
            while True:
                begun = trio.current_time()
                try:
                    await self._volumes.check_room(allocation.spec.id, limit_bytes)
                except TooLarge as exc:
                    await self._end(allocation, exc.message)
                except DMSError as exc:
                    log.error("disk_not_watched", allocation=allocation.spec.id, reason=exc.message)
                took_s = trio.current_time() - begun
                await trio.sleep(min(max(self._interval_s, took_s / SHARE), MAX_INTERVAL_S))

    async def _end(self, allocation: Allocation, why: str) -> None:
        log.warning("disk_limit_exceeded", allocation=allocation.spec.id, reason=why)
        with trio.CancelScope(shield=True):  # its end stops this very task
            try:
                await allocation.end(EndReason.DISK_LIMIT, why)
            except DMSError as exc:  # the next look tries again
                log.error("execution_not_ended", allocation=allocation.spec.id, reason=exc.message)
