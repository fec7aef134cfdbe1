"""A decision as another machine, or this one, tells it, for people: what it was, and what would mend a denial."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from dms.cli.errors import BadReply

LIFETIME = "720h"
NAME = "NAME"
"""Stands for the name of somebody else's context."""


class ToldToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was looked at; the issuers of its ``chain`` from the presented one to the root."""

    act: str = ""
    iss: str = ""
    caps: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    levels: int = 1
    malformed: bool = False


class ToldConsidered(msgspec.Struct, frozen=True, kw_only=True):
    """One that was refused: the rule, and the anchors that would have admitted it, the root of its chain first."""

    rule: str
    reason: str = ""
    level: int | None = None
    missing: tuple[str, ...] = ()
    token: ToldToken | None = None


class ToldDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What :meth:`dms.capability.decision.Decision.as_data` made."""

    allowed: bool
    rule: str
    message: str = ""
    hint: str = ""
    subject: str = ""
    caps: tuple[str, ...] = ()
    topic: str = ""
    token: ToldToken | None = None
    considered: tuple[ToldConsidered, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> ToldDecision:
        """Read one.

        :raises BadReply: it is none.
        """
        try:
            return msgspec.convert(dict(data), cls)
        except msgspec.ValidationError as exc:
            raise BadReply(f"what came back is no decision: {exc}") from None


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way out: what it means, and the command; whoever it names runs it."""

    what: str
    command: str


def remedies(decision: ToldDecision, context: str) -> list[Remedy]:
    """Ways to have what was denied, the one that gives away least first.

    :param context: the context that denied it.
    """
    if decision.allowed:
        return []
    nearest = decision.considered[0] if decision.considered else ToldConsidered(rule=decision.rule)
    token = nearest.token or ToldToken()
    match decision.rule:
        case "not-anchored" | "no-token":
            return _trust(decision, context, nearest.missing[0] if nearest.missing else decision.subject)
        case "action" | "subject" | "capability" | "topic" | "audience" | "expired" | "revoked" | "outlives" | "link":
            return [_issue(decision, token)]
        case "depth":
            return [_issue(decision, token, "with more depth")]
        case "malformed" | "signature":
            return [_issue(decision, token, "again: the token was damaged on its way, or forged")]
        case "unresolved":
            return [Remedy("name a service that resolves the DIDs", "nunet config set identity.prism_resolver_url URL")]
        case _:
            return []


def describe(decision: ToldDecision) -> list[str]:
    """The decision in lines."""
    if decision.allowed:
        return ["allowed", f"  by {_describe_token(decision.token)}"]
    lines = [f"denied: {decision.rule}", decision.message]
    for number, one in enumerate(decision.considered, start=1):
        where = f" (level {one.level} of its chain)" if one.level else ""
        lines += [f"  {number}. {_describe_token(one.token)}", f"     {one.rule}: {one.reason}{where}"]
        if one.missing:
            lines.append(f"     missing is an anchor for {' or '.join(one.missing)}")
    return lines


def _trust(decision: ToldDecision, context: str, whom: str) -> list[Remedy]:
    name, did, subject = shlex.quote(context), shlex.quote(whom), shlex.quote(decision.subject)
    grant = f"nunet cap grant --context {name} {_what(decision)} --duration {LIFETIME} {did}"
    return [
        Remedy(f"trust {whom} in this only", f'nunet cap anchor --context {name} --require "$({grant})"'),
        Remedy(f"trust {whom} in everything", f"nunet cap anchor --context {name} --root {did}"),
        Remedy(
            f"or have somebody whom '{context}' trusts grant it to {decision.subject}",
            f"nunet cap grant --context {NAME} {_what(decision)} --duration {LIFETIME} {subject}",
        ),
    ]


def _issue(decision: ToldDecision, token: ToldToken, how: str = "") -> Remedy:
    """Whoever stands above the sender in the chain issues a better token."""
    chain = token.chain if token.chain[:1] != (decision.subject,) else token.chain[1:]
    verb = "delegate" if len(chain) > 1 else "grant"
    return Remedy(
        f"have {chain[0] if chain else 'somebody who is trusted'} issue it {how}".rstrip(),
        f"nunet cap {verb} --context {NAME} {_what(decision)} --duration {LIFETIME} {shlex.quote(decision.subject)}",
    )


def _what(decision: ToldDecision) -> str:
    flags = [f"--cap {shlex.quote(cap)}" for cap in decision.caps[:1]]
    return " ".join([*flags, *([f"--topic {shlex.quote(decision.topic)}"] if decision.topic else [])])


def _describe_token(token: ToldToken | None) -> str:
    if token is None:
        return "no token"
    if token.malformed:
        return "a token that is malformed"
    on = f" on {', '.join(token.topics)}" if token.topics else ""
    return f"a token to {token.act} {', '.join(token.caps)}{on}, issued by {' <- '.join(token.chain)}"
