"""Errors of actors; texts as in the original where scripts may look for them (``spec/security.md`` 5.1).

::

    DMSError
    └── ActorError
        ├── InvalidMessage      not an envelope, or one that lacks a part    (BadInput)
        │   ├── MissingOption   no reply-to where one is needed
        │   └── BadSender       the sender is not who it must be
        ├── BadSignature        the signature does not fit                   (Denied)
        ├── MessageExpired      its time is over
        ├── Replayed            this sender used this nonce before           (Denied)
        ├── RateLimited         too much at once                             (Unavailable)
        ├── UnknownBehaviour    this actor does not answer to that name      (NotFound)
        ├── ActorExists         the inbox is taken                           (Conflict)
        ├── ChildFailed         a child failed too often                     (Internal)
        ├── InvocationTimeout   no reply before the deadline                 (TimedOut)
        └── RemoteError         the other side told why it refused; same codes as above
            ├── RemoteNotAuthorized     it does not let us do this           (Denied)
            ├── RemoteUnknownBehaviour  it does not answer to that name      (NotFound)
            ├── RemoteRateLimited       we sent too much                     (Unavailable)
            └── RemoteExpired           when it arrived its time was over
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dms.types.errors import BadInput, Conflict, Denied, DMSError, Internal, NotFound, TimedOut, Unavailable


class ActorError(DMSError):
    """The actor failed."""

    code = "actor"


class InvalidMessage(BadInput, ActorError):
    """invalid message"""

    code = "invalid_message"


class MissingOption(InvalidMessage):
    """missing option"""

    code = "missing_option"


class BadSender(InvalidMessage):
    """bad sender"""

    code = "bad_sender"


class BadSignature(Denied, ActorError):
    """signature verification failed"""

    code = "bad_signature"


class MessageExpired(ActorError):
    """message expired"""

    code = "message_expired"
    default_hint = "compare the clocks of the two machines"


class Replayed(Denied, ActorError):
    """This message was seen before."""

    code = "replayed"


class RateLimited(Unavailable, ActorError):
    """rate limit exceeded"""

    code = "rate_limited"


class UnknownBehaviour(NotFound, ActorError):
    """unknown behaviour"""

    code = "unknown_behaviour"


class ActorExists(Conflict, ActorError):
    """actor already exists"""

    code = "actor_exists"


class ChildFailed(Internal, ActorError):
    """A child failed too often to be started again."""

    code = "child_failed"


class InvocationTimeout(TimedOut, ActorError):
    """No reply came in time."""

    code = "invocation_timeout"
    default_hint = "the other side may be down, or may not hold or accept the capability: strangers get no answer"


class RemoteError(ActorError):
    """The other side refused the message.

    ``decision``: what it tells about the denial (:meth:`dms.capability.decision.Decision.as_data`), or nothing.
    """

    code = "remote"

    def __init__(self, message: str = "", *, hint: str = "", decision: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.decision: Mapping[str, Any] = decision or {}


class RemoteNotAuthorized(Denied, RemoteError):
    """not authorized"""

    code = "not_authorized"


class RemoteUnknownBehaviour(NotFound, RemoteError):
    """unknown behaviour"""

    code = "unknown_behaviour"


class RemoteRateLimited(Unavailable, RemoteError):
    """rate limit exceeded"""

    code = "rate_limited"


class RemoteExpired(RemoteError):
    """message expired"""

    code = "message_expired"
    default_hint = "compare the clocks of the two machines"
