"""Errors of local networks.

::

    DMSError
    └── DevnetError
        ├── DevnetRunning     there is one already                  (Conflict)
        ├── DevnetNotFound    there is none                         (NotFound)
        └── NodeFailed        a node did not come up
"""

from __future__ import annotations

from dms.types.errors import Conflict, DMSError, NotFound


class DevnetError(DMSError):
    """The local network failed."""

    code = "devnet"


class DevnetRunning(Conflict, DevnetError):
    """A local network runs already."""

    code = "devnet_running"
    default_hint = "end it with nunet devnet down, or choose another --dir"


class DevnetNotFound(NotFound, DevnetError):
    """There is no local network."""

    code = "devnet_not_found"
    default_hint = "start one with nunet devnet up"


class NodeFailed(DevnetError):
    """A node did not come up."""

    code = "node_failed"
