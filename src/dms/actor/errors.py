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
        ├── ActorExists         the inbox is taken                           (Conflict)
        └── InvocationTimeout   no reply before the deadline                 (TimedOut)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, Denied, DMSError, TimedOut, Unavailable


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


class ActorExists(Conflict, ActorError):
    """actor already exists"""

    code = "actor_exists"


class InvocationTimeout(TimedOut, ActorError):
    """No reply came in time."""

    code = "invocation_timeout"
    default_hint = (
        "the other side may be down, or may not hold or accept the capability: unauthorised requests get no answer"
    )
