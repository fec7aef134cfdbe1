"""Signed messages to actors, and their verified replies (``spec/security.md`` 5.2, 6.3).

The daemon only carries messages: authority is in the signature and in the capabilities that the context provides. Each
client has a fresh key, acts for the DID of a context, and takes its replies at an inbox of its own on the node's host.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from dms.actor.envelope import Envelope, Options, decode_envelope, encode_payload
from dms.actor.errors import BadSender, MissingOption
from dms.actor.handle import NOBODY, Address, Handle, handle_of_did, handle_of_peer
from dms.actor.refusal import read_refusal
from dms.actor.security import SecurityContext
from dms.capability.context import CapabilityContext
from dms.cli.errors import BadReply, CLIError, NoReply, Refused, RefusedDenied, RefusedState, RefusedUnknown
from dms.cli.rest import Rest
from dms.identity.ids import DID, did_of
from dms.identity.keys import generate_key
from dms.network.protocol import MAX_MESSAGE_BYTES
from dms.types import gojson
from dms.types.errors import BadInput, BadJSON, DMSError
from dms.types.ids import Capability, PeerID
from dms.types.units import format_duration

MAX_TRACE_CHARS = 256
DEFAULT_TIMEOUT_S = 30.0
GRACE_S = 5.0
"""How much longer than the message lives the node may take to say so."""
NS_PER_S = 10**9
FRAME_BYTES = 8

R = TypeVar("R")


class Client:
    """Talks to actors through the node behind ``rest``, for the context that ``open_context`` opens on first use."""

    def __init__(self, rest: Rest, open_context: Callable[[], CapabilityContext]) -> None:
        self.rest = rest
        self._open_context = open_context

    @cached_property
    def node(self) -> Handle:
        """The root actor of our node."""
        return self.rest.handle()

    @cached_property
    def security(self) -> SecurityContext:
        """A fresh key, joined to the capabilities of the context."""
        _ = self.node  # asked first: a passphrase typed for nothing is an annoyance
        return SecurityContext(generate_key(), self._open_context())

    # messages ------------------------------------------------------------------------------------------------------

    def destination(self, text: str | None) -> Handle:
        """A recipient as written: nothing (our node), a DID, a handle as JSON, or a peer id.

        :raises DMSError: none of these.
        """
        if not text:
            return self.node
        if text.startswith("did:"):
            return handle_of_did(DID.parse(text))
        if text.lstrip().startswith("{"):
            try:
                handle = gojson.decode(text.encode(), Handle)
            except BadJSON as exc:
                raise BadInput(f"the destination is no handle: {exc.message}") from None
            if not handle.id or not handle.addr.host:
                raise BadInput("the destination is no handle: it needs an id and an address")
            return handle
        return handle_of_peer(PeerID(text))

    def message(
        self,
        to: Handle,
        behaviour: str,
        payload: object,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        expiry_ns: int = 0,
        wants_reply: bool = True,
    ) -> Envelope:
        """A signed message to one actor; ``expiry_ns`` (UNIX) instead of ``timeout_s`` where it is given.

        :raises BadInput: it would be too large.
        """
        nonce, expiry_ns = self.security.next_nonce(), expiry_ns or self._expiry(timeout_s)
        cont = f"/private/user/{nonce}" if wants_reply else ""
        message = self._unsigned(to, behaviour, payload, nonce, Options(exp=expiry_ns, cont=cont))
        return _sized(self.security.provide(message, [Capability(behaviour)], [Capability(cont)] if cont else []))

    def broadcast_message(
        self,
        topic: str,
        behaviour: str,
        payload: object,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        expiry_ns: int = 0,
        wants_replies: bool = True,
    ) -> Envelope:
        """A signed message to everybody on a topic. Replies, where they are wanted, are collected until it expires.

        :raises BadInput: it would be too large.
        """
        nonce, expiry_ns = self.security.next_nonce(), expiry_ns or self._expiry(timeout_s)
        cont = f"/public/user/{nonce}" if wants_replies else ""
        options = Options(exp=expiry_ns, cont=cont, topic=topic)
        message = self._unsigned(NOBODY, behaviour, payload, nonce, options)
        return _sized(self.security.provide_broadcast(message, topic, [Capability(behaviour)]))

    def _unsigned(self, to: Handle, behaviour: str, payload: object, nonce: int, options: Options) -> Envelope:
        address = Address(host=self.node.addr.host, inbox=f"user-{nonce}")
        own = Handle(id=self.security.id, did=self.security.did, addr=address)
        # https://opentelemetry.io/docs/specs/otel/context/env-carriers/
        trace = os.environ.get("TRACEPARENT", "")[:MAX_TRACE_CHARS]
        return Envelope(
            to=to, be=behaviour, from_=own, nonce=nonce, opt=options, msg=encode_payload(payload), trace=trace
        )

    def _expiry(self, timeout_s: float) -> int:
        return self.security.now_ns() + int(timeout_s * NS_PER_S)

    # exchanges -----------------------------------------------------------------------------------------------------

    def call(
        self,
        behaviour: str,
        payload: object,
        reply: type[R],
        *,
        to: Handle | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        wait_s: float | None = None,
    ) -> R:
        """Invoke a behaviour and read the reply as ``reply``. The message lives for ``timeout_s``; with ``wait_s`` its
        reply is not waited for so long.

        :raises NoReply: none came.
        :raises BadReply: it is not that of whom we asked, or something else.
        """
        message = self.message(to or self.node, behaviour, payload, timeout_s=timeout_s)
        envelope = invoke_signed(self.rest, message, wait_s=wait_s)
        try:
            return envelope.payload(reply)
        except BadJSON as exc:
            raise BadReply(f"the reply to {behaviour} is not understood: {exc.message}") from None

    def invoke(self, message: Envelope) -> Envelope:
        """Send a message that we made and return the verified reply.

        :raises NoReply: none came.
        :raises BadReply: what came is not the reply.
        """
        return invoke_signed(self.rest, message)

    def broadcast(self, message: Envelope) -> list[Envelope]:
        """Publish a message that we made; the replies, one per sender, without those that do not verify."""
        return broadcast_signed(self.rest, message)


def send_signed(rest: Rest, message: Envelope) -> bytes:
    """Forward a message; what the node answers."""
    return rest.send(message.encode(), _left_s(message) + GRACE_S)


def invoke_signed(rest: Rest, message: Envelope, *, wait_s: float | None = None) -> Envelope:
    """Forward a message and check that what came back is a reply to it, signed by whom it names. The reply is waited for
    as long as the message lives, or for ``wait_s``.

    :raises MissingOption: it asks for no reply.
    :raises NoReply: none came.
    :raises RemoteError: the message was refused, and why.
    :raises BadReply: something else came.
    """
    if not message.opt.cont:
        raise MissingOption("missing replyTo field in message", hint="make the message with nunet actor msg --invoke …")
    wait_s, grace_s = (_left_s(message), GRACE_S) if wait_s is None else (wait_s, 0.0)
    try:
        data = rest.invoke(message.encode(), wait_s + grace_s)
    except NoReply as exc:
        raise NoReply(f"no reply to {message.be} within {format_duration(wait_s)}", hint=exc.hint) from None
    try:
        reply = decode_envelope(data)
        _check_envelope(message, reply)
        if reply.from_.id != message.to.id and did_of(reply.from_.id.public_key()) != message.to.did:
            raise BadSender(f"it comes from {reply.from_}")
    except DMSError as exc:
        raise BadReply(f"what came back for {message.be} is not its reply: {exc.message}", hint=exc.hint) from None
    refusal = read_refusal(reply.msg)
    if refusal is not None:
        raise refusal
    return reply


def broadcast_signed(rest: Rest, message: Envelope) -> list[Envelope]:
    """Publish a message; the replies that are signed by whom they name, one per sender."""
    replies: dict[str, Envelope] = {}
    for data in rest.broadcast(message.encode(), _left_s(message) + GRACE_S):
        try:
            reply = decode_envelope(data)
            _check_envelope(message, reply, is_late_allowed=True)
        except DMSError:
            continue
        replies.setdefault(reply.from_.id.pub, reply)
    return list(replies.values())


def refused(error: str, hint: str = "") -> CLIError:
    """The error for what a node answered in words; the kind is told by the words that all versions use."""
    kind = Refused
    if "not found" in error or error.startswith("no deployment"):
        kind = RefusedUnknown
    elif error.startswith("only who "):
        kind = RefusedDenied
    elif "is not running" in error or "already" in error or error.startswith("the deployment is "):
        kind = RefusedState
    return kind(error, hint=hint)


def _check_envelope(message: Envelope, reply: Envelope, *, is_late_allowed: bool = False) -> None:
    """Addressed to us at the behaviour that we named, alive, signed by the key that it names."""
    if reply.to.id != message.from_.id or reply.be != message.opt.cont:
        raise BadSender("it is addressed to somebody else")
    now_ns = _now_ns()
    if is_late_allowed:  # replies to a broadcast are handed over when it has expired, and expire with it
        now_ns = min(now_ns, message.opt.exp, reply.opt.exp)
    reply.verify(now_ns)


def _sized(message: Envelope) -> Envelope:
    size = len(message.encode()) + FRAME_BYTES
    if size > MAX_MESSAGE_BYTES:
        raise BadInput(
            f"message too large: {size} bytes, at most {MAX_MESSAGE_BYTES} can be sent",
            hint="send less at once; leave large files out of the ensemble",
        )
    return message


def _left_s(message: Envelope) -> float:
    return max(0, message.opt.exp - _now_ns()) / NS_PER_S


def _now_ns() -> int:
    return time.time_ns()
