"""Errors of the REST server; each names its HTTP status.

::

    DMSError
    └── APIError
        ├── BadRequest        not an envelope, or one that cannot be forwarded  400
        ├── RequestTimeout    no reply before the message expired               408
        └── RESTAddressInUse  another program listens there                     (Conflict)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, DMSError, TimedOut


class APIError(DMSError):
    """The request failed."""

    code = "api"


class BadRequest(BadInput, APIError):
    """The request cannot be understood."""

    code = "bad_request"


class RequestTimeout(TimedOut, APIError):
    """request timeout"""

    code = "request_timeout"


class RESTAddressInUse(Conflict, APIError):
    """Another program listens on the address of the REST server."""

    code = "rest_address_in_use"
    default_hint = "stop the other program, or set another rest.port"
