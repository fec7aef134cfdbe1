"""What an actor may do and whom it obeys: its key, joined to the capability context of its node (``spec/security.md`` 5.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from dms.actor.envelope import Envelope
from dms.actor.errors import InvalidMessage
from dms.capability.admission import Carried
from dms.capability.context import CapabilityContext
from dms.capability.errors import NotAuthorized
from dms.capability.token import Action, Token, TokenList
from dms.identity.ids import DID, NO_DID, ActorID
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

    def grant(
        self, subject: DID, audience: DID, caps: Sequence[Capability], lifetime_ns: int, *, depth: int = GRANT_DEPTH
    ) -> TokenList:
        """Let ``subject`` use ``caps`` at ``audience`` for a while (``spec/security.md`` 5.9); what :meth:`withdraw` takes.

        Where it should last as long as an actor, use :class:`dms.actor.grants.Grants`.
        """
        expiry_ns = self.now_ns() + lifetime_ns
        tokens = self.capabilities.grant(Action.DELEGATE, subject, audience, (), expiry_ns, depth, list(caps))
        self.capabilities.add_roots((), tokens, TokenList(), TokenList())
        return tokens

    def withdraw(self, tokens: TokenList) -> None:
        """Take a dynamic grant back; what rests on it counts no more."""
        self.capabilities.remove_roots((), tokens, TokenList(), TokenList())

    def restore(self, tokens: TokenList) -> None:
        """Have a dynamic grant in force that may have been dropped as covered by another; one that is, is left."""
        self.capabilities.add_roots((), tokens, TokenList(), TokenList())

    # what we receive -----------------------------------------------------------------------------------------------

    async def resolve(self, message: Envelope) -> None:
        """Fetch the keys of DIDs that :meth:`require` will need and that are not in the DID itself; bounded in time."""
        await self.capabilities.resolve(message.cap)

    def require(self, message: Envelope, caps: Sequence[Capability]) -> tuple[Token, Carried] | None:
        """Check that the sender may use one of ``caps`` here. The deciding token, and what is held until :meth:`discard`;
        nothing for a message to ourselves.

        The identity that the message claims must be the key's own or have issued the deciding token.

        :raises NotAuthorized: no chain of capabilities leads from us or somebody we trust to the sender.
        """
        if message.from_.id == self.id and message.to.id == self.id:
            return None
        return self._admitted(message, self.id, "", caps)

    def require_broadcast(self, message: Envelope, topic: str, caps: Sequence[Capability]) -> tuple[Token, Carried]:
        """The same for a broadcast on ``topic``."""
        if not message.is_broadcast or message.opt.topic != topic:
            raise InvalidMessage
        return self._admitted(message, NO_DID, topic, caps)

    def discard(self, carried: Carried) -> None:
        """Forget the tokens that came with a message."""
        self.capabilities.discard(carried)

    def _admitted(
        self, message: Envelope, audience: ActorID | DID, topic: str, caps: Sequence[Capability]
    ) -> tuple[Token, Carried]:
        claimed, sender = message.from_.did, message.from_.id
        carried = self.capabilities.consume(claimed, message.cap, sender=sender)
        try:
            decision = self.capabilities.decide(self.did, sender, audience, caps, origin=claimed, topic=topic)
        except BaseException:
            self.discard(carried)
            raise
        if decision.token is None:
            self.discard(carried)
            raise NotAuthorized(decision.message, hint=decision.hint, decision=decision)
        return decision.token, carried
