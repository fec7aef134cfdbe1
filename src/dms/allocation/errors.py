"""Errors of allocations.

::

    DMSError
    └── AllocationError
        ├── AllocationNotFound    nothing with this id here              (NotFound)
        ├── AlreadyEnded          it is in no state to be started again  (Conflict)
        ├── InvalidHealthCheck    it cannot be carried out               (BadInput)
        ├── HookFailed            a preparation failed
        ├── NotRunning            nothing of it is reached now           (Conflict)
        ├── ExecRefused           no command may run in it now           (BadInput)
        └── SessionNotFound       no command runs under this name        (NotFound)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, DMSError, NotFound


class AllocationError(DMSError):
    """The allocation failed."""

    code = "allocation"


class AllocationNotFound(NotFound, AllocationError):
    """allocation not found"""

    code = "allocation_not_found"


class AlreadyEnded(Conflict, AllocationError):
    """The allocation has ended."""

    code = "already_ended"


class InvalidHealthCheck(BadInput, AllocationError):
    """The health check cannot be carried out."""

    code = "invalid_health_check"


class HookFailed(AllocationError):
    """A preparation of the allocation failed."""

    code = "hook_failed"


class NotRunning(Conflict, AllocationError):
    """The allocation does not run."""

    code = "allocation_not_running"


class ExecRefused(BadInput, AllocationError):
    """No command may run in this allocation."""

    code = "exec_refused"


class SessionNotFound(NotFound, AllocationError):
    """the command is not running any more"""

    code = "session_not_found"
