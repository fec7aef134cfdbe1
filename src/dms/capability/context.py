"""A capability context: whom we trust, what we were given, and what the messages of the moment carry
(``spec/security.md`` 4).

===========  ===============================================================================================
roots        DIDs trusted fully: any valid chain in which one of them is an issuer is obeyed
require      grants by ourselves or others that lend trust to chains passing through their subject (side chains)
provide      delegations that we received, from which outgoing tokens are made
ephemeral    tokens of messages being handled, by subject; consumed on arrival, discarded after
revoked      revocations, until the revoked tokens would have expired anyway
===========  ===============================================================================================

This module joins the parts: :mod:`~dms.capability.anchors` holds what lasts, :mod:`~dms.capability.admission` is the
input side, :mod:`~dms.capability.issuing` the output side. Everything is synchronous and in memory;
:mod:`dms.capability.store` keeps it on disk. Not thread-safe: use it from one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from dms.capability.admission import Admission, Carried, ask
from dms.capability.anchors import Anchors
from dms.capability.decision import Decision
from dms.capability.errors import NotAuthorized
from dms.capability.issuing import Issuing, SelfSign
from dms.capability.revocations import MAX_REVOCATIONS, MAX_REVOCATIONS_PER_ISSUER
from dms.capability.token import NO_TOKENS, Action, Token, TokenList, decode_token_list
from dms.identity.ids import DID, NO_DID, ActorID
from dms.identity.trust import RESOLVE_TIMEOUT_S, TrustContext
from dms.types.ids import Capability

__all__ = ["MAX_EPHEMERAL", "MAX_REVOCATIONS", "MAX_REVOCATIONS_PER_ISSUER", "CapabilityContext", "SelfSign"]

MAX_EPHEMERAL: Final = 16384
"""Tokens of messages that are kept at once; more are ignored."""


class CapabilityContext:
    """What one identity (``did``) accepts and what it can show.

    ``load_problems`` tells what its file held and could not be used; ``unresolved`` holds the tokens among these whose
    issuers' keys could not be fetched, by the part of the file: they stay in it.
    """

    def __init__(
        self,
        name: str,
        did: DID,
        trust: TrustContext,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        max_ephemeral: int = MAX_EPHEMERAL,
        max_revocations_per_issuer: int = MAX_REVOCATIONS_PER_ISSUER,
        max_revocations: int = MAX_REVOCATIONS,
    ) -> None:
        self.name = name
        self.did = did
        self.load_problems: tuple[str, ...] = ()
        self.unresolved: dict[str, tuple[Token, ...]] = {}
        self._trust = trust
        self._clock_ns = clock_ns
        self._anchors = Anchors(
            did, trust, max_revocations_per_issuer=max_revocations_per_issuer, max_revocations=max_revocations
        )
        self._admission = Admission(name, self._anchors, trust, clock_ns, max_ephemeral)
        self._issuing = Issuing(name, self._anchors, trust, clock_ns)
        self._subscribers: dict[object, Callable[[], None]] = {}

    # anchors -------------------------------------------------------------------------------------------------------

    def add_roots(
        self,
        roots: Iterable[DID] = (),
        require: TokenList = NO_TOKENS,
        provide: TokenList = NO_TOKENS,
        revoke: TokenList = NO_TOKENS,
    ) -> None:
        """Add anchors of every kind, all or nothing; revocations take effect at once. What is here already changes
        nothing and is told to nobody.

        :raises BadToken: a token is malformed or could never be of use where it was put.
        :raises CapabilityError: a token does not verify; :class:`SignatureFailed` if its signature does not.
        :raises TooManyRevocations: no room for those of this issuer (:mod:`dms.capability.revocations`).
        """
        self._add(roots, require, provide, revoke)

    def restore(self, revoke: TokenList) -> None:
        """Add revocations that were kept on disk, where there was room for them.

        :raises CapabilityError: as :meth:`add_roots`.
        """
        self._add((), NO_TOKENS, NO_TOKENS, revoke, were_kept=True)

    def list_roots(self) -> tuple[tuple[DID, ...], TokenList, TokenList, TokenList]:
        """Roots, require and provide anchors, and revocations; what has expired is left out."""
        return self._anchors.listed(self._clock_ns())

    def remove_roots(
        self,
        roots: Iterable[DID] = (),
        require: TokenList = NO_TOKENS,
        provide: TokenList = NO_TOKENS,
        revoke: TokenList = NO_TOKENS,
    ) -> int:
        """Remove roots by DID, require and provide anchors by issuer and nonce, revocations by what they revoke.

        :returns: how many were there.
        """
        removed = self._anchors.remove(roots, require, provide, revoke)
        if removed:
            self._tell_of_change()
        return removed

    def collect_garbage(self) -> int:
        """Drop everything that has expired; how much that was."""
        now_ns = self._clock_ns()
        self._issuing.collect_garbage(now_ns)
        return self._anchors.collect_garbage(now_ns) + self._admission.drop(lambda token: token.expires_before(now_ns))

    def subscribe_changes(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after anchors or revocations were added or removed; not when they merely expire.

        :returns: ends the subscription.
        """
        key = object()
        self._subscribers[key] = callback
        return lambda: self._end_subscription(key)

    # input ---------------------------------------------------------------------------------------------------------

    async def resolve(self, blob: bytes, *, timeout_s: float = RESOLVE_TIMEOUT_S) -> None:
        """Fetch the keys that the tokens of a message still need, before :meth:`consume`; nothing to do for did:key.

        Only for tokens that could count here once they verify: nobody else can make us ask anybody. What cannot be
        fetched is told by the denial that follows.

        :raises BlobTooBig: more than 16384 bytes.
        :raises BadToken: not a token list.
        """
        now_ns = self._clock_ns()
        missing = [
            level.iss
            for token in decode_token_list(blob).tokens
            if token.is_well_formed and any(not self._trust.is_resolved(did) for did in token.issuers)
            if self._anchors.admit(token, self.did, now_ns)
            for level in token.levels
        ]
        if missing:
            await self._trust.resolve_all(missing, timeout_s=timeout_s)

    def consume(self, origin: DID, blob: bytes, *, sender: ActorID | None = None) -> Carried:
        """Admit the tokens of a message until :meth:`discard`; what cannot count here is left out without an error.

        :param origin: the DID that the message claims to come from.
        :param sender: whose key signed the message; then only tokens for that key or for ourselves are kept.
        :raises BlobTooBig: more than 16384 bytes.
        :raises BadToken: not a token list.
        """
        return self._admission.consume(origin, blob, sender)

    def decide(
        self,
        anchor: DID,
        subject: ActorID | DID,
        audience: ActorID | DID,
        caps: Sequence[Capability],
        *,
        origin: DID = NO_DID,
        topic: str = "",
    ) -> Decision:
        """Whether ``subject`` may invoke one of ``caps`` at ``audience``, by a chain anchored on ``anchor``, a root or
        a side chain; and if not, why. With a ``topic``, whether it may broadcast there.

        :param origin: the DID that the message claims; if given, it must be the subject's own or have issued the
            deciding token.
        """
        action = Action.BROADCAST if topic else Action.INVOKE
        return self._admission.decide(ask(action, anchor, subject, audience, caps, topic, origin))

    def explain(
        self,
        subject: DID,
        caps: Sequence[Capability],
        *,
        audience: DID = NO_DID,
        topic: str = "",
        tokens: TokenList = NO_TOKENS,
        now_ns: int | None = None,
    ) -> Decision:
        """What would be decided if a message of ``subject`` arrived that carries ``tokens``, what can be made of those
        that delegate to it, and the self-signed token that every message carries.

        :param audience: by default ourselves.
        :param now_ns: the time of the decision, by default now.
        """
        action = Action.BROADCAST if topic else Action.INVOKE
        question = ask(action, self.did, subject, audience or self.did, caps, topic, subject)
        return self._admission.explain(question, tokens, now_ns)

    def require(
        self,
        anchor: DID,
        subject: ActorID,
        audience: ActorID,
        caps: Sequence[Capability],
        *,
        origin: DID = NO_DID,
    ) -> None:
        """:meth:`decide` about an invocation, as an error.

        :raises NotAuthorized: no admitted token allows it; the hint tells what was missing, ``decision`` all of it.
        """
        _enforce(self._admission.decide(ask(Action.INVOKE, anchor, subject, audience, caps, "", origin)))

    def require_broadcast(
        self, anchor: DID, subject: ActorID, topic: str, caps: Sequence[Capability], *, origin: DID = NO_DID
    ) -> None:
        """:meth:`decide` about a broadcast on ``topic``, as an error.

        :raises NotAuthorized: no admitted token allows it; the hint tells what was missing, ``decision`` all of it.
        """
        _enforce(self._admission.decide(ask(Action.BROADCAST, anchor, subject, self.did, caps, topic, origin)))

    @property
    def trust(self) -> TrustContext:
        """Whose keys are known here: those in the DIDs themselves, and those that were fetched."""
        return self._trust

    @property
    def ephemeral_count(self) -> int:
        """How many tokens of messages in hand are held; none when no message is being handled."""
        return self._admission.count

    def discard(self, message: Carried) -> None:
        """Forget what :meth:`consume` admitted, once the message is done with."""
        self._admission.discard(message)

    # output --------------------------------------------------------------------------------------------------------

    def provide(
        self,
        target: DID,
        subject: ActorID,
        audience: ActorID,
        expiry_ns: int,
        invoke: Sequence[Capability],
        delegate: Sequence[Capability] = (),
    ) -> bytes:
        """The token list of a message from ``subject`` to ``audience``, an actor of ``target``.

        It always holds a self-signed token for ``invoke``; before it stand those that rest on what ``target`` sent us
        or on our provide anchors, as many as fit. ``delegate`` lets ``target`` use these paths at ``subject``: its
        reply rests on that.

        Messages of the same kind to the same actor carry the same tokens for a while (:mod:`dms.capability.leaves`).

        :raises NotAuthorized: ``invoke`` is empty.
        """
        replies = self._admission.replies_to(target)
        return self._issuing.provide(target, subject, audience, expiry_ns, invoke, delegate, replies)

    def provide_broadcast(self, subject: ActorID, topic: str, expiry_ns: int, caps: Sequence[Capability]) -> bytes:
        """The token list of a broadcast by ``subject`` on ``topic``.

        :raises NotAuthorized: ``caps`` is empty.
        """
        return self._issuing.provide_broadcast(subject, topic, expiry_ns, caps)

    def grant(
        self,
        action: str,
        subject: DID,
        audience: DID,
        topics: Collection[str],
        expiry_ns: int,
        depth: int,
        caps: Sequence[Capability],
    ) -> TokenList:
        """A token signed by ourselves that rests on nothing.

        :raises BadToken: no capabilities.
        """
        return self._issuing.grant(action, subject, audience, topics, expiry_ns, depth, caps)

    def delegate(
        self,
        subject: DID,
        audience: DID,
        topics: Collection[str],
        expiry_ns: int,
        depth: int,
        caps: Sequence[Capability],
        self_sign: SelfSign = SelfSign.NO,
    ) -> TokenList:
        """Pass on to ``subject`` what our provide anchors allow; expiry 0 is that of each anchor.

        :raises NotAuthorized: nothing that we hold allows all of ``caps``, and no self-signed token was wanted.
        """
        return self._issuing.delegate(subject, audience, topics, expiry_ns, depth, caps, self_sign)

    def revoke(self, token: Token) -> Token:
        """The revocation of a token that we issued; it takes effect where it is anchored.

        :raises NotAuthorized: somebody else issued it.
        """
        return self._issuing.revoke(token)

    # ---------------------------------------------------------------------------------------------------------------

    def _add(
        self,
        roots: Iterable[DID],
        require: TokenList,
        provide: TokenList,
        revoke: TokenList,
        *,
        were_kept: bool = False,
    ) -> None:
        if not self._anchors.add(self._clock_ns(), roots, require, provide, revoke, were_kept=were_kept):
            return
        if revoke:
            self._admission.drop(self._anchors.revocations.covers)
        self._tell_of_change()

    def _tell_of_change(self) -> None:
        self._issuing.forget_leaves()
        for callback in list(self._subscribers.values()):
            callback()

    def _end_subscription(self, key: object) -> None:
        self._subscribers.pop(key, None)


def _enforce(decision: Decision) -> None:
    if not decision.allowed:
        raise NotAuthorized(decision.message, hint=decision.hint, decision=decision)
