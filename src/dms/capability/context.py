"""A capability context: whom we trust, what we were given, and what the messages of the moment carry
(``spec/security.md`` 4).

===========  ===============================================================================================
roots        DIDs trusted fully: any valid chain in which one of them is an issuer is obeyed
require      grants by ourselves or others that lend trust to chains passing through their subject (side chains)
provide      delegations that we received, from which outgoing tokens are made
ephemeral    tokens of messages being handled, by subject; consumed on arrival, discarded after
revoked      revocations, until the revoked tokens would have expired anyway
===========  ===============================================================================================

Everything here is synchronous and in memory; :mod:`dms.capability.store` keeps it on disk. Not thread-safe: use it
from one thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from dms.capability.anchors import TokenSet
from dms.capability.denial import explain_broadcast, explain_invocation
from dms.capability.errors import BadToken, CapabilityError, NotAuthorized, TooManyRevocations
from dms.capability.rules import (
    allows_action,
    allows_broadcast,
    allows_delegation,
    allows_invocation,
)
from dms.capability.token import (
    MAX_BLOB_BYTES,
    NO_TOKENS,
    Action,
    Token,
    TokenKey,
    TokenList,
    decode_token_list,
    encode_token_list,
    issue,
    issue_revocation,
    verify,
)
from dms.identity.ids import DID, NO_DID, ActorID, did_of
from dms.identity.trust import Provider, TrustContext
from dms.types.errors import BadInput, DMSError
from dms.types.ids import Capability

MAX_EPHEMERAL: Final = 16384
"""Tokens of messages that are kept at once; more are ignored."""
MAX_REVOCATIONS_PER_ISSUER: Final = 4096
_REPLY_DEPTH: Final = 1
_MAX_REFUSALS: Final = 256
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


@dataclass(slots=True)
class _Ephemeral:
    token: Token
    is_verified: bool = False
    """Signatures are computed on first use: most tokens of a message decide nothing."""
    holders: Counter[str] = field(default_factory=Counter)
    """How many messages in hand brought it, by sender: nobody can discard what another sender brought."""


class CapabilityContext:
    """What one identity (``did``) accepts and what it can show.

    ``load_problems`` tells what its file held and could not be used.
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
    ) -> None:
        self.name = name
        self.did = did
        self.load_problems: tuple[str, ...] = ()
        self._trust = trust
        self._clock_ns = clock_ns
        self._max_ephemeral = max_ephemeral
        self._max_revocations_per_issuer = max_revocations_per_issuer
        self._roots: dict[DID, None] = {}
        self._require = TokenSet()
        self._provide = TokenSet()
        self._revoked: dict[TokenKey, Token] = {}
        self._ephemeral: dict[DID, dict[bytes, _Ephemeral]] = {}
        self._ephemeral_count = 0
        self._refusals: dict[DID, str] = {}

    # anchors -------------------------------------------------------------------------------------------------------

    def add_roots(
        self,
        roots: Iterable[DID] = (),
        require: TokenList = NO_TOKENS,
        provide: TokenList = NO_TOKENS,
        revoke: TokenList = NO_TOKENS,
    ) -> None:
        """Add anchors of every kind, all or nothing; revocations take effect at once.

        :raises BadToken: a token is malformed or could never be of use where it was put.
        :raises CapabilityError: a token does not verify; :class:`SignatureFailed` if its signature does not.
        :raises TooManyRevocations: beyond :data:`MAX_REVOCATIONS_PER_ISSUER`.
        """
        new_roots = [DID.parse(root.uri) for root in roots]
        if not all(new_roots):
            raise BadInput("invalid root DID: empty")
        now_ns = self._clock_ns()
        revoked = self._revoked
        if revoke:
            revoked = revoked | {token.key: token for token in self._checked_revocations(revoke, now_ns)}
            self._check_revocation_count(revoked)
        new_require = [self._checked_anchor(token, now_ns, revoked) for token in require.tok]
        new_provide = [self._checked_anchor(token, now_ns, revoked) for token in provide.tok]
        for token in new_provide:
            if token.body.sub != self.did:
                raise BadToken(
                    f"bad token: a provide anchor must be given to {self.did}",
                    hint=f"this one is given to {token.body.sub}; delegate it to the DID of this context first",
                )

        self._roots |= dict.fromkeys(new_roots)
        for token in new_require:
            self._require.add(token)
        for token in new_provide:
            self._provide.add(token)
        if revoke:
            self._revoked = revoked
            self._drop(self._is_revoked)

    def list_roots(self) -> tuple[tuple[DID, ...], TokenList, TokenList, TokenList]:
        """Roots, require and provide anchors, and revocations; what has expired is left out."""
        now_ns = self._clock_ns()
        return (
            tuple(self._roots),
            _live(self._require, now_ns),
            _live(self._provide, now_ns),
            _live(self._revoked.values(), now_ns),
        )

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
        removed = 0
        for root in roots:
            if root in self._roots:
                del self._roots[root]
                removed += 1
        removed += sum(self._require.remove(token.key) for token in require.tokens)
        removed += sum(self._provide.remove(token.key) for token in provide.tokens)
        removed += sum(self._revoked.pop(token.key, None) is not None for token in revoke.tokens)
        return removed

    def collect_garbage(self) -> int:
        """Drop everything that has expired; how much that was."""
        now_ns = self._clock_ns()
        over = [key for key, token in self._revoked.items() if token.expires_before(now_ns)]
        for key in over:
            del self._revoked[key]
        return len(over) + self._drop(lambda token: token.expires_before(now_ns))

    # input ---------------------------------------------------------------------------------------------------------

    def consume(self, origin: DID, blob: bytes, *, sender: ActorID | None = None) -> None:
        """Admit the tokens of a message until :meth:`discard`; what cannot count here is left out without an error.

        :param origin: the DID that the message claims to come from.
        :param sender: whose key signed the message; then only tokens for that key or for ourselves are kept.
        :raises BlobTooBig: more than 16384 bytes.
        :raises BadToken: not a token list.
        """
        tokens = decode_token_list(blob)
        subjects = None if sender is None else {self.did, did_of(sender.public_key())}
        now_ns = self._clock_ns()
        for token in tokens.tokens:
            if not token.is_well_formed:
                self._note_refusal(origin, "bad token: malformed")
                continue
            subject = token.body.sub
            if subjects is not None and subject not in subjects:
                continue
            if token.body.act == Action.REVOKE or not self._is_admissible(origin, token, now_ns):
                continue
            self._hold(subject, token, sender)

    def require(
        self,
        anchor: DID,
        subject: ActorID,
        audience: ActorID,
        caps: Sequence[Capability],
        *,
        origin: DID = NO_DID,
    ) -> None:
        """Check that ``subject`` may invoke one of ``caps`` at ``audience``, by a chain anchored on ``anchor``, a root
        or a side chain.

        :param origin: the DID that the message claims; if given, it must be the subject's own or have issued the
            deciding token.
        :raises NotAuthorized: no admitted token allows it; the hint tells what was missing.
        """
        who, where = did_of(subject.public_key()), did_of(audience.public_key())
        for entry in self._entries(who):
            token = entry.token
            if not any(allows_invocation(token, who, where, cap) for cap in caps):
                continue
            if self._counts(token, anchor, origin, who) and self._is_usable(entry):
                return
        raise NotAuthorized(
            f"not authorized: {who} may not invoke {' or '.join(caps) or 'nothing'}",
            hint=explain_invocation(
                self.name,
                [entry.token for entry in self._entries(who)],
                who,
                where,
                caps,
                origin,
                self._refusals.get(who),
            ),
        )

    def require_broadcast(
        self, anchor: DID, subject: ActorID, topic: str, caps: Sequence[Capability], *, origin: DID = NO_DID
    ) -> None:
        """The same for a broadcast on ``topic``.

        :raises NotAuthorized: no admitted token allows it; the hint tells what was missing.
        """
        who = did_of(subject.public_key())
        for entry in self._entries(who):
            token = entry.token
            if not any(allows_broadcast(token, who, topic, cap) for cap in caps):
                continue
            if self._counts(token, anchor, origin, who) and self._is_usable(entry):
                return
        raise NotAuthorized(
            f"not authorized: {who} may not broadcast {' or '.join(caps) or 'nothing'} on {topic}",
            hint=explain_broadcast(
                self.name,
                [entry.token for entry in self._entries(who)],
                who,
                topic,
                caps,
                origin,
                self._refusals.get(who),
            ),
        )

    def discard(self, blob: bytes, *, sender: ActorID | None = None) -> None:
        """Forget the tokens of a message, unless another message that is still being handled brought them too.

        :param sender: the same as for :meth:`consume`.
        """
        try:
            tokens = decode_token_list(blob)
        except CapabilityError:
            return
        holder = sender.pub if sender else ""
        for token in tokens.tokens:
            held = self._ephemeral.get(token.dms.sub) if token.dms else None
            if not held or not token.is_well_formed or (entry := held.get(token.fingerprint)) is None:
                continue
            if entry.holders[holder] > 0:
                entry.holders[holder] -= 1
            if entry.holders.total() == 0:
                self._forget(token)

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

        :raises NotAuthorized: ``invoke`` is empty.
        """
        if not invoke:
            raise NotAuthorized("not authorized: no capability to invoke")
        signer = self._signer()
        who, where = did_of(subject.public_key()), did_of(audience.public_key())
        own = [issue(signer, Action.INVOKE, who, where, (), invoke, expiry_ns)]
        if delegate:
            own.append(issue(signer, Action.DELEGATE, target, who, (), delegate, expiry_ns, depth=_REPLY_DEPTH))
        replies = (e.token for e in self._entries(self.did) if target in e.token.issuers and self._is_usable(e))
        parents = [*replies, *self._live_provide()]
        chained = self._rest_on(parents, Action.INVOKE, who, where, (), expiry_ns, invoke)
        return encode_token_list(TokenList.of(*_fitting(chained, own), *own))

    def provide_broadcast(self, subject: ActorID, topic: str, expiry_ns: int, caps: Sequence[Capability]) -> bytes:
        """The token list of a broadcast by ``subject`` on ``topic``.

        :raises NotAuthorized: ``caps`` is empty.
        """
        if not caps:
            raise NotAuthorized("not authorized: no capability to broadcast")
        who = did_of(subject.public_key())
        own = [issue(self._signer(), Action.BROADCAST, who, NO_DID, (topic,), caps, expiry_ns)]
        chained = self._rest_on(self._live_provide(), Action.BROADCAST, who, NO_DID, (topic,), expiry_ns, caps)
        return encode_token_list(TokenList.of(*_fitting(chained, own), *own))

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
        return TokenList.of(issue(self._signer(), action, subject, audience, topics, caps, expiry_ns, depth=depth))

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
        if not caps:
            return TokenList()
        tokens: list[Token] = []
        if self_sign is not SelfSign.ONLY:
            tokens = list(
                self._rest_on(
                    self._live_provide(), Action.DELEGATE, subject, audience, topics, expiry_ns, caps, depth=depth
                )
            )
        if self_sign is SelfSign.NO and not tokens:
            raise NotAuthorized(
                f"not authorized: no provide anchor of context '{self.name}' allows delegating {', '.join(caps)}",
                hint="see `nunet cap list`: the anchor must cover every capability and topic, outlive the expiry, "
                "and leave depth for another delegation",
            )
        if self_sign is not SelfSign.NO:
            tokens += self.grant(Action.DELEGATE, subject, audience, topics, expiry_ns, depth, caps).tokens
        return TokenList.of(*tokens)

    def revoke(self, token: Token) -> Token:
        """The revocation of a token that we issued; it takes effect where it is anchored.

        :raises NotAuthorized: somebody else issued it.
        """
        return issue_revocation(self._signer(), token)

    # ---------------------------------------------------------------------------------------------------------------

    def _signer(self) -> Provider:
        return self._trust.provider(self.did)

    def _checked_revocations(self, revoke: TokenList, now_ns: int) -> tuple[Token, ...]:
        for token in revoke.tok:
            if token is None or token.body.act != Action.REVOKE:
                raise BadToken("bad token: not a revocation")
            verify(token, self._trust, now_ns)
        return revoke.tokens

    def _check_revocation_count(self, revoked: dict[TokenKey, Token]) -> None:
        issuer, count = Counter(key.issuer for key in revoked).most_common(1)[0]
        if count > self._max_revocations_per_issuer:
            raise TooManyRevocations(f"too many revocations by one issuer: {issuer}")

    def _checked_anchor(self, token: Token | None, now_ns: int, revoked: dict[TokenKey, Token]) -> Token:
        if token is None:
            raise BadToken("bad token: null")
        if token.body.act != Action.DELEGATE:
            raise BadToken(f"bad token: an anchor must be for delegate, not {token.body.act[:32]!r}")
        verify(token, self._trust, now_ns, revoked)
        return token

    def _is_admissible(self, origin: DID, token: Token, now_ns: int) -> bool:
        """Whether it could count for anything here, before any signature is computed."""
        issuers = token.issuers
        return (
            self.did in issuers
            or origin in issuers
            or not issuers.isdisjoint(self._roots)
            or self._has_side_chain(token, now_ns)
        )

    def _has_side_chain(self, token: Token, now_ns: int) -> bool:
        return any(
            allows_action(anchor, token)
            for issuer in token.issuers
            for anchor in self._require.of_subject(issuer)
            if not anchor.expires_before(now_ns)
        )

    def _counts(self, token: Token, anchor: DID, origin: DID, subject: DID) -> bool:
        """Whether its authority is one that we accept, and comes from whom the message claims."""
        if origin and origin not in (subject, token.body.iss):
            return False
        issuers = token.issuers
        return anchor in issuers or not issuers.isdisjoint(self._roots) or self._has_side_chain(token, self._clock_ns())

    def _entries(self, subject: DID) -> list[_Ephemeral]:
        return list(self._ephemeral.get(subject, {}).values())

    def _is_usable(self, entry: _Ephemeral) -> bool:
        """Whether it is valid now; time and revocation are looked at on every use."""
        token, now_ns = entry.token, self._clock_ns()
        if entry.is_verified:
            return not token.expires_before(now_ns) and not self._is_revoked(token)
        try:
            verify(token, self._trust, now_ns, self._revoked)
        except DMSError as exc:
            self._note_refusal(token.body.sub, exc.message)
            return False
        entry.is_verified = True
        return True

    def _live_provide(self) -> list[Token]:
        now_ns = self._clock_ns()
        return [token for token in self._provide if not token.expires_before(now_ns)]

    def _is_revoked(self, token: Token) -> bool:
        return bool(self._revoked) and any(level.key in self._revoked for level in token.levels)

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
            if allows_delegation(parent, action, self.did, audience, topics, expiry, caps):
                yield issue(signer, action, subject, audience, topics, caps, expiry, depth=depth, parent=parent)

    def _hold(self, subject: DID, token: Token, sender: ActorID | None) -> None:
        entry = self._ephemeral.get(subject, {}).get(token.fingerprint)
        if entry is None:
            if self._ephemeral_count >= self._max_ephemeral:
                self.collect_garbage()
            if self._ephemeral_count >= self._max_ephemeral:
                self._note_refusal(subject, "too many messages are being handled")
                return
            entry = _Ephemeral(token)
            self._ephemeral.setdefault(subject, {})[token.fingerprint] = entry
            self._ephemeral_count += 1
        entry.holders[sender.pub if sender else ""] += 1

    def _forget(self, token: Token) -> None:
        subject = token.body.sub
        held = self._ephemeral[subject]
        del held[token.fingerprint]
        self._ephemeral_count -= 1
        if not held:
            del self._ephemeral[subject]

    def _drop(self, condition: Callable[[Token], bool]) -> int:
        """Drop anchors and ephemeral tokens for which ``condition`` holds."""
        doomed = [e.token for held in self._ephemeral.values() for e in held.values() if condition(e.token)]
        for token in doomed:
            self._forget(token)
        return len(doomed) + self._require.drop(condition) + self._provide.drop(condition)

    def _note_refusal(self, subject: DID, reason: str) -> None:
        """Remember why a token did not count, for the explanation of a denial that follows from it."""
        self._refusals.pop(subject, None)
        if len(self._refusals) >= _MAX_REFUSALS:
            del self._refusals[next(iter(self._refusals))]
        self._refusals[subject] = reason


def _live(tokens: Iterable[Token], now_ns: int) -> TokenList:
    return TokenList(tok=tuple(token for token in tokens if not token.expires_before(now_ns)))


def _fitting(chained: Iterable[Token], own: Iterable[Token]) -> list[Token]:
    """Of ``chained`` those for which a message has room beside ``own``."""
    room = MAX_BLOB_BYTES - _LIST_OVERHEAD - sum(len(token.json) + 1 for token in own)
    fitting = []
    for token in chained:
        if len(token.json) + 1 <= room:
            fitting.append(token)
            room -= len(token.json) + 1
    return fitting
