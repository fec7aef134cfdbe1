"""A decision as data: allowed or not, by which token; and if not, why (``spec/security.md`` 4.3).

Deciding costs no words. What looks at a token returns a :class:`Finding`, a rule and a level; sentences are composed
here, once, after everything was refused. All of them are bounded and printable whatever the tokens hold, because they
travel back to those who were denied, and they tell nothing that is not in the question, in the tokens that came with
it, or in the name of the context: neither whom we trust nor what else we hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from dms.identity.ids import DID
from dms.types.ids import Capability

if TYPE_CHECKING:
    from dms.capability.token import Token
    from dms.types.errors import DMSError

MAX_CONSIDERED: Final = 8
"""Tokens that a decision explains one by one; those that came nearest to being obeyed go first."""
MAX_MISSING: Final = 6
_MAX_LISTED: Final = 4
_MAX_CHARS: Final = 120


class Rule(StrEnum):
    """Which rule decided; in the order in which they are looked at, so that a later one is nearer to being allowed."""

    NO_TOKEN = "no-token"  # noqa: S105 (the name of a rule)
    TOO_MANY = "too-many"
    MALFORMED = "malformed"
    ACTION = "action"
    SUBJECT = "subject"
    CAPABILITY = "capability"
    TOPIC = "topic"
    AUDIENCE = "audience"
    SENDER = "sender"
    NOT_ANCHORED = "not-anchored"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DEPTH = "depth"
    LINK = "link"
    OUTLIVES = "outlives"
    UNRESOLVED = "unresolved"
    SIGNATURE = "signature"
    ALLOWED = "allowed"


_PROGRESS: Final = {rule: place for place, rule in enumerate(Rule)}


class Finding(NamedTuple):
    """Why a token does not count. ``error`` says more where the token itself is at fault."""

    rule: Rule
    level: int | None = None
    """Where in its chain: 0 is the presented token."""
    error: DMSError | None = None


class Question(msgspec.Struct, frozen=True):
    """May ``subject`` do one of ``caps`` at ``audience``, or broadcast to it on ``topic``?"""

    action: str
    subject: DID
    audience: DID
    caps: Sequence[Capability]
    topic: str
    origin: DID
    """Whom the message claims to come from; if given, the subject itself or the issuer of the deciding token."""
    anchor: DID
    """Ourselves: a chain in which we are an issuer counts."""


class Considered(msgspec.Struct, frozen=True):
    """One token that was looked at, and refused."""

    token: Token | None
    rule: Rule
    reason: str
    level: int | None = None
    """Where in its chain, 0 is the presented token; None if the token as a whole."""
    missing: tuple[DID, ...] = ()
    """Anchors of which one would have admitted it, the root of its chain first."""

    def as_data(self) -> dict[str, object]:
        """As JSON can hold it."""
        return {
            "rule": self.rule.value,
            "reason": self.reason,
            "level": self.level,
            "missing": [shown(did.uri) for did in self.missing],
            "token": None if self.token is None else _token_data(self.token),
        }


class Decision(msgspec.Struct, frozen=True):
    """The answer to a question of authority."""

    allowed: bool
    rule: Rule
    question: Question
    message: str = "allowed"
    hint: str = ""
    token: Token | None = None
    """The deciding one, if allowed."""
    considered: tuple[Considered, ...] = ()
    """What was refused; empty if allowed, at most :data:`MAX_CONSIDERED`."""

    def as_data(self) -> dict[str, object]:
        """As JSON can hold it; tokens without their signatures, long texts cut."""
        question = self.question
        return {
            "allowed": self.allowed,
            "rule": self.rule.value,
            "message": self.message,
            "hint": self.hint,
            "subject": shown(question.subject.uri),
            "audience": shown(question.audience.uri),
            "caps": [shown(cap) for cap in question.caps[:_MAX_LISTED]],
            "topic": shown(question.topic),
            "origin": shown(question.origin.uri),
            "token": None if self.token is None else _token_data(self.token),
            "considered": [considered.as_data() for considered in self.considered],
        }


def allow(question: Question, token: Token) -> Decision:
    """The decision that ``token`` carries."""
    return Decision(True, Rule.ALLOWED, question, token=token)


def deny(question: Question, findings: Iterable[tuple[Token | None, Finding]], context: str) -> Decision:
    """The decision after every token was refused.

    :param context: the name of the context, for the command that would mend it.
    """
    nearest = sorted(findings, key=lambda item: -_PROGRESS[item[1].rule])[:MAX_CONSIDERED]
    considered = tuple(_considered(question, token, finding) for token, finding in nearest)
    rule = nearest[0][1].rule if nearest else Rule.NO_TOKEN
    what, wanted = "invoke", listed(question.caps, " or ") or "nothing"
    if question.topic:
        what, wanted = "broadcast", f"{wanted} on {shown(question.topic)}"
    return Decision(
        allowed=False,
        rule=rule,
        question=question,
        message=f"not authorized: {shown(question.subject.uri)} may not {what} {wanted}",
        hint=_hint(question, considered, rule, context),
        considered=considered,
    )


def shown(text: str) -> str:
    """A text of others, printable and not too long."""
    if len(text) > _MAX_CHARS:
        text = text[: _MAX_CHARS - 1] + "…"
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def listed(items: Collection[str], separator: str = ", ") -> str:
    """A few of ``items``."""
    first = [shown(item) for item, _ in zip(items, range(_MAX_LISTED), strict=False)]
    more = len(items) - len(first)
    return separator.join(first) + (f" and {more} more" if more > 0 else "")


def _hint(question: Question, considered: Sequence[Considered], rule: Rule, context: str) -> str:
    """What was missing, in one line: the nearest token tells, or all of them together."""
    nearest = considered[0] if considered else None
    if nearest is None or nearest.token is None:
        came = f"no token for {shown(question.subject.uri)} that is {_anchored(context)} came with the message"
        return came if nearest is None else f"{came}: {nearest.reason}"
    if rule is Rule.ACTION:
        return f"none of its tokens is for {question.action}"
    if rule is Rule.CAPABILITY:
        held = sorted({cap for c in considered if c.rule is rule and c.token for cap in c.token.body.caps})
        return f"its tokens are for {listed(held)}; needed is {listed(question.caps, ' or ') or 'a capability'}"
    if rule is Rule.NOT_ANCHORED:
        roots = sorted({c.missing[0].uri for c in considered if c.rule is rule and c.missing})
        return (
            f"the chain starts at {listed(roots)} and is not {_anchored(context)}; trust it with "
            f"`nunet cap anchor --context {shown(context)} --root DID` or `--require TOKENS`"
        )
    return nearest.reason


def _considered(question: Question, token: Token | None, finding: Finding) -> Considered:
    missing: tuple[DID, ...] = ()
    if token is not None and finding.rule is Rule.NOT_ANCHORED:
        missing = tuple(dict.fromkeys(level.iss for level in reversed(token.levels)))[:MAX_MISSING]
    return Considered(token, finding.rule, _reason(question, token, finding), finding.level, missing)


def _reason(question: Question, token: Token | None, finding: Finding) -> str:
    if finding.error is not None:
        where = f" (level {finding.level} of its chain)" if finding.level else ""
        return f"{_cut(finding.error.message)}{where}"
    if finding.rule is Rule.TOO_MANY:
        return "too many messages are being handled"
    if token is None or not token.is_well_formed:
        return "bad token: malformed"
    body = token.body
    match finding.rule:
        case Rule.ACTION:
            return f"it is for {shown(body.act)}, not for {question.action}"
        case Rule.SUBJECT:
            return f"it is given to {shown(body.sub.uri)}, not to {shown(question.subject.uri)}"
        case Rule.CAPABILITY:
            wanted = listed(question.caps, " or ") or "a capability"
            return f"it is for {listed(sorted(body.caps))}; needed is {wanted}"
        case Rule.TOPIC:
            return f"its token is for the topics {listed(sorted(body.topics))}, not for {shown(question.topic)}"
        case Rule.AUDIENCE if question.topic:
            return "a token for broadcasts must not name an audience"
        case Rule.AUDIENCE:
            return f"its token is for use at {shown(body.aud.uri)}, not at {shown(question.audience.uri)}"
        case Rule.SENDER:
            return f"{shown(question.origin.uri)} did not issue the token: it was issued by {shown(body.iss.uri)}"
        case Rule.NOT_ANCHORED:
            return f"no issuer of its chain is trusted, from {shown(token.levels[-1].iss.uri)} down"
        case _:
            return finding.rule.value


def _anchored(context: str) -> str:
    return f"anchored on us, on a root, or on a side chain (require) of context '{shown(context)}'"


def _cut(text: str) -> str:
    return text if len(text) <= 2 * _MAX_CHARS and text.isprintable() else shown(text)


def _token_data(token: Token) -> dict[str, object]:
    if not token.is_well_formed:
        return {"malformed": True}
    body, issuers = token.body, [shown(level.iss.uri) for level in token.levels]
    return {
        "act": shown(body.act),
        "iss": issuers[0],
        "sub": shown(body.sub.uri),
        "aud": shown(body.aud.uri),
        "caps": [shown(cap) for cap in (body.cap or ())[:_MAX_LISTED]],
        "caps_total": len(body.cap or ()),
        "topics": [shown(topic) for topic in body.topic[:_MAX_LISTED]],
        "exp": body.exp,
        "nonce": (body.nonce or b"").hex()[:_MAX_CHARS],
        "chain": issuers[:MAX_MISSING],
        "levels": len(issuers),
    }
