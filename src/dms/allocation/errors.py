"""Errors of allocations.

::

    DMSError
    └── AllocationError
        ├── AllocationNotFound    nothing with this id here   (NotFound)
        └── HookFailed            a preparation failed
"""

from __future__ import annotations

from dms.types.errors import DMSError, NotFound


class AllocationError(DMSError):
    """The allocation failed."""

    code = "allocation"


class AllocationNotFound(NotFound, AllocationError):
    """allocation not found"""

    code = "allocation_not_found"


class HookFailed(AllocationError):
    """A preparation of the allocation failed."""

    code = "hook_failed"
