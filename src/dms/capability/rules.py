"""Questions that a context asks about tokens (``spec/security.md`` 3.5).

None of them verifies anything: a token must have passed :func:`dms.capability.verification.verify` before its answers mean
something.
"""

from __future__ import annotations

from collections.abc import Collection

from dms.capability.decision import Finding, Question, Rule
from dms.capability.paths import all_implied, any_implies
from dms.capability.token import Action, Token
from dms.identity.ids import DID

_ACTION, _SUBJECT, _CAPABILITY, _TOPIC, _AUDIENCE, _SENDER = (
    Finding(rule) for rule in (Rule.ACTION, Rule.SUBJECT, Rule.CAPABILITY, Rule.TOPIC, Rule.AUDIENCE, Rule.SENDER)
)


def is_anchored(token: Token, did: DID) -> bool:
    """Whether ``did`` issued the token or one of its ancestors, at any level.

    That is enough: everything below the level that ``did`` signed is narrower than what ``did`` signed, and what lies
    above it can only have narrowed it further.
    """
    return did in token.issuers


def anchor_depth(token: Token, did: DID) -> int | None:
    """The level nearest to the root of the chain that ``did`` issued."""
    uri, index = did.uri, len(token.levels)
    for level in reversed(token.levels):
        index -= 1
        if level.iss.uri == uri:
            return index
    return None


def is_self_signed(token: Token, did: DID) -> bool:
    """Whether the root of the chain was issued by ``did``."""
    return token.levels[-1].iss == did


def claim_finding(token: Token, question: Question) -> Finding | None:
    """What keeps a token from saying what ``question`` asks, whoever signed it."""
    body = token.levels[0]
    if body.act != question.action:
        return _ACTION
    if body.sub.uri != question.subject.uri:
        return _SUBJECT
    named = body.cap or ()
    for cap in question.caps:
        if cap in named or any_implies(body.caps, cap):
            break
    else:
        return _CAPABILITY
    if question.action == Action.BROADCAST:
        if not any_implies(body.topics, question.topic):
            return _TOPIC
        if body.aud.uri:
            return _AUDIENCE
    elif body.aud.uri and body.aud.uri != question.audience.uri:
        return _AUDIENCE
    origin = question.origin.uri
    if origin and origin != question.subject.uri and origin != body.iss.uri:
        return _SENDER
    return None


def allows_delegation(
    token: Token,
    action: str,
    issuer: DID,
    audience: DID,
    topics: Collection[str],
    expiry_ns: int,
    caps: Collection[str],
) -> bool:
    """Whether ``issuer`` may rest a new token for ``action`` on this one (``spec/security.md`` 3.4 6e, 3.5).

    A new *delegate* token must itself be usable, hence counts one level more.
    """
    body = token.body
    return (
        body.act == Action.DELEGATE
        and not token.expires_before(expiry_ns)
        and body.sub == issuer
        and (not body.aud or body.aud == audience)
        and all_implied(body.topics, topics)
        and all_implied(body.caps, caps)
        and token.remaining_depth >= (2 if action == Action.DELEGATE else 1)
    )


def allows_action(token: Token, other: Token) -> bool:
    """Whether this token, held as a side chain, lends its trust to ``other``: its subject issued a level of it."""
    body, claimed = token.levels[0], other.levels[0]
    if body.act != Action.DELEGATE or claimed.exp > token.earliest_expiry_ns:
        return False
    depth = anchor_depth(other, body.sub)
    if depth is None or 0 < body.depth < depth:
        return False
    return (
        (not body.aud.uri or body.aud.uri == claimed.aud.uri)
        and all_implied(body.caps, claimed.cap or ())
        and (not claimed.topic or all_implied(body.topics, claimed.topic))
    )


def subsumes(token: Token, other: Token) -> bool:
    """Whether ``other`` is useless beside this token: alike in action and parties, and narrower or equal in all else.

    The chains count too: a token that rests on an organisation is not made useless by a self-signed one with more
    capabilities.
    """
    body, rest = token.body, other.body
    return (
        (body.act, body.iss, body.sub, body.aud) == (rest.act, rest.iss, rest.sub, rest.aud)
        and token.earliest_expiry_ns >= other.earliest_expiry_ns
        and all_implied(body.caps, rest.cap or ())
        and all_implied(body.topics, rest.topic)
        and (body.depth == 0 or 0 < rest.depth <= body.depth)
        and token.remaining_depth >= other.remaining_depth
        and all(_is_nearer(anchor_depth(token, did), anchor_depth(other, did)) for did in other.issuers)
    )


def _is_nearer(depth: int | None, other: int | None) -> bool:
    return depth is not None and other is not None and depth <= other
