"""Revocations that others bring, and what to offer them: which to keep, which they lack. No input or output here.

A revocation proves itself by its issuer's signature, so anybody may carry it; but anybody can also make keys and revoke
tokens that never existed. Hence the room is divided. Issuers that this node has to do with (they stand in its anchors)
have nearly all of it, each a share. All others together have a small part, each issuer and each peer that brings them a
smaller one: whoever floods that part keeps nobody else out of the rest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dms.capability.context import MAX_REVOCATIONS_PER_ISSUER
from dms.capability.token import Action, Token, TokenKey
from dms.identity.ids import DID
from dms.types.errors import BadInput
from dms.types.ids import PeerID

BUCKETS: Final = 128
DIGEST_BYTES: Final = 16
"""Of each bucket: long enough that nobody finds two sets with one digest, and so hides a revocation from others."""
PAGE_TOKENS: Final = 256
PAGE_BYTES: Final = 256 * 1024
_MAX_PEERS: Final = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """How many revocations are kept, and how large they may be. ``stranger`` is an issuer that no anchor names."""

    total: int = 10_000
    total_bytes: int = 8 * 2**20
    per_issuer: int = MAX_REVOCATIONS_PER_ISSUER
    strangers: int = 1024
    per_stranger: int = 32
    strangers_per_peer: int = 128
    token_bytes: int = 8192
    stranger_token_bytes: int = 2048


class Judgement(StrEnum):
    """What becomes of a revocation that somebody brought."""

    KEEP = "keep"
    KNOWN = "known already"
    EXPIRED = "expired: the revoked token is over"
    MALFORMED = "not a revocation"
    TOO_LARGE = "too large"
    NO_ROOM_FOR_ISSUER = "too many revocations of this issuer"
    NO_ROOM_FOR_STRANGERS = "too many revocations of issuers that no anchor here names"
    NO_ROOM_FOR_PEER = "too many revocations of such issuers from this peer"
    NO_ROOM = "too many revocations"


class Gate:
    """Decides what is kept. It looks at no signature: whatever it lets pass must still be verified."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._brought_by: dict[TokenKey, PeerID] = {}

    def choose(
        self,
        offered: Iterable[Token | None],
        peer: PeerID,
        *,
        held: Collection[Token],
        known: Collection[DID],
        now_ns: int,
        is_trusted: bool = False,
    ) -> tuple[list[Token], Counter[Judgement]]:
        """Those to keep of what ``peer`` offers, and how all were judged.

        :param held: the revocations that are in force.
        :param known: the issuers that anchors name.
        :param is_trusted: whoever offers them rules this node; all issuers are known then.
        """
        present = {token.key: token for token in held}
        self._brought_by = {key: by for key, by in self._brought_by.items() if key in present}
        room = _Room(self._limits, present.values(), known, self._brought_by)
        chosen: dict[TokenKey, Token] = {}
        judged: Counter[Judgement] = Counter()
        for token in offered:
            judgement = _shape(token, now_ns)
            if judgement is None and token is not None:
                earlier = chosen.get(token.key) or present.get(token.key)
                if earlier is not None and earlier.body.exp >= token.body.exp:
                    judgement = Judgement.KNOWN
                elif earlier is not None:
                    judgement = Judgement.KEEP  # in its place
                else:
                    judgement = room.take(token, peer, is_trusted=is_trusted)
                if judgement is Judgement.KEEP:
                    chosen[token.key] = token
            judged[judgement or Judgement.MALFORMED] += 1
        return list(chosen.values()), judged

    def note(self, tokens: Iterable[Token], peer: PeerID, known: Collection[DID]) -> None:
        """They were verified and are kept: strangers' count against the peer that brought them."""
        self._brought_by |= {token.key: peer for token in tokens if token.body.iss not in known}


def _shape(token: Token | None, now_ns: int) -> Judgement | None:
    if token is None or not token.is_well_formed:
        return Judgement.MALFORMED
    body = token.body
    if body.act != Action.REVOKE or body.chain is not None or not body.nonce or not body.sig:
        return Judgement.MALFORMED
    return Judgement.EXPIRED if token.expires_before(now_ns) else None


class _Room:
    """What is left of the limits, given what is held."""

    def __init__(
        self, limits: Limits, held: Iterable[Token], known: Collection[DID], brought_by: dict[TokenKey, PeerID]
    ) -> None:
        self._limits, self._known = limits, known
        self._of_issuer: Counter[DID] = Counter()
        self._of_peer: Counter[PeerID] = Counter(brought_by.values())
        self._bytes = 0
        for token in held:
            self._of_issuer[token.body.iss] += 1
            self._bytes += len(token.json)
        self._total = self._of_issuer.total()
        self._strangers = sum(count for issuer, count in self._of_issuer.items() if issuer not in known)

    def take(self, token: Token, peer: PeerID, *, is_trusted: bool) -> Judgement:
        limits, issuer, size = self._limits, token.body.iss, len(token.json)
        is_known = is_trusted or issuer in self._known
        if size > (limits.token_bytes if is_known else limits.stranger_token_bytes):
            return Judgement.TOO_LARGE
        if self._of_issuer[issuer] >= (limits.per_issuer if is_known else limits.per_stranger):
            return Judgement.NO_ROOM_FOR_ISSUER
        if not is_known and self._strangers >= limits.strangers:
            return Judgement.NO_ROOM_FOR_STRANGERS
        if not is_known and self._of_peer[peer] >= limits.strangers_per_peer:
            return Judgement.NO_ROOM_FOR_PEER
        reserved = max(0, limits.strangers - self._strangers) if is_known else 0
        if self._total + reserved >= limits.total or self._bytes + size > limits.total_bytes:
            return Judgement.NO_ROOM
        self._of_issuer[issuer] += 1
        self._total += 1
        self._bytes += size
        if not is_known:
            self._strangers += 1
            self._of_peer[peer] += 1
        return Judgement.KEEP


class Summary:
    """A set of revocations, such that two nodes find out cheaply where theirs differ.

    The set is divided into :data:`BUCKETS` by the hashes of the revocations' names; each bucket has a digest. Whoever
    asks sends its own digests (2 KiB; none at all when it has nothing) and receives, page by page in the order of the
    hashes, what lies in buckets whose digests differ.
    """

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._entries = sorted(((_name_hash(token.key), token) for token in tokens), key=lambda entry: entry[0])
        self.digests = self._digests()

    def __len__(self) -> int:
        return len(self._entries)

    def page(
        self, theirs: bytes, after: bytes, *, max_tokens: int = PAGE_TOKENS, max_bytes: int = PAGE_BYTES
    ) -> tuple[list[Token], bytes]:
        """Revocations that whoever has the digests ``theirs`` may lack, and where the next page begins (empty: nowhere).

        :raises BadInput: the digests are not of this form.
        """
        if theirs and len(theirs) != BUCKETS * DIGEST_BYTES:
            raise BadInput(f"the digests must be {BUCKETS} of {DIGEST_BYTES} bytes, or none")
        page: list[Token] = []
        size, last = 0, b""
        for name, token in self._entries:
            if name <= after or _part(theirs, name) == _part(self.digests, name) != b"":
                continue
            if page and (len(page) >= max_tokens or size + len(token.json) > max_bytes):
                return page, last
            page.append(token)
            size, last = size + len(token.json), name
        return page, b""

    def _digests(self) -> bytes:
        if not self._entries:
            return b""
        parts = [hashlib.sha256() for _ in range(BUCKETS)]
        for name, _ in self._entries:
            parts[_bucket(name)].update(name)
        return b"".join(part.digest()[:DIGEST_BYTES] for part in parts)


class Allowance:
    """So much at once and so much per second, for each peer. Only who has its whole allowance is forgotten, so that
    nobody gets more by coming under many names; while there are too many, newcomers get nothing.
    """

    def __init__(self, burst: float, per_s: float, clock_s: Callable[[], float]) -> None:
        self._burst, self._per_s, self._clock_s = burst, per_s, clock_s
        self._left: dict[PeerID, tuple[float, float]] = {}

    def take(self, peer: PeerID, amount: float = 1.0) -> bool:
        """Whether ``peer`` may have so much now; if so, it is taken. More than the whole costs the whole."""
        amount, now_s = min(amount, self._burst), self._clock_s()
        if peer not in self._left and not self._has_room(now_s):
            return False
        left = self._now(peer, now_s)
        is_enough = left >= amount
        self._left[peer] = (left - amount if is_enough else left, now_s)
        return is_enough

    def forfeit(self, peer: PeerID) -> None:
        """Take all that it has, and as much again of what comes next."""
        if peer in self._left or self._has_room(self._clock_s()):
            self._left[peer] = (-self._burst, self._clock_s())

    def _now(self, peer: PeerID, now_s: float) -> float:
        left, since_s = self._left.get(peer, (self._burst, now_s))
        return min(self._burst, left + (now_s - since_s) * self._per_s)

    def _has_room(self, now_s: float) -> bool:
        if len(self._left) < _MAX_PEERS:
            return True
        self._left = {peer: entry for peer, entry in self._left.items() if self._now(peer, now_s) < self._burst}
        return len(self._left) < _MAX_PEERS


def _name_hash(key: TokenKey) -> bytes:
    return hashlib.sha256(b"\0".join((key.issuer.uri.encode(), key.subject.uri.encode(), key.nonce))).digest()


def _bucket(name: bytes) -> int:
    return name[0] * BUCKETS // 256


def _part(digests: bytes, name: bytes) -> bytes:
    start = _bucket(name) * DIGEST_BYTES
    return digests[start : start + DIGEST_BYTES]
