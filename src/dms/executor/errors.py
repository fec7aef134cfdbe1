"""Errors of executors.

::

    DMSError
    └── ExecutorError
        ├── ExecutionNotFound    no such execution here         (NotFound)
        ├── AlreadyStarted       the id is taken                (Conflict)
        ├── InvalidEngineSpec    parameters that cannot work    (BadInput)
        ├── StartFailed          the backend refused
        ├── StatusNotReached     it did not come to be so in time
        ├── NotRunning           it has ended, or does not listen yet  (Conflict)
        ├── Unsupported          the backend cannot do this     (BadInput)
        ├── ExecutorUnavailable  the backend does not answer    (Unavailable)
        ├── EngineRefused        the backend said no; ``status`` is its HTTP status
        └── TapError             a TAP device
            ├── TapExists            there is one of that name      (Conflict)
            ├── TapNotFound          there is none of that name     (NotFound)
            ├── TapRefused           this user may not              (Denied)
            └── TapFailed            packets cannot be passed on
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, Denied, DMSError, NotFound, Unavailable


class ExecutorError(DMSError):
    """The executor failed."""

    code = "executor"


class ExecutionNotFound(NotFound, ExecutorError):
    """There is no such execution."""

    code = "execution_not_found"


class AlreadyStarted(Conflict, ExecutorError):
    """execution is already started"""

    code = "already_started"


class InvalidEngineSpec(BadInput, ExecutorError):
    """The engine parameters cannot work."""

    code = "invalid_engine_spec"


class StartFailed(ExecutorError):
    """The workload could not be started."""

    code = "start_failed"


class StatusNotReached(ExecutorError):
    """The execution did not reach that status."""

    code = "status_not_reached"


class NotRunning(Conflict, ExecutorError):
    """The execution does not run."""

    code = "not_running"


class Unsupported(BadInput, ExecutorError):
    """This executor cannot do that."""

    code = "unsupported"


class ExecutorUnavailable(Unavailable, ExecutorError):
    """The executor's backend does not answer."""

    code = "executor_unavailable"


class EngineRefused(ExecutorError):
    """The engine refused."""

    code = "engine_refused"

    def __init__(self, message: str = "", *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class TapError(ExecutorError):
    """The TAP device cannot be had."""

    code = "tap"


class TapExists(Conflict, TapError):
    """There is a network device of this name already."""

    code = "tap_exists"


class TapNotFound(NotFound, TapError):
    """There is no such network device."""

    code = "tap_not_found"


class TapRefused(Denied, TapError):
    """This user may not change network devices."""

    code = "tap_refused"
    default_hint = "run it as root, or with the capability CAP_NET_ADMIN"


class TapFailed(TapError):
    """Packets cannot be passed on."""

    code = "tap_failed"
