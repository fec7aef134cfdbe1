"""The questions of spec/security.md 3.5, each answered both ways."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.capability.decision import Question, Rule
from dms.capability.rules import (
    allows_action,
    allows_delegation,
    anchor_depth,
    claim_finding,
    is_anchored,
    is_self_signed,
    subsumes,
)
from dms.capability.token import Action, Token
from dms.capability.token_set import TokenSet
from dms.identity.ids import NO_DID
from dms.testing.parties import HOUR_NS, NOW_NS, Party
from dms.types.ids import Capability

ORG, USER, NODE, PEER = (Party(name) for name in ("org", "user", "node", "peer"))
EXP = NOW_NS + HOUR_NS


def test_every_issuer_of_a_chain_anchors_it() -> None:
    token = NODE.issue(PEER, "/a", parent=USER.issue(NODE, "/a", parent=ORG.issue(USER, "/a")))
    assert [is_anchored(token, p.did) for p in (ORG, USER, NODE, PEER)] == [True, True, True, False]
    assert [anchor_depth(token, p.did) for p in (ORG, USER, NODE, PEER)] == [2, 1, 0, None]
    assert is_self_signed(token, ORG.did)
    assert not is_self_signed(token, NODE.did)


def test_the_depth_of_an_anchor_is_the_deepest() -> None:
    assert (
        anchor_depth(USER.issue(NODE, "/a", parent=ORG.issue(USER, "/a", parent=USER.issue(ORG, "/a"))), USER.did) == 2
    )


def finding(token: Token, action: str, subject: Party, audience: Party, cap: str, topic: str = "") -> Rule | None:
    question = Question(action, subject.did, audience.did, [Capability(cap)], topic, NO_DID, NO_DID)
    found = claim_finding(token, question)
    return found and found.rule


def test_invocations() -> None:
    token = USER.issue(NODE, "/a", act=Action.INVOKE, audience=PEER.did)
    assert finding(token, Action.INVOKE, NODE, PEER, "/a/b") is None
    assert finding(token, Action.INVOKE, USER, PEER, "/a") is Rule.SUBJECT
    assert finding(token, Action.INVOKE, NODE, ORG, "/a") is Rule.AUDIENCE
    assert finding(token, Action.INVOKE, NODE, PEER, "/b") is Rule.CAPABILITY
    assert finding(USER.issue(NODE, "/a", act=Action.INVOKE), Action.INVOKE, NODE, ORG, "/a") is None
    for act in (Action.DELEGATE, Action.BROADCAST):
        assert finding(USER.issue(NODE, "/a", act=act), Action.INVOKE, NODE, PEER, "/a") is Rule.ACTION


def test_broadcasts() -> None:
    token = USER.issue(NODE, "/a", act=Action.BROADCAST, topics=("/t",))
    assert finding(token, Action.BROADCAST, NODE, PEER, "/a/b", "/t/u") is None
    assert finding(token, Action.BROADCAST, USER, PEER, "/a", "/t") is Rule.SUBJECT
    assert finding(token, Action.BROADCAST, NODE, PEER, "/a", "/u") is Rule.TOPIC
    assert finding(token, Action.BROADCAST, NODE, PEER, "/b", "/t") is Rule.CAPABILITY
    named = USER.issue(NODE, "/a", act=Action.BROADCAST, topics=("/t",), audience=PEER.did)
    assert finding(named, Action.BROADCAST, NODE, PEER, "/a", "/t") is Rule.AUDIENCE
    for act in (Action.DELEGATE, Action.INVOKE):
        assert finding(USER.issue(NODE, "/a", act=act, topics=("/t",)), Action.BROADCAST, NODE, PEER, "/a", "/t") is (
            Rule.ACTION
        )


def test_the_claimed_identity_issued_the_token_or_is_its_subject() -> None:
    token = USER.issue(NODE, "/a", act=Action.INVOKE)
    for origin, rule in ((USER, None), (NODE, None), (ORG, Rule.SENDER)):
        question = Question(Action.INVOKE, NODE.did, PEER.did, [Capability("/a")], "", origin.did, NO_DID)
        found = claim_finding(token, question)
        assert (found and found.rule) is rule


def test_delegations() -> None:
    token = ORG.issue(USER, "/a", "/b", topics=("/t",), expiry_ns=EXP)
    good = (Action.INVOKE, USER.did, NODE.did, ("/t/x",), EXP, ("/a", "/b/c"))
    assert allows_delegation(token, *good)
    for place, wrong in ((1, ORG.did), (3, ("/t", "/u")), (4, EXP + 1), (5, ("/a", "/c"))):
        arguments = list(good)
        arguments[place] = wrong
        assert not allows_delegation(token, *arguments)  # type: ignore[arg-type]
    bound = ORG.issue(USER, "/a", audience=NODE.did)
    assert allows_delegation(bound, Action.INVOKE, USER.did, NODE.did, (), EXP, ("/a",))
    assert not allows_delegation(bound, Action.INVOKE, USER.did, NO_DID, (), EXP, ("/a",))
    assert not allows_delegation(ORG.issue(USER, "/a", act=Action.INVOKE), *good[:3], (), EXP, ("/a",))


@pytest.mark.parametrize(
    ("depth", "may_invoke", "may_delegate"), [(0, True, True), (1, True, False), (2, True, True), (3, True, True)]
)
def test_depth_one_may_be_used_and_depth_two_may_be_passed_on(depth: int, may_invoke: bool, may_delegate: bool) -> None:
    token = ORG.issue(USER, "/a", depth=depth)
    assert allows_delegation(token, Action.INVOKE, USER.did, NO_DID, (), EXP, ("/a",)) is may_invoke
    assert allows_delegation(token, Action.DELEGATE, USER.did, NO_DID, (), EXP, ("/a",)) is may_delegate


def test_the_depth_of_every_ancestor_counts() -> None:
    token = USER.issue(NODE, "/a", depth=9, parent=ORG.issue(USER, "/a", depth=2))
    assert token.remaining_depth == 1
    assert allows_delegation(token, Action.INVOKE, NODE.did, NO_DID, (), EXP, ("/a",))
    assert not allows_delegation(token, Action.DELEGATE, NODE.did, NO_DID, (), EXP, ("/a",))


def test_a_side_chain_lends_trust_to_what_its_subject_issued() -> None:
    side = NODE.issue(ORG, "/a", topics=("/t",), expiry_ns=EXP)
    direct = ORG.issue(PEER, "/a/x", act=Action.INVOKE, expiry_ns=EXP)
    passed = USER.issue(PEER, "/a", act=Action.BROADCAST, topics=("/t",), parent=ORG.issue(USER, "/a", topics=("/t",)))
    assert allows_action(side, direct)
    assert allows_action(side, passed)
    assert not allows_action(side, USER.issue(PEER, "/a"))
    assert not allows_action(side, ORG.issue(PEER, "/a", expiry_ns=EXP + 1))
    assert not allows_action(side, ORG.issue(PEER, "/a", "/b"))
    assert not allows_action(side, ORG.issue(PEER, "/a", topics=("/u",)))
    assert not allows_action(NODE.issue(ORG, "/a", act=Action.INVOKE), direct)


def test_a_side_chain_may_name_an_audience_and_a_depth() -> None:
    bound = NODE.issue(ORG, "/a", audience=NODE.did)
    assert allows_action(bound, ORG.issue(PEER, "/a", audience=NODE.did))
    assert not allows_action(bound, ORG.issue(PEER, "/a"))
    assert not allows_action(bound, ORG.issue(PEER, "/a", audience=USER.did))
    shallow = NODE.issue(ORG, "/a", depth=1)
    one = USER.issue(PEER, "/a", parent=ORG.issue(USER, "/a"))
    two = PEER.issue(NODE, "/a", parent=one)
    assert allows_action(shallow, one)
    assert not allows_action(shallow, two)
    assert allows_action(NODE.issue(ORG, "/a", depth=2), two)


def test_subsumption_compares_everything() -> None:
    wide = ORG.issue(USER, "/a", topics=("/t",), depth=3, expiry_ns=EXP)
    assert subsumes(wide, wide)
    assert subsumes(wide, ORG.issue(USER, "/a/b", topics=("/t/u",), depth=2, expiry_ns=EXP - 1))
    others = [
        PEER.issue(USER, "/a"),
        ORG.issue(NODE, "/a"),
        ORG.issue(USER, "/a", audience=NODE.did, depth=1),
        ORG.issue(USER, "/a", expiry_ns=EXP + 1, depth=1),
        ORG.issue(USER, "/a", "/b", depth=1),
        ORG.issue(USER, "/a", topics=("/u",), depth=1),
        ORG.issue(USER, "/a", depth=4),
        ORG.issue(USER, "/a", depth=0),
        ORG.issue(USER, "/a", act=Action.INVOKE, depth=1),
    ]
    assert [subsumes(wide, other) for other in others] == [False] * len(others)


def test_a_chained_token_is_not_dropped_for_a_wider_self_signed_one() -> None:
    chained = USER.issue(NODE, "/a", parent=ORG.issue(USER, "/a"))
    alone = USER.issue(NODE, "/", expiry_ns=EXP + 1)
    assert not subsumes(alone, chained)
    assert subsumes(USER.issue(NODE, "/a", parent=ORG.issue(USER, "/a")), USER.issue(NODE, "/a"))
    limited = USER.issue(NODE, "/a", parent=ORG.issue(USER, "/a", depth=1))
    assert not subsumes(limited, USER.issue(NODE, "/a"))


def test_a_set_keeps_only_what_is_of_use_in_the_order_of_arrival() -> None:
    tokens = TokenSet()
    narrow, other, wide = ORG.issue(USER, "/a/b"), ORG.issue(NODE, "/a"), ORG.issue(USER, "/a")
    assert [tokens.add(t) for t in (narrow, other, narrow, wide, narrow)] == [True, True, False, True, False]
    assert list(tokens) == [other, wide]
    assert list(tokens.of_subject(USER.did)) == [wide]
    assert tokens.remove(wide.key) == 1
    assert list(tokens.of_subject(USER.did)) == []
    assert tokens.drop(lambda _: True) == len([other])
    assert len(tokens) == 0


PATHS = st.lists(st.sampled_from(["/", "/a", "/a/b", "/b", "/c"]), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(PATHS, PATHS, st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=4),
    PATHS,
    st.integers(0, 3),
)
def test_what_a_set_drops_could_do_nothing_that_the_rest_cannot(
    specs: list[tuple[list[str], list[str], int, int]], caps: list[str], sooner: int
) -> None:
    issued = [ORG.issue(USER, *c, topics=tuple(t), depth=depth, expiry_ns=EXP - early) for c, t, depth, early in specs]
    kept = TokenSet()
    for token in issued:
        kept.add(token)

    def can(tokens: list[Token], action: str, topics: tuple[str, ...]) -> bool:
        return any(allows_delegation(t, action, USER.did, NO_DID, topics, EXP - sooner, caps) for t in tokens)

    for action, topics in itertools.product((Action.INVOKE, Action.DELEGATE), ((), ("/a/b",), ("/c",))):
        assert can(issued, action, topics) == can(list(kept), action, topics)
