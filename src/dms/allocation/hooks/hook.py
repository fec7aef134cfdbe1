"""The points in an allocation's life at which a concern may act."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dms.allocation.allocation import Allocation
    from dms.executor.protocol import Mount


class Hook:
    """Does nothing at any point; a hook overrides what it needs.

    Every method may be called twice (``prerun`` and ``poststart`` again for a workload that is adopted after a restart)
    or without its counterpart, and must cope. What a hook has running beside the workload it begins in ``prerun`` or
    ``poststart`` and ends in ``stop``, at the latest. ``prerun`` refuses by raising a :class:`~dms.types.errors.DMSError`; when
    ``postrun`` raises one, what the workload wrote is lost, and the end of the allocation says so.
    """

    async def prerun(self, allocation: Allocation) -> None:
        """Before the executor starts."""

    def mounts(self) -> tuple[Mount, ...]:
        """What the workload shall see of this machine; asked for once every ``prerun`` is through."""
        return ()

    async def poststart(self, allocation: Allocation) -> None:
        """The workload runs (also after it was adopted)."""

    async def prekill(self, allocation: Allocation) -> None:
        """It will be ended now."""

    async def postrun(self, allocation: Allocation) -> None:
        """It has ended, whichever way."""

    async def stop(self, allocation: Allocation) -> None:
        """All of its end is done, or it could not be started: nothing of the hook goes on."""

    async def destroy(self, allocation: Allocation) -> None:
        """The allocation will never run again; leave nothing behind."""
