"""Errors of capabilities; texts as in the original (``spec/security.md`` 3.8).

::

    DMSError
    └── CapabilityError
        ├── NotAuthorized       no chain of authority leads to the one who asks  (Denied)
        ├── CapabilityExpired   a token, or one that it rests on, is over        (Denied)
        ├── BadToken            not a token that can be valid                    (BadInput)
        ├── BlobTooBig          more tokens than a message may carry             (BadInput)
        ├── TooManyRevocations  one issuer revokes more than is kept             (Conflict)
        ├── BadContext          the context file is damaged                      (BadInput)
        └── ContextNotFound     there is no such context file                    (NotFound)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dms.types.errors import BadInput, Conflict, Denied, DMSError, NotFound

if TYPE_CHECKING:
    from dms.capability.decision import Decision


class CapabilityError(DMSError):
    """The capability cannot be used."""

    code = "capability"


class NotAuthorized(Denied, CapabilityError):
    """not authorized"""

    def __init__(self, message: str = "", *, hint: str = "", decision: Decision | None = None) -> None:
        super().__init__(message, hint=hint)
        self.decision = decision
        """Where a context was asked: which tokens were considered, and why each was refused."""


class CapabilityExpired(Denied, CapabilityError):
    """capability expired"""

    code = "capability_expired"
    default_hint = "ask the issuer for a new token; a token cannot outlive those that it rests on"


class BadToken(BadInput, CapabilityError):
    """bad token"""

    code = "bad_token"


class BlobTooBig(BadInput, CapabilityError):
    """capability blob too big"""

    code = "capability_blob_too_big"


class TooManyRevocations(Conflict, CapabilityError):
    """too many revocations by one issuer"""

    code = "too_many_revocations"
    default_hint = "revoke a token higher up in the chains, or wait until some of the revoked tokens have expired"


class BadContext(BadInput, CapabilityError):
    """bad context"""

    code = "bad_context"


class ContextNotFound(NotFound, CapabilityError):
    """unable to open capability context file"""

    code = "context_not_found"
