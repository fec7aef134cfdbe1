"""What has been revoked, until it would have expired anyway (``spec/security.md`` 3.7, 8).

Anybody can issue tokens to itself and revoke them, as many as it likes, so the room is divided. Issuers whom the
context knows, because they are anchors of it or stand in the chains of its anchors, have a quota each. All others
together have half of the room, and a small quota each; when that half is full, more of theirs are refused. So
strangers never push out, or keep out, what concerns us; and no revocation that was taken is ever dropped to make room.
A revocation repeats the capabilities of what it revokes; one with very many of them counts for each KiB of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Final

import msgspec

from dms.capability.errors import TooManyRevocations
from dms.capability.token import Token, TokenKey
from dms.identity.ids import DID

MAX_REVOCATIONS: Final = 65536
"""Of all issuers; half of them is for those whom the context knows."""
MAX_REVOCATIONS_PER_ISSUER: Final = 4096
"""Of one issuer whom the context knows."""
MAX_REVOCATIONS_PER_STRANGER: Final = 256
_UNIT_CHARS: Final = 1024


class Revocations:
    """Verified revocations by what they revoke."""

    def __init__(self, max_per_issuer: int = MAX_REVOCATIONS_PER_ISSUER, max_total: int = MAX_REVOCATIONS) -> None:
        self._max_per_issuer = max_per_issuer
        self._max_per_stranger = min(max_per_issuer, MAX_REVOCATIONS_PER_STRANGER)
        self._max_total = max_total
        self._tokens: dict[TokenKey, Token] = {}
        self._counts: Counter[DID] = Counter()
        self._total = 0
        self._dids: dict[DID, DID] = {}

    def unknown_among(self, tokens: Iterable[Token]) -> list[Token]:
        """Those that say something new: not known yet, or good for longer than what is known."""
        found: dict[TokenKey, Token] = {}
        for token in tokens:
            known = found.get(token.key) or self._tokens.get(token.key)
            if known is None or known.body.exp < token.body.exp:
                found[token.key] = token
        return list(found.values())

    def check_room(self, tokens: Iterable[Token], known: Callable[[], Container[DID]]) -> None:
        """Whether there is room for ``tokens``, which say something new.

        :param known: the issuers whom the context knows; only called when it matters.
        :raises TooManyRevocations: there is not.
        """
        more: Counter[DID] = Counter()
        for token in tokens:
            if token.key not in self._tokens:
                more[token.body.iss] += _units(token)
        counts = {issuer: self._counts[issuer] + count for issuer, count in more.items()}
        total = self._total + more.total()
        if total <= self._max_total // 2 and max(counts.values(), default=0) <= self._max_per_stranger:
            return
        trusted = known()
        for issuer, count in counts.items():
            if count > (self._max_per_issuer if issuer in trusted else self._max_per_stranger):
                raise TooManyRevocations(f"too many revocations by one issuer: {issuer}")
        if total > self._max_total:
            raise TooManyRevocations("too many revocations")
        if any(issuer not in trusted for issuer in more):
            strangers = (count for issuer, count in (self._counts + more).items() if issuer not in trusted)
            if sum(strangers) > self._max_total // 2:
                raise TooManyRevocations("too many revocations by issuers who are not known here")

    def add(self, tokens: Iterable[Token]) -> None:
        """Take ``tokens``, which must have been verified and have room."""
        for token in tokens:
            self.remove(token.key)
            kept = self._compact(token)
            self._tokens[kept.body.key] = kept
            self._counts[kept.body.iss] += _units(token)
            self._total += _units(token)

    def remove(self, key: TokenKey) -> bool:
        """Forget that a token was revoked; whether it was."""
        token = self._tokens.pop(key, None)
        if token is None:
            return False
        units = _units(token)
        self._total -= units
        self._counts[key.issuer] -= units
        if not self._counts[key.issuer]:
            del self._counts[key.issuer]
        return True

    def covers(self, token: Token) -> bool:
        """Whether ``token`` or one that it rests on was revoked."""
        return bool(self._tokens) and any(level.key in self._tokens for level in token.levels)

    def collect_garbage(self, now_ns: int) -> int:
        """Drop what has expired; how much that was."""
        over = [key for key, token in self._tokens.items() if token.expires_before(now_ns)]
        for key in over:
            self.remove(key)
        if over:
            self._dids = {did: did for key in self._tokens for did in (key.issuer, key.subject)}
        return len(over)

    def __contains__(self, key: object) -> bool:
        return key in self._tokens

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens.values())

    def __len__(self) -> int:
        return len(self._tokens)

    def _compact(self, token: Token) -> Token:
        """The same without what was computed about it; issuers and subjects are shared. Halves the memory."""
        body = token.body
        issuer, subject = (self._dids.setdefault(did, did) for did in (body.iss, body.sub))
        return Token(dms=msgspec.structs.replace(body, iss=issuer, sub=subject))


def _units(token: Token) -> int:
    caps = token.body.cap or ()
    return 1 + sum(map(len, caps)) // _UNIT_CHARS
