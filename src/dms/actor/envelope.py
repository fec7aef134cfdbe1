"""The signed message between actors (``spec/security.md`` 5.1).

The signature covers ``dms:msg:`` and the canonical JSON of the envelope without ``sig``, and is made with the key of
``from.id``. A receiver verifies the *re-encoding* of what it parsed, never the received bytes.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import TypeVar

import msgspec

from dms.actor.errors import BadSender, BadSignature, InvalidMessage, MessageExpired
from dms.actor.handle import Handle
from dms.identity.ids import ActorID
from dms.identity.keys import PrivateKey
from dms.types import gojson
from dms.types.errors import BadJSON, DMSError
from dms.types.gojson import Wire
from dms.types.lazy import lazy
from dms.types.traceparent import parse_traceparent

SIGNATURE_PREFIX = b"dms:msg:"
DEFAULT_LIFETIME_NS = 30 * 10**9
MAX_UINT64 = 2**64 - 1
MAX_LIFETIME_NS = 24 * 3600 * 10**9
"""Envelopes that would live longer are refused. It is long because a request to deploy lives as long as its user is willing
to wait; what that costs in memory is bounded by :mod:`dms.actor.replay`."""
MAX_BROADCAST_LIFETIME_NS = 3600 * 10**9
"""Nobody waits for answers to a broadcast for hours, and everybody must remember it."""
MAX_SKEW_NS = 60 * 10**9
"""By how much a sender's clock may be ahead of ours before a lifetime looks too long. One that is behind shortens the time
in which the message is valid here: then it is refused as expired, and a known sender is told by how much."""

P = TypeVar("P")


class Options(Wire):
    """Expiry in UNIX nanoseconds, the behaviour that takes the reply, and the topic of a broadcast."""

    exp: int
    cont: str = ""
    topic: str = ""


class Envelope(Wire, dict=True):
    """One message; field order is the signed order."""

    to: Handle
    be: str
    from_: Handle = msgspec.field(name="from")
    nonce: int
    opt: Options
    msg: bytes
    cap: bytes = b""
    sig: bytes = b""
    trace: str = ""
    """Where the sender is in which trace (W3C ``traceparent``), or nothing. Not signed, and not read for anything but traces:
    the original re-encodes what it knows before it verifies, so a member that the signature covered would break it there."""

    @property
    def is_broadcast(self) -> bool:
        """Addressed to nobody in particular, on a topic."""
        return self.opt.topic != "" and not self.to

    def payload(self, type_: type[P]) -> P:
        """The payload as ``type_``; an empty payload reads as ``null``.

        :raises BadJSON: it is something else.
        """
        return gojson.decode(self.msg or b"null", type_)

    @lazy
    def unsigned_json(self) -> bytes:
        """Canonical JSON without ``sig``, the last of the members, and what stands behind it."""
        return gojson.encode(msgspec.structs.replace(self, sig=b"", trace="") if self.sig or self.trace else self)

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return SIGNATURE_PREFIX + self.unsigned_json

    def sign(self, key: PrivateKey) -> Envelope:
        """The same message with a signature.

        :raises BadSender: the key is not that of ``from``.
        """
        if ActorID.of(key.public) != self.from_.id:
            raise BadSender
        signed = msgspec.structs.replace(self, sig=key.sign(self.signed_bytes()))
        signed.__dict__["unsigned_json"] = self.unsigned_json
        return signed

    def verify(self, now_ns: int) -> None:
        """Check lifetime, key and signature.

        :raises MessageExpired: past its expiry.
        :raises InvalidMessage: no usable key, or a lifetime beyond :data:`MAX_LIFETIME_NS`.
        :raises BadSignature: the signature does not fit.
        """
        self.check_lifetime(now_ns)
        self.check_signature()

    def check_lifetime(self, now_ns: int) -> None:
        """The cheap half of :meth:`verify`.

        :raises MessageExpired: past its expiry.
        :raises InvalidMessage: a lifetime beyond :data:`MAX_LIFETIME_NS`.
        """
        left_ns = self.opt.exp - now_ns
        if left_ns < 0:
            raise MessageExpired(f"message expired {-left_ns / 1e9:.1f} s ago by the clock of the receiver")
        if left_ns > MAX_LIFETIME_NS + MAX_SKEW_NS:
            raise InvalidMessage("invalid message: it would live longer than a day")
        if self.opt.topic and left_ns > MAX_BROADCAST_LIFETIME_NS + MAX_SKEW_NS and self.is_broadcast:
            raise InvalidMessage("invalid message: a broadcast that would live longer than an hour")

    def check_signature(self) -> None:
        """The costly half of :meth:`verify`.

        :raises InvalidMessage: no usable key.
        :raises BadSignature: the signature does not fit.
        """
        try:
            key = self.from_.id.public_key()
        except DMSError as exc:
            raise InvalidMessage(f"invalid message: {exc.message}") from None
        if not key.verify(self.signed_bytes(), self.sig):
            raise BadSignature

    def encode(self) -> bytes:
        """The bytes on the wire."""
        if not self.sig:
            return self.unsigned_json
        signed = b'%b,"sig":"%b"}' % (self.unsigned_json[:-1], b2a_base64(self.sig, newline=False))
        if not self.trace or parse_traceparent(self.trace) is None:
            return signed
        return b'%b,"trace":"%b"}' % (signed[:-1], self.trace.encode())


def decode_envelope(data: bytes) -> Envelope:
    """Parse an envelope.

    :raises InvalidMessage: not JSON, not an envelope, or a number that others could not read.
    """
    try:
        message = gojson.decode(data, Envelope)
    except BadJSON as exc:
        raise InvalidMessage(f"invalid message: {exc.message}") from None
    if not (0 <= message.nonce <= MAX_UINT64 and 0 <= message.opt.exp <= MAX_UINT64):
        raise InvalidMessage("invalid message: nonce or expiry out of range")
    return message


def encode_payload(payload: object) -> bytes:
    """A payload as it lies in ``msg``; ``None`` is the nil payload."""
    return b"" if payload is None else gojson.encode(payload)
