"""Errors of the command line.

::

    DMSError
    └── CLIError
        ├── DaemonNotRunning   no node listens there                              (Unavailable)
        ├── NoReply            the node sent the message, and nothing came back   (TimedOut)
        ├── BadReply           what came back is not what was asked for           (Unavailable)
        ├── Refused            the node answered that it cannot
        │   ├── RefusedUnknown    because it does not know what was named         (NotFound)
        │   ├── RefusedDenied     because it is somebody else's matter         (Denied)
        │   └── RefusedState      because the present state does not allow it     (Conflict)
        ├── NetworkNotFound    no profile of this name                            (NotFound)
        ├── PlanFailed         there is no plan, whatever the reason
        └── DeploymentFailed   the deployment ended badly
"""

from __future__ import annotations

from dms.types.errors import Conflict, Denied, DMSError, NotFound, TimedOut, Unavailable


class CLIError(DMSError):
    """The command failed."""

    code = "cli"


class DaemonNotRunning(Unavailable, CLIError):
    """No node answers."""

    code = "daemon_not_running"
    default_hint = "start it with nunet run"


class NoReply(TimedOut, CLIError):
    """No reply came in time."""

    code = "no_reply"
    default_hint = "the node may be down, or your context is a stranger to it: strangers get no answer"


class BadReply(Unavailable, CLIError):
    """The reply cannot be trusted."""

    code = "bad_reply"


class Refused(CLIError):
    """The node refused."""

    code = "refused"


class RefusedUnknown(NotFound, Refused):
    """The node does not know this."""


class RefusedDenied(Denied, Refused):
    """This is somebody else's matter."""


class RefusedState(Conflict, Refused):
    """The present state does not allow this."""


class NetworkNotFound(NotFound, CLIError):
    """There is no such network here."""

    code = "network_not_found"


class PlanFailed(CLIError):
    """The plan could not be made."""

    code = "plan_failed"
    exit_code = 255


class DeploymentFailed(CLIError):
    """The deployment failed."""

    code = "deployment_failed"
