"""Errors of allocations.

::

    DMSError
    └── AllocationError
        ├── AllocationNotFound    nothing with this id here              (NotFound)
        ├── AlreadyEnded          it is in no state to be started again  (Conflict)
        └── HookFailed            a preparation failed
"""

from __future__ import annotations

from dms.types.errors import Conflict, DMSError, NotFound


class AllocationError(DMSError):
    """The allocation failed."""

    code = "allocation"


class AllocationNotFound(NotFound, AllocationError):
    """allocation not found"""

    code = "allocation_not_found"


class AlreadyEnded(Conflict, AllocationError):
    """The allocation has ended."""

    code = "already_ended"


class HookFailed(AllocationError):
    """A preparation of the allocation failed."""

    code = "hook_failed"
