"""Why was I denied? The first rule that no token of the subject passed, in words (``spec/security.md`` 4.3).

Only called after a denial; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dms.capability.paths import any_implies
from dms.capability.token import Action, Token
from dms.identity.ids import DID

_MAX_LISTED = 4


def explain_invocation(
    context: str,
    tokens: Sequence[Token],
    subject: DID,
    audience: DID,
    caps: Sequence[str],
    origin: DID,
    refusal: str | None,
) -> str:
    """What an invocation of one of ``caps`` by ``subject`` at ``audience`` lacks."""
    return _explain(
        tokens,
        [
            (lambda t: t.body.act == Action.INVOKE, lambda _: "none of its tokens is for invoke"),
            (lambda t: any(any_implies(t.body.caps, c) for c in caps), lambda left: _caps(left, caps)),
            (
                lambda t: not t.body.aud or t.body.aud == audience,
                lambda left: f"its token is for use at {left[0].body.aud}, not at {audience}",
            ),
        ],
        (context, subject, origin, refusal),
    )


def explain_broadcast(
    context: str,
    tokens: Sequence[Token],
    subject: DID,
    topic: str,
    caps: Sequence[str],
    origin: DID,
    refusal: str | None,
) -> str:
    """What a broadcast to one of ``caps`` on ``topic`` by ``subject`` lacks."""
    return _explain(
        tokens,
        [
            (lambda t: t.body.act == Action.BROADCAST, lambda _: "none of its tokens is for broadcast"),
            (lambda t: any(any_implies(t.body.caps, c) for c in caps), lambda left: _caps(left, caps)),
            (
                lambda t: any_implies(t.body.topics, topic),
                lambda left: f"its token is for the topics {_listed(sorted(left[0].body.topics))}, not for {topic}",
            ),
            (lambda t: not t.body.aud, lambda _: "a token for broadcasts must not name an audience"),
        ],
        (context, subject, origin, refusal),
    )


def _explain(
    tokens: Sequence[Token],
    rules: Sequence[tuple[Callable[[Token], bool], Callable[[Sequence[Token]], str]]],
    about: tuple[str, DID, DID, str | None],
) -> str:
    context, subject, origin, refusal = about
    anchored = f"anchored on us, on a root, or on a side chain (require) of context '{context}'"
    if not tokens:
        reason = f"; last refusal: {refusal}" if refusal else ""
        return f"no token for {subject} that is {anchored} came with the message{reason}"
    left = tokens
    for holds, reason_of in rules:
        passed = [token for token in left if holds(token)]
        if not passed:
            return reason_of(left)
        left = passed
    if origin and origin != subject and all(token.body.iss != origin for token in left):
        return f"{origin} did not issue the token: it was issued by {left[0].body.iss}"
    roots = sorted({token.levels[-1].iss.uri for token in left})
    return (
        f"the chain starts at {_listed(roots)} and is not {anchored}, or has expired or been revoked; "
        f"trust it with `nunet cap anchor --context {context} --root DID` or `--require TOKENS`"
    )


def _caps(tokens: Sequence[Token], wanted: Sequence[str]) -> str:
    held = sorted({cap for token in tokens for cap in token.body.caps})
    return f"its tokens are for {_listed(held)}; needed is {' or '.join(wanted) or 'a capability'}"


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _MAX_LISTED
    return ", ".join(item[:120] for item in items[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
