"""Every rule of spec/security.md 3.3 to 3.8, once obeyed and once broken, side by side.

A row names the rule, makes one token that keeps it and one that differs from the first only in breaking it, and says
which rule the refusal must name. Each token is judged as it would arrive: through its bytes, and by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest

from dms.capability.context import CapabilityContext
from dms.capability.decision import Question, Rule
from dms.capability.errors import BadToken, BlobTooBig, CapabilityError, CapabilityExpired, NotAuthorized
from dms.capability.rules import allows_action, allows_delegation, claim_finding, is_anchored, is_self_signed, subsumes
from dms.capability.token import (
    MAX_BLOB_BYTES,
    MAX_CHAIN,
    Action,
    Token,
    TokenList,
    decode_token,
    decode_token_list,
    issue_revocation,
)
from dms.capability.verification import examine, verify
from dms.identity.errors import IdentityError
from dms.identity.ids import DID, NO_DID
from dms.identity.trust import TrustContext
from dms.testing.parties import HOUR_NS, NOW_NS, Party
from dms.types.ids import Capability

ORG, USER, NODE, PEER = (Party(name) for name in ("org", "user", "node", "peer"))
EXP = NOW_NS + HOUR_NS
Make = Callable[[], Token]


class Case(NamedTuple):
    rule: str
    kept: Make
    broken: Make
    named: Rule
    error: type[CapabilityError | IdentityError] = NotAuthorized


def grant(
    *caps: str, act: str = Action.DELEGATE, depth: int = 0, expiry_ns: int = EXP, audience: DID = NO_DID
) -> Token:
    return ORG.issue(
        USER, *(caps or ("/a",)), act=act, depth=depth, expiry_ns=expiry_ns, audience=audience, topics=("/t",)
    )


def child(
    parent: Token,
    *caps: str,
    by: Party = USER,
    expiry_ns: int = EXP,
    audience: DID = NO_DID,
    topics: tuple[str, ...] = (),
) -> Token:
    return by.issue(NODE, *(caps or ("/a",)), parent=parent, expiry_ns=expiry_ns, audience=audience, topics=topics)


def resigned(token: Token, by: Party, **changes: object) -> Token:
    body = msgspec.structs.replace(token.body, sig=b"", **changes)
    return Token(dms=msgspec.structs.replace(body, sig=by.key.sign(body.signed_bytes())))


def forged(token: Token, **changes: object) -> Token:
    return Token(dms=msgspec.structs.replace(token.body, **changes))


def long_chain(levels: int) -> Token:
    parties = [Party(str(number)) for number in range(levels + 1)]
    token = parties[0].issue(parties[1], "/a")
    for number in range(1, levels):
        token = parties[number].issue(parties[number + 1], "/a", parent=token)
    return token


VERIFICATION = [
    Case(
        "3.3 a token is over when the time is past its expiry",
        lambda: grant(expiry_ns=NOW_NS),
        lambda: grant(expiry_ns=NOW_NS - 1),
        Rule.EXPIRED,
        CapabilityExpired,
    ),
    Case(
        "3.3 a token is over when an ancestor is",
        lambda: child(grant(expiry_ns=NOW_NS), expiry_ns=NOW_NS),
        lambda: child(grant(expiry_ns=NOW_NS - 1), expiry_ns=NOW_NS),
        Rule.EXPIRED,
        CapabilityExpired,
    ),
    Case("3.4.1 only DMS tokens are tokens", grant, Token, Rule.MALFORMED, BadToken),
    Case(
        "3.4.1 so are all ancestors",
        lambda: child(grant()),
        lambda: Token(dms=msgspec.structs.replace(child(grant()).body, chain=Token())),
        Rule.MALFORMED,
        BadToken,
    ),
    Case(
        "3.4.3 a revocation needs the issuer's signature and nothing else",
        lambda: issue_revocation(ORG.provider, grant(depth=1)),
        lambda: forged(issue_revocation(ORG.provider, grant()), nonce=b"other"),
        Rule.SIGNATURE,
        IdentityError,
    ),
    Case(
        "3.4.4 depth counts the levels below",
        lambda: child(grant(depth=1)),
        lambda: PEER.issue(USER, "/a", parent=NODE.issue(PEER, "/a", parent=child(grant(depth=2)))),
        Rule.DEPTH,
    ),
    Case("3.4.6a a parent is a delegation", lambda: child(grant()), lambda: child(grant(act=Action.INVOKE)), Rule.LINK),
    Case(
        "3.4.6b expiries never grow downwards",
        lambda: child(grant()),
        lambda: child(grant(), expiry_ns=EXP + 1),
        Rule.OUTLIVES,
        CapabilityExpired,
    ),
    Case(
        "3.4.6c the parent itself verifies",
        lambda: child(grant("/a")),
        lambda: child(forged(grant("/b"), cap=("/a",))),
        Rule.SIGNATURE,
        IdentityError,
    ),
    Case(
        "3.4.6d the issuer is the parent's subject",
        lambda: child(grant(), by=USER),
        lambda: child(grant(), by=PEER),
        Rule.LINK,
    ),
    Case(
        "3.4.6e a named audience stays",
        lambda: child(grant(audience=PEER.did), audience=PEER.did),
        lambda: child(grant(audience=PEER.did), audience=NODE.did),
        Rule.LINK,
    ),
    Case(
        "3.4.6e a named audience is not dropped",
        lambda: child(grant(), audience=PEER.did),
        lambda: child(grant(audience=PEER.did)),
        Rule.LINK,
    ),
    Case(
        "3.4.6e every topic is implied by one of the parent's",
        lambda: child(grant(), topics=("/t", "/t/u")),
        lambda: child(grant(), topics=("/t", "/u")),
        Rule.LINK,
    ),
    Case(
        "3.4.6e every capability is implied by one of the parent's",
        lambda: child(grant("/a", "/b"), "/a/x", "/b"),
        lambda: child(grant("/a", "/b"), "/a/x", "/c"),
        Rule.LINK,
    ),
    Case(
        "3.4.7 the issuer's signature fits",
        grant,
        lambda: forged(grant(), nonce=b"other"),
        Rule.SIGNATURE,
        IdentityError,
    ),
    Case(
        "3.4.7 the issuer's key is known",
        grant,
        lambda: forged(grant(), iss=DID(uri="did:unknown:x")),
        Rule.UNRESOLVED,
        IdentityError,
    ),
    Case(
        "3.4 an action is one of those that there are",
        lambda: grant(act=Action.BROADCAST),
        lambda: grant(act="Delegate"),
        Rule.MALFORMED,
        BadToken,
    ),
    Case(
        "8 a token without capabilities conveys nothing",
        grant,
        lambda: resigned(grant(), ORG, cap=()),
        Rule.MALFORMED,
        BadToken,
    ),
    Case(
        "8 a chain has a length that can be checked",
        lambda: long_chain(MAX_CHAIN),
        lambda: long_chain(MAX_CHAIN + 1),
        Rule.MALFORMED,
        BadToken,
    ),
]


@pytest.mark.parametrize("case", VERIFICATION, ids=lambda case: case.rule)
def test_verification(case: Case) -> None:
    kept, broken = case.kept(), case.broken()
    verify(kept, TrustContext(), NOW_NS)
    verify(decode_token(kept.json), TrustContext(), NOW_NS)
    finding = examine(broken, TrustContext(), NOW_NS)
    assert finding is not None
    assert finding.rule is case.named
    with pytest.raises(case.error):
        verify(broken, TrustContext(), NOW_NS)


def test_3_4_5_what_is_revoked_does_not_verify_and_the_rest_does() -> None:
    token, other = grant(), grant()
    revoked = {issue_revocation(ORG.provider, token).key}
    for held, rule in ((token, Rule.REVOKED), (child(token), Rule.REVOKED), (other, None), (child(other), None)):
        finding = examine(held, TrustContext(), NOW_NS, revoked)
        assert (finding and finding.rule) == rule


def test_3_7_only_the_issuer_revokes() -> None:
    assert issue_revocation(ORG.provider, grant()).body.act == Action.REVOKE
    with pytest.raises(NotAuthorized, match="only the issuer"):
        issue_revocation(USER.provider, grant())


def test_3_7_a_revocation_lapses_when_the_token_would() -> None:
    token = grant()
    context = CapabilityContext("node", NODE.did, NODE.trust, clock_ns=lambda: EXP + 1)
    assert issue_revocation(ORG.provider, token).body.exp == token.body.exp
    with pytest.raises(CapabilityExpired):
        context.add_roots(revoke=TokenList.of(issue_revocation(ORG.provider, token)))


def test_3_8_a_list_has_sixteen_kibibytes() -> None:
    assert decode_token_list(b"{}".ljust(MAX_BLOB_BYTES)) == TokenList()
    with pytest.raises(BlobTooBig):
        decode_token_list(b"{}".ljust(MAX_BLOB_BYTES + 1))


# the predicates of 3.5 ------------------------------------------------------------------------------------------------


def asks(action: str, subject: Party = NODE, audience: Party = PEER, cap: str = "/a", topic: str = "") -> Question:
    return Question(action, subject.did, audience.did, [Capability(cap)], topic, NO_DID, NO_DID)


def invoke(*caps: str, audience: DID = NO_DID) -> Token:
    return USER.issue(NODE, *(caps or ("/a",)), act=Action.INVOKE, audience=audience)


def broadcast(topic: str = "/t", audience: DID = NO_DID) -> Token:
    return USER.issue(NODE, "/a", act=Action.BROADCAST, topics=(topic,), audience=audience)


def delegable(
    parent: Token,
    action: str = Action.INVOKE,
    *,
    by: Party = USER,
    audience: DID = NO_DID,
    expiry_ns: int = EXP,
    caps: tuple[str, ...] = ("/a",),
    topics: tuple[str, ...] = (),
) -> bool:
    return allows_delegation(parent, action, by.did, audience, topics, expiry_ns, caps)


def claims(token: Token, question: Question) -> bool:
    return claim_finding(token, question) is None


def lends(side: Token, other: Token) -> bool:
    return allows_action(side, other)


SIDE_CHAINED = ORG.issue(USER, "/a/b", expiry_ns=EXP, audience=PEER.did, topics=("/t/u",))

PREDICATES: list[tuple[str, bool, bool]] = [
    (
        "Anchor: an issuer at any level, no subject",
        is_anchored(child(grant()), ORG.did),
        is_anchored(child(grant()), NODE.did),
    ),
    (
        "SelfSigned: the issuer of the last ancestor",
        is_self_signed(child(grant()), ORG.did),
        is_self_signed(child(grant()), USER.did),
    ),
    ("AllowInvocation: action", claims(invoke(), asks("invoke")), claims(USER.issue(NODE, "/a"), asks("invoke"))),
    ("AllowInvocation: subject", claims(invoke(), asks("invoke")), claims(invoke(), asks("invoke", subject=ORG))),
    (
        "AllowInvocation: audience",
        claims(invoke(audience=PEER.did), asks("invoke")),
        claims(invoke(audience=ORG.did), asks("invoke")),
    ),
    ("AllowInvocation: capability", claims(invoke("/"), asks("invoke")), claims(invoke("/ab"), asks("invoke"))),
    (
        "AllowBroadcast: action",
        claims(broadcast(), asks("broadcast", topic="/t")),
        claims(invoke(), asks("broadcast", topic="/t")),
    ),
    (
        "AllowBroadcast: topic",
        claims(broadcast(), asks("broadcast", topic="/t/x")),
        claims(broadcast(), asks("broadcast", topic="/tx")),
    ),
    (
        "AllowBroadcast: no audience",
        claims(broadcast(), asks("broadcast", topic="/t")),
        claims(broadcast(audience=PEER.did), asks("broadcast", topic="/t")),
    ),
    ("AllowDelegation: only on a delegation", delegable(grant()), delegable(grant(act=Action.INVOKE))),
    ("AllowDelegation: expiry", delegable(grant()), delegable(grant(), expiry_ns=EXP + 1)),
    ("AllowDelegation: issuer", delegable(grant()), delegable(grant(), by=PEER)),
    (
        "AllowDelegation: audience",
        delegable(grant(audience=PEER.did), audience=PEER.did),
        delegable(grant(audience=PEER.did)),
    ),
    ("AllowDelegation: topics", delegable(grant(), topics=("/t/x",)), delegable(grant(), topics=("/t", "/u"))),
    (
        "AllowDelegation: capabilities, all of them",
        delegable(grant("/a", "/b"), caps=("/a", "/b")),
        delegable(grant("/a"), caps=("/a", "/b")),
    ),
    (
        "AllowDelegation: depth 1 is used, not passed on",
        delegable(grant(depth=1)),
        delegable(grant(depth=1), Action.DELEGATE),
    ),
    (
        "AllowDelegation: depth 2 is passed on once",
        delegable(grant(depth=2), Action.DELEGATE),
        allows_delegation(child(grant(depth=2)), Action.DELEGATE, NODE.did, NO_DID, (), EXP, ("/a",)),
    ),
    (
        "AllowAction: only a delegation lends",
        lends(NODE.issue(ORG, "/a", topics=("/t",)), SIDE_CHAINED),
        lends(NODE.issue(ORG, "/a", act=Action.INVOKE, topics=("/t",)), SIDE_CHAINED),
    ),
    (
        "AllowAction: it outlives the other",
        lends(NODE.issue(ORG, "/a", topics=("/t",), expiry_ns=EXP), SIDE_CHAINED),
        lends(NODE.issue(ORG, "/a", topics=("/t",), expiry_ns=EXP - 1), SIDE_CHAINED),
    ),
    (
        "AllowAction: its subject issued a level",
        lends(NODE.issue(ORG, "/", topics=("/t",)), SIDE_CHAINED),
        lends(NODE.issue(USER, "/", topics=("/t",)), SIDE_CHAINED),
    ),
    (
        "AllowAction: depth of the anchor",
        lends(NODE.issue(ORG, "/a", depth=1), USER.issue(PEER, "/a", parent=ORG.issue(USER, "/a"))),
        lends(
            NODE.issue(ORG, "/a", depth=1),
            PEER.issue(NODE, "/a", parent=USER.issue(PEER, "/a", parent=ORG.issue(USER, "/a"))),
        ),
    ),
    (
        "AllowAction: audience",
        lends(NODE.issue(ORG, "/a", topics=("/t",), audience=PEER.did), SIDE_CHAINED),
        lends(NODE.issue(ORG, "/a", topics=("/t",), audience=NODE.did), SIDE_CHAINED),
    ),
    (
        "AllowAction: capabilities",
        lends(NODE.issue(ORG, "/a", topics=("/t",)), SIDE_CHAINED),
        lends(NODE.issue(ORG, "/a/bc", topics=("/t",)), SIDE_CHAINED),
    ),
    (
        "AllowAction: topics",
        lends(NODE.issue(ORG, "/a", topics=("/t/u",)), SIDE_CHAINED),
        lends(NODE.issue(ORG, "/a"), SIDE_CHAINED),
    ),
    ("Subsumes: capabilities", subsumes(grant("/a"), grant("/a/b")), subsumes(grant("/a/b"), grant("/a"))),
    ("8 Subsumes: action", subsumes(grant(), grant()), subsumes(grant(), grant(act=Action.INVOKE))),
    ("8 Subsumes: depth", subsumes(grant(depth=2), grant(depth=1)), subsumes(grant(depth=1), grant(depth=2))),
    (
        "8 Subsumes: topics",
        subsumes(grant(), ORG.issue(USER, "/a", expiry_ns=EXP)),
        subsumes(ORG.issue(USER, "/a", expiry_ns=EXP), grant()),
    ),
]


@pytest.mark.parametrize(("rule", "kept", "broken"), PREDICATES, ids=[row[0] for row in PREDICATES])
def test_predicates(rule: str, kept: bool, broken: bool) -> None:
    assert (kept, broken) == (True, False), rule
