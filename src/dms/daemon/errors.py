"""Errors of the process::

DMSError
├── Conflict
│   └── AlreadyRuns     the file of process ids names a process that lives     exit code 5
└── Unavailable
    └── TimedOut
        ├── StartTookTooLong                                                    exit code 6
        └── StopTookTooLong                                                     exit code 6
"""

from __future__ import annotations

from dms.types.errors import Conflict, TimedOut


class AlreadyRuns(Conflict):
    """Another node runs already."""

    code = "already_runs"
    default_hint = "stop it first, or give this one a --pid-file and directories of its own"


class StartTookTooLong(TimedOut):
    """The node did not start in time."""

    code = "start_too_long"
    default_hint = "its log tells what was reached last"


class StopTookTooLong(TimedOut):
    """The node did not stop in time and was ended."""

    code = "stop_too_long"
    default_hint = "what was acknowledged is on disk; the next start goes on from there"
