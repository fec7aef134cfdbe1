"""Capability tokens: structure, encoding and signing (``spec/security.md`` 3.1, 3.6, 3.7).

A token says "``iss`` lets ``sub`` do ``cap`` at ``aud`` until ``exp``" and carries in ``chain`` the complete token on
which the issuer's own authority rests. Anybody may issue a token without a chain: it is formally valid, and worth
something only where its issuer is trusted (:mod:`dms.capability.context`). Each level narrows the one above it.

Levels are counted from the presented token (0) upwards to the grant at the root of its chain.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from math import inf
from typing import ClassVar, Final, NamedTuple, TypeAlias

import msgspec

from dms.capability.errors import BadToken, BlobTooBig, NotAuthorized
from dms.capability.parsed import ParsedTokens
from dms.capability.wire import OuterLevel, UInt, decode_level, decode_members, encode_unsigned
from dms.identity.ids import DID
from dms.identity.trust import Provider
from dms.types import gojson
from dms.types.errors import BadJSON
from dms.types.gojson import Wire
from dms.types.lazy import lazy

SIGNATURE_PREFIX: Final = b"dms:token:"
NONCE_BYTES: Final = 12
MAX_BLOB_BYTES: Final = 16384
"""Size of the token list of one message."""
MAX_CHAIN: Final = 16
"""Tokens in one chain, the presented one included."""
MAX_UINT64: Final = 2**64 - 1


class Action:
    """What a token is for."""

    DELEGATE: Final = "delegate"
    INVOKE: Final = "invoke"
    BROADCAST: Final = "broadcast"
    REVOKE: Final = "revoke"


class TokenKey(NamedTuple):
    """What names a token when it is revoked, discarded or removed: the nonce is the issuer's choice."""

    issuer: DID
    subject: DID
    nonce: bytes


class DMSToken(Wire, kw_only=True, dict=True):
    """The body of a token; field order is the signed order."""

    verified_with: ClassVar[object] = None
    """See :meth:`note_verified`."""

    act: str
    iss: DID
    sub: DID
    aud: DID
    topic: tuple[str, ...] = ()
    cap: tuple[str, ...] | None
    nonce: bytes | None
    exp: UInt
    depth: UInt = 0
    chain: Token | None = None
    sig: bytes = b""

    @lazy
    def key(self) -> TokenKey:
        """Its name."""
        return TokenKey(self.iss, self.sub, self.nonce or b"")

    @lazy
    def caps(self) -> frozenset[str]:
        """The capability paths, none if null."""
        return frozenset(self.cap or ())

    @lazy
    def topics(self) -> frozenset[str]:
        """The topics."""
        return frozenset(self.topic)

    @lazy
    def unsigned_json(self) -> bytes:
        """Canonical JSON without ``sig``; the chain, last but one of the fields, is appended as it was encoded."""
        received = self.__dict__.pop(_RECEIVED, None)
        if received is not None and (self.chain is None or self.chain.is_canonical):
            unsigned = encode_unsigned(received)
            if unsigned is not None:
                return unsigned
        bare = DMSToken(
            act=self.act,
            iss=self.iss,
            sub=self.sub,
            aud=self.aud,
            topic=self.topic,
            cap=self.cap,
            nonce=self.nonce,
            exp=self.exp,
            depth=self.depth,
        )
        head = gojson.encode(bare)
        if self.chain is None:
            return head
        return b'%b,"chain":%b}' % (head[:-1], self.chain.json)

    @lazy
    def json(self) -> bytes:
        """Canonical JSON with ``sig``."""
        if not self.sig:
            return self.unsigned_json
        return b'%b,"sig":"%b"}' % (self.unsigned_json[:-1], gojson.b64(self.sig).encode("ascii"))

    @lazy
    def fingerprint(self) -> bytes:
        """SHA-256 of the canonical JSON with all signatures: equal for equal tokens only."""
        return hashlib.sha256(self.json).digest()

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return SIGNATURE_PREFIX + self.unsigned_json

    @property
    def is_self_certifying(self) -> bool:
        """Whether the issuer is its own key. The key of any other DID may be another one tomorrow."""
        return self.iss.uri.startswith("did:key:")

    def note_verified(self, trust: object) -> None:
        """Note on this very object that the signatures of it and of all above it were verified with ``trust``."""
        self.__dict__["verified_with"] = trust

    def was_verified(self, trust: object) -> bool:
        """Whether :meth:`note_verified` was called with this ``trust``."""
        return self.verified_with is trust


class UCAN(Wire):
    """Reserved; never valid."""


class Token(Wire, dict=True):
    """A token of one of several kinds, of which only ``dms`` exists.

    A ``chain`` of JSON ``null`` is no chain, as Go reads it; an empty chain object is a bad token.
    """

    dms: DMSToken | None = None
    ucan: UCAN | None = None

    @lazy
    def levels(self) -> tuple[DMSToken, ...]:
        """This token and its ancestors, the presented one first.

        :raises BadToken: a level is empty, or there are more than :data:`MAX_CHAIN`.
        """
        levels: list[DMSToken] = []
        token: Token | None = self
        while token is not None:
            if token.dms is None:
                raise BadToken(
                    "bad token: empty" if not levels else f"bad token: the chain is empty at level {len(levels)}"
                )
            if len(levels) == MAX_CHAIN:
                raise BadToken(f"bad token: a chain of more than {MAX_CHAIN} tokens")
            levels.append(token.dms)
            token = token.dms.chain
        return tuple(levels)

    @lazy
    def wire(self) -> bytes:
        """The bytes that it was parsed from; canonical JSON if it was made here. They tell tokens apart at no cost."""
        return self.json

    @lazy
    def is_canonical(self) -> bool:
        """Whether it came as we would write it."""
        return self.json == self.wire

    @property
    def is_well_formed(self) -> bool:
        """Whether :attr:`levels` exist."""
        if "levels" in self.__dict__:
            return True
        try:
            _ = self.levels
        except BadToken:
            return False
        return True

    @property
    def body(self) -> DMSToken:
        """The presented level.

        :raises BadToken: empty.
        """
        return self.levels[0]

    @property
    def key(self) -> TokenKey:
        """The name of the presented level."""
        return self.levels[0].key

    @lazy
    def issuers(self) -> frozenset[DID]:
        """The issuers of all levels."""
        body = self.levels[0]  # levels exist, so that there are few
        above = body.chain.issuers if body.chain is not None else frozenset[DID]()
        return above if body.iss in above else above | {body.iss}

    @lazy
    def remaining_depth(self) -> float:
        """How many more levels the depth limits of the chain allow below this token; infinity without a limit, less than
        nothing if it is too deep itself."""
        return min([level.depth - index for index, level in enumerate(self.levels) if level.depth], default=inf)

    @lazy
    def earliest_expiry_ns(self) -> int:
        """When the first level of the chain ends."""
        return min([level.exp for level in self.levels])

    def expires_before(self, time_ns: int) -> bool:
        """Whether it, or any ancestor, is over at ``time_ns`` (``spec/security.md`` 3.3)."""
        return time_ns > self.earliest_expiry_ns

    @lazy
    def json(self) -> bytes:
        """Canonical JSON, each level encoded once.

        :raises BadToken: malformed.
        """
        for level in reversed(self.levels):  # from the root down, so that no recursion is deeper than one level
            _ = level.json
        return b'{"dms":%b}' % self.levels[0].json

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of everything in it."""
        _ = self.json
        return self.levels[0].fingerprint

    def __str__(self) -> str:
        return self.json.decode("utf-8")


class TokenList(Wire):
    """Tokens as they travel; an empty list is ``{}``."""

    tok: tuple[Token | None, ...] = ()

    @classmethod
    def of(cls, *tokens: Token) -> TokenList:
        """A list of ``tokens``."""
        return cls(tok=tokens)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens, nulls left out."""
        return tuple(token for token in self.tok if token is not None)

    def __len__(self) -> int:
        return len(self.tok)

    def __bool__(self) -> bool:
        return bool(self.tok)


NO_TOKENS: Final = TokenList()


Listed: TypeAlias = msgspec.Raw | Token | None
"""A member of a token list, parsed or not yet."""
_RECEIVED: Final = "_received"
"""Where a level that was parsed keeps that form, with the bytes of its chain, until somebody asks for its canonical JSON."""
_parsed = ParsedTokens()


def encode_token_list(tokens: TokenList) -> bytes:
    """The JSON of a list; no limit is checked here, lists in files may be long."""
    if not tokens.tok:
        return b"{}"
    return b'{"tok":[%b]}' % b",".join(token.json if token is not None else b"null" for token in tokens.tok)


def decode_token_list(blob: bytes) -> TokenList:
    """Parse the token list of a message; no bytes at all are an empty list.

    :raises BlobTooBig: more than :data:`MAX_BLOB_BYTES`.
    :raises BadToken: not a list of tokens.
    """
    return TokenList(tok=tuple([read_listed(member) for member in split_token_list(blob)]))


def split_token_list(blob: bytes) -> list[Listed]:
    """The members of the token list of a message, each for :func:`read_listed`: most messages are decided by the first.

    :raises BlobTooBig: more than :data:`MAX_BLOB_BYTES`.
    :raises BadToken: not a list.
    """
    if len(blob) > MAX_BLOB_BYTES:
        raise _too_big(blob)
    try:
        return [*decode_members(blob or b"{}").tok]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return list(_read_tolerantly(blob, TokenList).tok)


def read_listed(member: Listed) -> Token | None:
    """Parse a member of a list.

    :raises BadToken: not a token.
    """
    if not isinstance(member, msgspec.Raw):
        return member
    data = bytes(member)
    try:
        return _parsed.get(data) or _read(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_tolerantly(b'{"tok":[%b]}' % data, TokenList).tok[0]


def decode_token(data: bytes) -> Token:
    """Parse one token.

    :raises BlobTooBig: more than :data:`MAX_BLOB_BYTES`.
    :raises BadToken: not a token.
    """
    if len(data) > MAX_BLOB_BYTES:
        raise _too_big(data)
    try:
        token = _parsed.get(data) or _read(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        token = _read_tolerantly(data, Token)
    _ = token.levels
    return token


def keep_parsed(token: Token) -> None:
    """Recognise the bytes of ``token``, and of those that it rests on, when they come again. Only for valid ones."""
    wire, link = token.wire, token.levels[0].chain
    while link is not None and _parsed.keep(link.wire, link):
        link = link.levels[0].chain
    if _parsed.is_recurring(wire):
        _parsed.keep(wire, token)


def _read(data: bytes) -> Token:
    """Parse level by level, down to bytes that are known.

    :raises msgspec.MsgspecError: not as we write it, or too long a chain; :func:`_read_tolerantly` tells.
    """
    outer = decode_level(data)
    token: Token | None = None
    below: list[tuple[bytes, OuterLevel]] = []
    while above := bytes(outer.dms.chain):
        token = _parsed.get(above)
        if token is not None:
            break
        below.append((data, outer))
        if len(below) == MAX_CHAIN:
            raise msgspec.ValidationError
        data, outer = above, decode_level(above)
    token = _joined(data, outer, token)
    while below:
        token = _joined(*below.pop(), token)
    return token


def _joined(wire: bytes, outer: OuterLevel, parent: Token | None) -> Token:
    """The token whose lowest level is ``outer``, parsed from ``wire``."""
    body = outer.dms
    dms = DMSToken(
        act=body.act,
        iss=body.iss,
        sub=body.sub,
        aud=body.aud,
        topic=body.topic,
        cap=body.cap,
        nonce=body.nonce,
        exp=body.exp,
        depth=body.depth,
        chain=parent,
        sig=body.sig,
    )
    dms.__dict__[_RECEIVED] = outer
    token = Token(dms=dms)
    known = token.__dict__
    known["wire"] = wire
    if parent is None:
        known["levels"], known["earliest_expiry_ns"] = (dms,), body.exp
        return token
    above = parent.levels
    if len(above) < MAX_CHAIN:
        known["levels"] = (dms, *above)
        exp, limit = body.exp, parent.earliest_expiry_ns
        known["earliest_expiry_ns"] = min(limit, exp)
    return token


def _read_tolerantly(data: bytes, type_: type[gojson.T]) -> gojson.T:
    try:
        return gojson.decode(data, type_)
    except BadJSON as exc:
        raise BadToken(f"bad token: {exc.message}") from None


def _too_big(data: bytes) -> BlobTooBig:
    return BlobTooBig(f"capability blob too big: {len(data)} bytes, {MAX_BLOB_BYTES} are allowed")


def issue(
    provider: Provider,
    action: str,
    subject: DID,
    audience: DID,
    topics: Collection[str],
    caps: Collection[str],
    expiry_ns: int,
    *,
    depth: int = 0,
    parent: Token | None = None,
    nonce: bytes | None = None,
) -> Token:
    """Sign a token as ``provider.did``; whether its rules hold is the caller's business (``spec/security.md`` 3.6).

    :raises BadToken: no capabilities, or an expiry or depth that is no unsigned 64-bit number.
    """
    if not caps:
        raise BadToken("bad token: no capabilities", hint="a token without capabilities conveys nothing")
    if not (0 <= expiry_ns <= MAX_UINT64 and 0 <= depth <= MAX_UINT64):
        raise BadToken("bad token: expiry or depth out of range")
    body = DMSToken(
        act=action,
        iss=provider.did,
        sub=subject,
        aud=audience,
        topic=tuple(topics),
        cap=tuple(caps),
        nonce=secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce,
        exp=expiry_ns,
        depth=depth,
        chain=parent,
    )
    return Token(dms=msgspec.structs.replace(body, sig=provider.sign(body.signed_bytes())))


def issue_revocation(provider: Provider, victim: Token) -> Token:
    """Revoke ``victim``, which ``provider`` must have issued (``spec/security.md`` 3.7).

    :raises NotAuthorized: somebody else issued it.
    """
    body = victim.body
    if body.iss != provider.did:
        raise NotAuthorized("not authorized: only the issuer can revoke a token", hint=f"{body.iss} issued it")
    revocation = DMSToken(
        act=Action.REVOKE, iss=body.iss, sub=body.sub, aud=DID(), cap=body.cap, nonce=body.nonce, exp=body.exp
    )
    return Token(dms=msgspec.structs.replace(revocation, sig=provider.sign(revocation.signed_bytes())))
