"""Whether a token is formally valid (``spec/security.md`` 3.4); whom to trust is not its question.

The work is linear in the length of the chain, which is bounded, and nothing recurses. Rules that cost little come
first, so that signatures are only computed for what could be valid.
"""

from __future__ import annotations

from collections.abc import Container

from dms.capability.decision import Finding, Rule, shown
from dms.capability.errors import BadToken, CapabilityExpired, NotAuthorized
from dms.capability.paths import all_implied
from dms.capability.token import MAX_UINT64, Action, DMSToken, Token, TokenKey, keep_parsed
from dms.identity.errors import SignatureFailed
from dms.identity.trust import TrustContext
from dms.types.errors import DMSError

_MAX_NONCE_BYTES = 64
_ACTIONS = frozenset({Action.DELEGATE, Action.INVOKE, Action.BROADCAST})


def verify(token: Token, trust: TrustContext, now_ns: int, revoked: Container[TokenKey] = frozenset()) -> None:
    """Check that a token is formally valid now.

    Signatures of a chain that was verified before are not computed again; time and revocation are.

    :raises BadToken: malformed, an unknown action, no capabilities, or a chain that is too long.
    :raises CapabilityExpired: it or an ancestor is over, or it outlives its parent.
    :raises NotAuthorized: too deep, revoked, or wider than its parent.
    :raises SignatureFailed: a signature does not fit.
    :raises IdentityError: the key of an issuer is not known.
    """
    finding = examine(token, trust, now_ns, revoked)
    if finding is not None and finding.error is not None:
        raise finding.error


def examine(
    token: Token,
    trust: TrustContext,
    now_ns: int,
    revoked: Container[TokenKey] = frozenset(),
    *,
    signed_from: int = 0,
) -> Finding | None:
    """What is wrong with a token, if anything; its error is set.

    :param signed_from: the first level whose signature counts; 1 for a token that nobody has signed yet.
    """
    try:
        levels = token.levels
    except BadToken as exc:
        return Finding(Rule.MALFORMED, None, exc)
    if now_ns > token.earliest_expiry_ns:
        return _expired(levels, now_ns)
    if levels[0].act == Action.REVOKE:
        return _revocation_finding(token, trust)
    known = 0  # the lowest level that, with all above it, was verified before
    for level in levels:
        if level.verified_with is trust:
            break
        known += 1
    finding = _lasting_finding(token, known) if known else None
    has_revoked = bool(revoked)  # names are made only where there is something to compare them with
    if finding is None and has_revoked:
        finding = _revoked_finding(levels, revoked)
    if finding is not None or not known:
        return finding
    is_lasting = signed_from == 0
    parent = levels[known] if known < len(levels) else None
    for index in range(known - 1, -1, -1):
        level = levels[index]
        if parent is not None and (finding := _link_finding(index, level, parent)) is not None:
            return finding
        if index >= signed_from and (finding := _signature_finding(index, level, trust)) is not None:
            return finding
        is_lasting = is_lasting and level.is_self_certifying
        parent = level
    if is_lasting:
        for level in levels[:known]:
            level.note_verified(trust)
        keep_parsed(token)
    return None


def _revocation_finding(token: Token, trust: TrustContext) -> Finding | None:
    """Of a revocation only the signature counts; it rests on nothing, and is small so that many can be kept."""
    body = token.body
    if body.chain is not None or body.topic:
        return _malformed(0, "a revocation rests on nothing")
    if len(body.nonce or b"") > _MAX_NONCE_BYTES:
        return _malformed(0, "the nonce is too long")
    if body.was_verified(trust):
        return None
    finding = _signature_finding(0, body, trust)
    if finding is None and body.is_self_certifying:
        body.note_verified(trust)
    return finding


def _expired(levels: tuple[DMSToken, ...], now_ns: int) -> Finding:
    index = next(index for index, level in enumerate(levels) if now_ns > level.exp)
    return Finding(Rule.EXPIRED, index, CapabilityExpired())


def _lasting_finding(token: Token, known: int) -> Finding | None:
    """What is wrong with single levels and will never change: their shape below ``known``, and their depth.

    What is remembered of the levels from there up holds for ever too: these bytes were signed by the keys that they name
    themselves. Failures are not remembered: there are as many wrong tokens as anybody likes to make.
    """
    levels = token.levels
    for index in range(known):
        level = levels[index]
        if level.act not in _ACTIONS:
            return _malformed(index, f"unexpected action {shown(level.act)!r}")
        if not level.cap:
            return _malformed(index, "no capabilities")
        if level.exp > MAX_UINT64 or level.depth > MAX_UINT64:
            return _malformed(index, "expiry or depth out of range")
    parent = levels[0].chain
    if parent is None or parent.remaining_depth >= 1:
        return None
    index = next(index for index, level in enumerate(levels) if 0 < level.depth < index)
    return _finding(
        Rule.DEPTH, index, f"not authorized: max depth exceeded: level {index} allows {levels[index].depth}"
    )


def _revoked_finding(levels: tuple[DMSToken, ...], revoked: Container[TokenKey]) -> Finding | None:
    for index, level in enumerate(levels):
        if level.key in revoked:
            return _finding(Rule.REVOKED, index, f"not authorized: revoked by {shown(level.iss.uri)}")
    return None


def _link_finding(index: int, child: DMSToken, parent: DMSToken) -> Finding | None:
    """Rules 6a, b, d and e between neighbours; over a whole chain they make every level narrower than all above it."""
    if parent.act != Action.DELEGATE:
        return _unlinked(index, f"rests on a token that is for {parent.act}, not delegate")
    if child.exp > parent.exp:
        error = CapabilityExpired("capability expired: it outlives the token that it rests on")
        return Finding(Rule.OUTLIVES, index, error)
    if child.iss.uri != parent.sub.uri:
        return _unlinked(index, f"{shown(child.iss.uri)} rests on a token that was given to {shown(parent.sub.uri)}")
    if parent.aud.uri and parent.aud.uri != child.aud.uri:
        return _unlinked(index, f"{shown(parent.iss.uri)} granted it for use at {shown(parent.aud.uri)} only")
    if child.topic and not all_implied(parent.topics, child.topic):
        return _unlinked(index, f"topics beyond those that {shown(parent.iss.uri)} granted")
    if not all_implied(parent.caps, child.cap or ()):
        return _unlinked(index, f"capabilities beyond those that {shown(parent.iss.uri)} granted")
    return None


def _signature_finding(index: int, level: DMSToken, trust: TrustContext) -> Finding | None:
    try:
        if trust.anchor(level.iss).public_key.verify(level.signed_bytes(), level.sig):
            return None
    except DMSError as exc:
        return Finding(Rule.UNRESOLVED, index, exc)
    error = SignatureFailed(f"signature verification failed: token issued by {shown(level.iss.uri)}")
    return Finding(Rule.SIGNATURE, index, error)


def _finding(rule: Rule, index: int, message: str) -> Finding:
    return Finding(rule, index, NotAuthorized(message))


def _malformed(index: int, why: str) -> Finding:
    return Finding(Rule.MALFORMED, index, BadToken(f"bad token: {why}"))


def _unlinked(index: int, why: str) -> Finding:
    return Finding(Rule.LINK, index, NotAuthorized(f"not authorized: {why}"))
