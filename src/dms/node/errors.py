"""Errors of the node; texts as in the original where scripts may look for them.

::

    DMSError
    └── NodeError
        ├── EdgeUnmeasured        the connection to a peer was not measured   (Unavailable)
        ├── NoBid                 commit without a bid of ours, or too late   (Conflict)
        ├── InvalidRequest        ids or ports that cannot be                 (BadInput)
        ├── NotCommitted          allocate without a commit                   (Conflict)
        ├── NoTicket              nothing is forwarded for this secret        (Denied)
        ├── StaleRequest          taken back before it arrived                (Conflict)
        └── ExecutorMissing       this machine lacks the executor             (Unavailable)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, Denied, DMSError, Unavailable


class NodeError(DMSError):
    """The node failed."""

    code = "node"


class EdgeUnmeasured(Unavailable, NodeError):
    """The connection to the peer cannot be measured."""

    code = "edge_unmeasured"


class NoBid(Conflict, NodeError):
    """no bid requests for this ensemble"""

    code = "no_bid"


class InvalidRequest(BadInput, NodeError):
    """The request makes no sense."""

    code = "invalid_request"


class NotCommitted(Conflict, NodeError):
    """allocation not committed"""

    code = "not_committed"


class NoTicket(Denied, NodeError):
    """The ticket for this connection is not valid."""

    code = "no_ticket"
    default_hint = "ask for another one"


class StaleRequest(Conflict, NodeError):
    """A later request took this one back before it arrived."""

    code = "stale_request"


class ExecutorMissing(Unavailable, NodeError):
    """This machine lacks the executor."""

    code = "executor_missing"
