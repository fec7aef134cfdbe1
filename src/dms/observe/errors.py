"""Errors of what is sent to other services.

::

    DMSError
    └── NotDelivered            a service did not take it; it is tried again          (Unavailable)
        └── DeliveryDenied      it refuses the credentials; tried again after a while
"""

from __future__ import annotations

from dms.types.errors import Unavailable


class NotDelivered(Unavailable):
    """The service does not take what is sent to it."""

    code = "not_delivered"
    default_hint = "the node goes on without it and tries again; check the address and the network"


class DeliveryDenied(NotDelivered):
    """invalid credentials (401 unauthorized)"""

    code = "delivery_denied"
    default_hint = "check the API key or the token of this output"
