"""The output side of a context: the tokens that messages carry, and those that people hand on
(``spec/security.md`` 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

from dms.capability.anchors import Anchors
from dms.capability.errors import NotAuthorized
from dms.capability.leaves import Bunch, LeafKey, Leaves, expiry_of_leaf
from dms.capability.rules import allows_delegation
from dms.capability.token import (
    MAX_BLOB_BYTES,
    MAX_UINT64,
    Action,
    Token,
    TokenList,
    encode_token_list,
    issue,
    issue_revocation,
)
from dms.identity.ids import DID, NO_DID, ActorID, did_of
from dms.identity.trust import Provider, TrustContext
from dms.types.errors import BadInput
from dms.types.ids import Capability

_REPLY_DEPTH: Final = 1
_LIST_OVERHEAD: Final = len('{"tok":[]}')


class SelfSign(StrEnum):
    """Whether to add a token without a chain: instead of, beside, or only, those that rest on what we were given."""

    NO = "no"
    ALSO = "also"
    ONLY = "only"

    @classmethod
    def parse(cls, text: str) -> SelfSign:
        """:raises BadInput: none of the three."""
        try:
            return cls(text)
        except ValueError:
            raise BadInput(f"invalid self-sign option: {text}", hint="use no, also or only") from None


class Issuing:
    """Issues as ``anchors.did``."""

    def __init__(self, name: str, anchors: Anchors, trust: TrustContext, clock_ns: Callable[[], int]) -> None:
        self._name = name
        self._anchors = anchors
        self._trust = trust
        self._clock_ns = clock_ns
        self._leaves = Leaves()

    def provide(
        self,
        target: DID,
        subject: ActorID,
        audience: ActorID,
        expiry_ns: int,
        invoke: Sequence[Capability],
        delegate: Sequence[Capability],
        replies: Iterable[Token],
    ) -> bytes:
        """See :meth:`CapabilityContext.provide`; ``replies`` are the tokens by which ``target`` expects us."""
        if not invoke:
            raise NotAuthorized("not authorized: no capability to invoke")
        signer = self._signer()
        who, where = did_of(subject.public_key()), did_of(audience.public_key())
        parents = list(replies)
        last = (
            (issue(signer, Action.DELEGATE, target, who, (), delegate, expiry_ns, depth=_REPLY_DEPTH),)
            if delegate
            else ()
        )
        if not parents:
            return _list_of(self._bunch(Action.INVOKE, who, where, (), expiry_ns, invoke), last)
        own = (issue(signer, Action.INVOKE, who, where, (), invoke, expiry_ns), *last)
        parents += self._provided()
        return _encode(self._rest_on(parents, Action.INVOKE, who, where, (), expiry_ns, invoke), own)

    def provide_broadcast(self, subject: ActorID, topic: str, expiry_ns: int, caps: Sequence[Capability]) -> bytes:
        """See :meth:`CapabilityContext.provide_broadcast`."""
        if not caps:
            raise NotAuthorized("not authorized: no capability to broadcast")
        who = did_of(subject.public_key())
        return _list_of(self._bunch(Action.BROADCAST, who, NO_DID, (topic,), expiry_ns, caps), ())

    def forget_leaves(self) -> None:
        """Issue the tokens of messages anew, because anchors or revocations have changed."""
        self._leaves.clear()

    def collect_garbage(self, now_ns: int) -> None:
        """Forget issued tokens that have expired."""
        self._leaves.collect_garbage(now_ns)

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
        """See :meth:`CapabilityContext.grant`."""
        return TokenList.of(issue(self._signer(), action, subject, audience, topics, caps, expiry_ns, depth=depth))

    def delegate(
        self,
        subject: DID,
        audience: DID,
        topics: Collection[str],
        expiry_ns: int,
        depth: int,
        caps: Sequence[Capability],
        self_sign: SelfSign,
    ) -> TokenList:
        """See :meth:`CapabilityContext.delegate`."""
        if not caps:
            return TokenList()
        tokens: list[Token] = []
        if self_sign is not SelfSign.ONLY:
            tokens = list(
                self._rest_on(
                    self._provided(), Action.DELEGATE, subject, audience, topics, expiry_ns, caps, depth=depth
                )
            )
        if self_sign is SelfSign.NO and not tokens:
            raise NotAuthorized(
                f"not authorized: no provide anchor of context '{self._name}' allows delegating {', '.join(caps)}",
                hint="see `nunet cap list`: the anchor must cover every capability and topic, outlive the expiry, "
                "and leave depth for another delegation",
            )
        if self_sign is not SelfSign.NO:
            tokens += self.grant(Action.DELEGATE, subject, audience, topics, expiry_ns, depth, caps).tokens
        return TokenList.of(*tokens)

    def revoke(self, token: Token) -> Token:
        """See :meth:`CapabilityContext.revoke`."""
        return issue_revocation(self._signer(), token)

    def _signer(self) -> Provider:
        return self._trust.provider(self._anchors.did)

    def _provided(self) -> list[Token]:
        return self._anchors.provided(self._clock_ns())

    def _rest_on(
        self,
        parents: Iterable[Token],
        action: str,
        subject: DID,
        audience: DID,
        topics: Collection[str],
        expiry_ns: int,
        caps: Collection[str],
        *,
        depth: int = 0,
    ) -> Iterable[Token]:
        signer = self._signer()
        for parent in parents:
            expiry = expiry_ns or parent.earliest_expiry_ns
            if allows_delegation(parent, action, self._anchors.did, audience, topics, expiry, caps):
                yield issue(signer, action, subject, audience, topics, caps, expiry, depth=depth, parent=parent)

    def _bunch(
        self,
        action: str,
        subject: DID,
        audience: DID,
        topics: tuple[str, ...],
        expiry_ns: int,
        caps: Sequence[Capability],
    ) -> Bunch:
        """The tokens of a message, perhaps those that another carried before it."""

        def make() -> Iterator[Token]:
            signer = self._signer()
            for parent in self._provided():
                if allows_delegation(parent, action, signer.did, audience, topics, expiry_ns, caps):
                    until_ns = expiry_of_leaf(expiry_ns, parent.earliest_expiry_ns)
                    yield issue(signer, action, subject, audience, topics, caps, until_ns, parent=parent)
            yield issue(signer, action, subject, audience, topics, caps, expiry_of_leaf(expiry_ns, MAX_UINT64))

        key = LeafKey(action, subject, audience, topics, tuple(caps))
        return self._leaves.get(key, self._clock_ns(), expiry_ns, make)


def _list_of(bunch: Bunch, last: tuple[Token, ...]) -> bytes:
    """The tokens of a message as they travel: all of ``bunch``, or as many as a message has room for beside ``last``."""
    data = b",".join((bunch.json, *(token.json for token in last)))
    if len(data) + _LIST_OVERHEAD <= MAX_BLOB_BYTES:
        return b'{"tok":[%b]}' % data
    return _encode(bunch.tokens[:-1], (bunch.tokens[-1], *last))


def _encode(chained: Iterable[Token], own: tuple[Token, ...]) -> bytes:
    """``own``, and before it as many of ``chained`` as a message has room for."""
    room = MAX_BLOB_BYTES - _LIST_OVERHEAD - sum(len(token.json) + 1 for token in own)
    fitting = []
    for token in chained:
        if len(token.json) + 1 <= room:
            fitting.append(token)
            room -= len(token.json) + 1
    return encode_token_list(TokenList.of(*fitting, *own))
