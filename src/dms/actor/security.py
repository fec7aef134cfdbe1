"""What an actor may do and whom it obeys: its key, joined to the capability context of its node (``spec/security.md`` 5.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from dms.actor.envelope import Envelope
from dms.actor.errors import InvalidMessage
from dms.capability.context import CapabilityContext
from dms.capability.token import Action, TokenList
from dms.identity.ids import DID, ActorID
from dms.identity.keys import PrivateKey
from dms.types.ids import Capability

GRANT_DEPTH = 1
"""Whoever receives a dynamic grant may use it, and may not pass it on."""


class SecurityContext:
    """Signs and authorises what one actor sends, verifies and admits what it receives."""

    def __init__(
        self, key: PrivateKey, capabilities: CapabilityContext, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.key = key
        self.id = ActorID.of(key.public)
        self.capabilities = capabilities
        self._clock_ns = clock_ns
        self._nonce = clock_ns()

    @property
    def did(self) -> DID:
        """The identity that the actor acts for."""
        return self.capabilities.did

    def now_ns(self) -> int:
        """Wall clock, UNIX nanoseconds."""
        return self._clock_ns()

    def next_nonce(self) -> int:
        """A number that this actor never used before: the clock at creation, then one more each time."""
        self._nonce += 1
        return self._nonce

    # what we send --------------------------------------------------------------------------------------------------

    def provide(self, message: Envelope, invoke: Sequence[Capability], delegate: Sequence[Capability] = ()) -> Envelope:
        """Attach the tokens for ``invoke`` at the recipient, let the recipient use ``delegate`` here, and sign.

        :raises NotAuthorized: ``invoke`` is empty.
        """
        if not (message.from_.id == self.id and message.to.id == self.id):
            caps = self.capabilities.provide(
                message.to.did, self.id, message.to.id, message.opt.exp, list(invoke), list(delegate)
            )
            message = msgspec.structs.replace(message, cap=caps)
        return message.sign(self.key)

    def provide_broadcast(self, message: Envelope, topic: str, invoke: Sequence[Capability]) -> Envelope:
        """Attach the tokens for a broadcast on ``topic``, and sign.

        :raises InvalidMessage: it is no broadcast on that topic.
        """
        if not message.is_broadcast or message.opt.topic != topic:
            raise InvalidMessage
        caps = self.capabilities.provide_broadcast(self.id, topic, message.opt.exp, list(invoke))
        return msgspec.structs.replace(message, cap=caps).sign(self.key)

    def grant(self, subject: DID, audience: DID, caps: Sequence[Capability], lifetime_ns: int) -> None:
        """Let ``subject`` use ``caps`` at ``audience`` for a while (a dynamic grant, ``spec/security.md`` 5.9)."""
        expiry_ns = self.now_ns() + lifetime_ns
        tokens = self.capabilities.grant(Action.DELEGATE, subject, audience, (), expiry_ns, GRANT_DEPTH, list(caps))
        self.capabilities.add_roots((), tokens, TokenList(), TokenList())

    # what we receive -----------------------------------------------------------------------------------------------

    def require(self, message: Envelope, caps: Sequence[Capability]) -> None:
        """Check that the sender may use one of ``caps`` here; its tokens stay until :meth:`discard`.

        The identity that the message claims must be the key's own or have issued the deciding token.

        :raises NotAuthorized: no chain of capabilities leads from us or somebody we trust to the sender.
        """
        if message.from_.id == self.id and message.to.id == self.id:
            return
        claimed = message.from_.did
        self.capabilities.consume(claimed, message.cap, sender=message.from_.id)
        try:
            self.capabilities.require(self.did, message.from_.id, self.id, list(caps), origin=claimed)
        except BaseException:
            self.discard(message)
            raise

    def require_broadcast(self, message: Envelope, topic: str, caps: Sequence[Capability]) -> None:
        """The same for a broadcast on ``topic``."""
        if not message.is_broadcast or message.opt.topic != topic:
            raise InvalidMessage
        claimed = message.from_.did
        self.capabilities.consume(claimed, message.cap, sender=message.from_.id)
        try:
            self.capabilities.require_broadcast(self.did, message.from_.id, topic, list(caps), origin=claimed)
        except BaseException:
            self.discard(message)
            raise

    def discard(self, message: Envelope) -> None:
        """Forget the tokens that came with a message."""
        if message.cap:
            self.capabilities.discard(message.cap, sender=message.from_.id)
