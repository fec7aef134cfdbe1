"""Whom a context trusts, what it was given and what was revoked (``spec/security.md`` 4.1, 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from dms.capability.decision import shown
from dms.capability.errors import BadToken
from dms.capability.revocations import MAX_REVOCATIONS, MAX_REVOCATIONS_PER_ISSUER, Revocations
from dms.capability.rules import allows_action
from dms.capability.token import NO_TOKENS, Action, Token, TokenKey, TokenList
from dms.capability.token_set import TokenSet
from dms.capability.verification import verify
from dms.identity.ids import DID
from dms.identity.trust import TrustContext
from dms.types.errors import BadInput


class Anchors:
    """The anchors of ``did``; every token among them is verified when it is added."""

    def __init__(
        self,
        did: DID,
        trust: TrustContext,
        *,
        max_revocations_per_issuer: int = MAX_REVOCATIONS_PER_ISSUER,
        max_revocations: int = MAX_REVOCATIONS,
    ) -> None:
        self.did = did
        self.roots: dict[DID, None] = {}
        self.require = TokenSet()
        self.provide = TokenSet()
        self.revocations = Revocations(max_revocations_per_issuer, max_revocations)
        self._trust = trust

    def add(
        self,
        now_ns: int,
        roots: Iterable[DID],
        require: TokenList,
        provide: TokenList,
        revoke: TokenList,
        *,
        were_kept: bool = False,
    ) -> bool:
        """Add all or nothing; whether anything changed. See :meth:`CapabilityContext.add_roots`.

        :param were_kept: the revocations come from our own file: there was room for them.
        """
        new_roots = [DID.parse(root.uri) for root in roots]
        if not all(new_roots):
            raise BadInput("invalid root DID: empty")
        new_revocations = self._checked_revocations(revoke, now_ns)
        revoked = _Either({token.key for token in new_revocations}, self.revocations)
        new_require = [self._checked(token, now_ns, revoked) for token in require.tok]
        new_provide = [self._checked(token, now_ns, revoked) for token in provide.tok]
        for token in new_provide:
            if token.body.sub != self.did:
                raise BadToken(
                    f"bad token: a provide anchor must be given to {self.did}",
                    hint=f"this one is given to {token.body.sub}; delegate it to the DID of this context first",
                )
        if new_revocations and not were_kept:
            self.revocations.check_room(
                new_revocations, lambda: self._known() | set(new_roots) | _parties(new_require) | _parties(new_provide)
            )

        changed = bool(new_revocations) or not self.roots.keys() >= set(new_roots)
        self.roots |= dict.fromkeys(new_roots)
        for token in new_require:
            changed |= self.require.add(token)
        for token in new_provide:
            changed |= self.provide.add(token)
        if new_revocations:
            self.revocations.add(new_revocations)
            self.drop(self.revocations.covers)
        return changed

    def remove(self, roots: Iterable[DID], require: TokenList, provide: TokenList, revoke: TokenList) -> int:
        """Remove; how many were there."""
        removed = 0
        for root in roots:
            if root in self.roots:
                del self.roots[root]
                removed += 1
        removed += sum(self.require.remove(token.key) for token in require.tokens)
        removed += sum(self.provide.remove(token.key) for token in provide.tokens)
        removed += sum(self.revocations.remove(token.key) for token in revoke.tokens)
        return removed

    def listed(self, now_ns: int) -> tuple[tuple[DID, ...], TokenList, TokenList, TokenList]:
        """Roots, require and provide anchors, and revocations; what has expired is left out."""
        return (
            tuple(self.roots),
            _live(self.require, now_ns),
            _live(self.provide, now_ns),
            _live(self.revocations, now_ns),
        )

    def provided(self, now_ns: int) -> list[Token]:
        """The provide anchors that are not over."""
        return [token for token in self.provide if not token.expires_before(now_ns)]

    def admit(self, token: Token, anchor: DID, now_ns: int) -> bool:
        """Whether the authority of ``token``, if it is valid, is one that counts: its chain passes through ``anchor``
        or a root, or a require anchor lends it trust."""
        levels, roots = token.levels, self.roots
        above = levels[0].chain
        if levels[0].iss.uri == anchor.uri or (above is not None and anchor in above.issuers):
            return True
        if roots and not roots.keys().isdisjoint(token.issuers):
            return True
        for level in reversed(levels):  # those who are lent trust stand near the root
            for lender in self.require.of_subject(level.iss):
                if now_ns <= lender.earliest_expiry_ns and allows_action(lender, token):
                    return True
        return False

    def drop(self, condition: Callable[[Token], bool]) -> int:
        """Drop the require and provide anchors for which ``condition`` holds; how many there were."""
        return self.require.drop(condition) + self.provide.drop(condition)

    def collect_garbage(self, now_ns: int) -> int:
        """Drop what has expired; how much that was."""
        return self.revocations.collect_garbage(now_ns) + self.drop(lambda token: token.expires_before(now_ns))

    def _known(self) -> set[DID]:
        """Everybody who stands in our anchors."""
        return {self.did, *self.roots} | _parties(self.require) | _parties(self.provide)

    def _checked(self, token: Token | None, now_ns: int, revoked: Container[TokenKey]) -> Token:
        if token is None:
            raise BadToken("bad token: null")
        if token.body.act != Action.DELEGATE:
            raise BadToken(f"bad token: an anchor must be for delegate, not {shown(token.body.act)!r}")
        self._verify(token, now_ns, revoked)
        return token

    def _checked_revocations(self, revoke: TokenList, now_ns: int) -> list[Token]:
        """Those that say something new, verified; what is known already costs nothing."""
        for token in revoke.tok:
            if token is None or token.body.act != Action.REVOKE:
                raise BadToken("bad token: not a revocation")
        new = self.revocations.unknown_among(revoke.tokens)
        for token in new:
            self._verify(token, now_ns, frozenset())
        return new

    def _verify(self, token: Token, now_ns: int, revoked: Container[TokenKey]) -> None:
        """Verify, once in the life of the process as far as signatures go: files are read again and again."""
        if self._trust.remembers(token.fingerprint):
            token.body.note_verified(self._trust)
        verify(token, self._trust, now_ns, revoked)
        if token.body.was_verified(self._trust):
            self._trust.remember(token.fingerprint)


class _Either:
    """What is in one or the other."""

    def __init__(self, *parts: Container[TokenKey]) -> None:
        self._parts = parts

    def __contains__(self, key: object) -> bool:
        return any(key in part for part in self._parts)


def _parties(tokens: Iterable[Token]) -> set[DID]:
    """Issuers and subjects of all levels."""
    return {did for token in tokens for level in token.levels for did in (level.iss, level.sub)}


def _live(tokens: Iterable[Token], now_ns: int) -> TokenList:
    live = tuple(token for token in tokens if not token.expires_before(now_ns))
    return TokenList(tok=live) if live else NO_TOKENS
