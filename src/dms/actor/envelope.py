"""The signed message between actors (``spec/security.md`` 5.1).

The signature covers ``dms:msg:`` and the canonical JSON of the envelope without ``sig``, and is made with the key of
``from.id``. A receiver verifies the *re-encoding* of what it parsed, never the received bytes.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from dms.actor.errors import BadSender, BadSignature, InvalidMessage, MessageExpired
from dms.actor.handle import Handle
from dms.identity.ids import ActorID
from dms.identity.keys import PrivateKey
from dms.types import gojson
from dms.types.errors import BadJSON, DMSError
from dms.types.gojson import Wire

SIGNATURE_PREFIX = b"dms:msg:"
DEFAULT_LIFETIME_NS = 30 * 10**9
MAX_LIFETIME_NS = 24 * 3600 * 10**9
"""Envelopes that would live longer are refused: whoever holds one could replay it for ever."""

P = TypeVar("P")


class Options(Wire):
    """Expiry in UNIX nanoseconds, the behaviour that takes the reply, and the topic of a broadcast."""

    exp: int
    cont: str = ""
    topic: str = ""


class Envelope(Wire):
    """One message; field order is the signed order."""

    to: Handle
    be: str
    from_: Handle = msgspec.field(name="from")
    nonce: int
    opt: Options
    msg: bytes
    cap: bytes = b""
    sig: bytes = b""

    @property
    def is_broadcast(self) -> bool:
        """Addressed to nobody in particular, on a topic."""
        return self.opt.topic != "" and not self.to

    def payload(self, type_: type[P]) -> P:
        """The payload as ``type_``; an empty payload reads as ``null``.

        :raises BadJSON: it is something else.
        """
        return gojson.decode(self.msg or b"null", type_)

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return SIGNATURE_PREFIX + gojson.encode(msgspec.structs.replace(self, sig=b""))

    def sign(self, key: PrivateKey) -> Envelope:
        """A signed copy.

        :raises BadSender: the key is not that of ``from.id``.
        """
        if ActorID.of(key.public) != self.from_.id:
            raise BadSender
        return msgspec.structs.replace(self, sig=key.sign(self.signed_bytes()))

    def verify(self, now_ns: int) -> None:
        """Check lifetime, key and signature.

        :raises MessageExpired: past its expiry.
        :raises InvalidMessage: no usable key, or a lifetime beyond :data:`MAX_LIFETIME_NS`.
        :raises BadSignature: the signature does not fit.
        """
        if now_ns > self.opt.exp:
            raise MessageExpired
        if self.opt.exp - now_ns > MAX_LIFETIME_NS:
            raise InvalidMessage("invalid message: it would live longer than a day")
        try:
            key = self.from_.id.public_key()
        except DMSError as exc:
            raise InvalidMessage(f"invalid message: {exc.message}") from None
        if not key.verify(self.signed_bytes(), self.sig):
            raise BadSignature

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return gojson.encode(self)


def decode_envelope(data: bytes) -> Envelope:
    """Parse an envelope.

    :raises InvalidMessage: not JSON, or not an envelope.
    """
    try:
        return gojson.decode(data, Envelope)
    except BadJSON as exc:
        raise InvalidMessage(f"invalid message: {exc.message}") from None


def encode_payload(payload: object) -> bytes:
    """A payload as it lies in ``msg``; ``None`` is the nil payload."""
    return b"" if payload is None else gojson.encode(payload)
