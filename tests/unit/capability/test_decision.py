"""Decisions as data: which token, which rule, which anchor was missing; bounded, printable, without secrets."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from dms.capability.decision import MAX_CONSIDERED, Decision, Rule
from dms.capability.errors import NotAuthorized
from dms.capability.token import MAX_BLOB_BYTES, Action, Token, TokenList, encode_token_list, issue_revocation
from dms.identity.ids import DID, NO_DID
from dms.testing.parties import HOUR_NS, NOW_NS, Party, StoppedClock
from dms.types import gojson
from dms.types.ids import Capability

A, B = Capability("/a"), Capability("/b")
EXP = NOW_NS + HOUR_NS


class World:
    def __init__(self) -> None:
        self.clock = StoppedClock()
        self.node, self.peer, self.user, self.org = (
            Party(name, clock=self.clock) for name in ("node", "peer", "user", "org")
        )

    def decide(
        self, *tokens: Token, origin: DID = NO_DID, topic: str = "", caps: tuple[Capability, ...] = (A,)
    ) -> Decision:
        """What the node decides about a message of the peer that carries ``tokens``."""
        context, blob = self.node.context, gojson.encode(TokenList.of(*tokens))
        carried = context.consume(origin or self.peer.did, blob, sender=self.peer.id)
        try:
            return context.decide(self.node.did, self.peer.id, self.node.id, caps, origin=origin, topic=topic)
        finally:
            context.discard(carried)

    def invoke(self, by: Party, *caps: str, audience: DID = NO_DID, parent: Token | None = None) -> Token:
        return by.issue(self.peer, *(caps or ("/a",)), act=Action.INVOKE, audience=audience, parent=parent)


@pytest.fixture
def world() -> World:
    made = World()
    made.node.context.add_roots([made.org.did])
    return made


def forged(token: Token) -> Token:
    return Token(dms=msgspec.structs.replace(token.body, cap=("/",)))


def revoked(world: World) -> Token:
    token = world.invoke(world.org)
    world.node.context.add_roots(revoke=TokenList.of(world.org.context.revoke(token)))
    return token


def expired(world: World) -> Token:
    parent = world.org.issue(world.user, "/a", expiry_ns=NOW_NS - 1)
    return world.user.issue(world.peer, "/a", act=Action.INVOKE, expiry_ns=EXP, parent=parent)


CASES: dict[Rule, Callable[[World], tuple[Token, int | None]]] = {
    Rule.MALFORMED: lambda _: (Token(), None),
    Rule.ACTION: lambda w: (w.org.issue(w.peer, "/a"), None),
    Rule.SUBJECT: lambda w: (w.org.issue(w.user, "/a", act=Action.INVOKE), None),
    Rule.CAPABILITY: lambda w: (w.invoke(w.org, "/ab"), None),
    Rule.AUDIENCE: lambda w: (w.invoke(w.org, audience=w.user.did), None),
    Rule.NOT_ANCHORED: lambda w: (w.invoke(w.user, parent=w.peer.issue(w.user, "/a")), None),
    Rule.EXPIRED: lambda w: (expired(w), 1),
    Rule.REVOKED: lambda w: (revoked(w), 0),
    Rule.DEPTH: lambda w: (
        w.invoke(w.peer, parent=w.user.issue(w.peer, "/a", parent=w.org.issue(w.user, "/a", depth=1))),
        2,
    ),
    Rule.LINK: lambda w: (w.invoke(w.peer, "/", parent=w.org.issue(w.peer, "/b")), 0),
    Rule.OUTLIVES: lambda w: (w.invoke(w.peer, parent=w.org.issue(w.peer, "/a", expiry_ns=EXP - 1)), 0),
    Rule.UNRESOLVED: lambda w: (
        Token(
            dms=msgspec.structs.replace(w.invoke(w.peer, parent=w.org.issue(w.peer, "/a")).body, iss=DID(uri="did:x:y"))
        ),
        0,
    ),
    Rule.SIGNATURE: lambda w: (forged(w.invoke(w.org)), 0),
}


@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.value)
def test_each_denial_names_the_rule_and_the_level_in_the_chain(world: World, rule: Rule) -> None:
    token, level = CASES[rule](world)
    if rule is Rule.UNRESOLVED:
        parent = world.org.issue(Party("x", clock=world.clock), "/a")
        body = msgspec.structs.replace(parent.body, sub=DID(uri="did:x:y"), sig=b"")
        body = msgspec.structs.replace(body, sig=world.org.key.sign(body.signed_bytes()))
        token = Token(dms=msgspec.structs.replace(token.body, chain=Token(dms=body)))
    decision = world.decide(token)
    assert not decision.allowed
    assert decision.rule is rule
    [considered] = decision.considered
    assert (considered.rule, considered.level, considered.token) == (rule, level, token)
    assert considered.reason
    assert decision.message == f"not authorized: {world.peer.did} may not invoke /a"


def test_an_allowed_decision_names_its_token_and_explains_nothing(world: World) -> None:
    token = world.invoke(world.org)
    decision = world.decide(world.invoke(world.user), token)
    assert (decision.allowed, decision.rule, decision.token, decision.considered) == (True, Rule.ALLOWED, token, ())
    data = decision.as_data()
    assert data["allowed"] is True
    assert data["token"] == {
        "act": "invoke",
        "iss": str(world.org.did),
        "sub": str(world.peer.did),
        "aud": "",
        "caps": ["/a"],
        "caps_total": 1,
        "topics": [],
        "exp": EXP,
        "nonce": (token.body.nonce or b"").hex(),
        "chain": [str(world.org.did)],
        "levels": 1,
    }


def test_what_is_missing_are_the_issuers_of_the_chain_from_its_root_down(world: World) -> None:
    token = world.invoke(world.user, parent=world.peer.issue(world.user, "/a"))
    [considered] = world.decide(token).considered
    assert considered.missing == (world.peer.did, world.user.did)
    for anchor in considered.missing:
        world.node.context.add_roots([anchor])
        assert world.decide(token).allowed
        world.node.context.remove_roots([anchor])
    assert not world.decide(token).allowed


def test_the_token_that_came_nearest_is_told_first(world: World) -> None:
    decision = world.decide(
        world.org.issue(world.peer, "/a"),
        world.invoke(world.user),
        forged(world.invoke(world.org)),
        world.invoke(world.org, "/b"),
    )
    assert [c.rule for c in decision.considered] == [Rule.SIGNATURE, Rule.NOT_ANCHORED, Rule.CAPABILITY, Rule.ACTION]
    assert decision.rule is Rule.SIGNATURE
    assert "signature verification failed" in decision.hint


def test_a_message_without_tokens_is_told_so(world: World) -> None:
    decision = world.decide()
    assert decision.rule is Rule.NO_TOKEN
    assert "no token" in decision.hint
    assert decision.considered == ()


def test_somebody_elses_claim_is_told(world: World) -> None:
    decision = world.decide(world.invoke(world.org), origin=world.user.did)
    assert decision.rule is Rule.SENDER
    assert str(world.user.did) in decision.hint


def test_broadcasts_are_decided_by_topic_and_name_no_audience(world: World) -> None:
    def broadcast(*topics: str, audience: DID = NO_DID) -> Token:
        return world.org.issue(world.peer, "/a", act=Action.BROADCAST, topics=topics, audience=audience)

    assert world.decide(broadcast("/t"), topic="/t/u").allowed
    assert world.decide(broadcast("/t"), topic="/u").rule is Rule.TOPIC
    assert world.decide(broadcast("/t", audience=world.node.did), topic="/t").rule is Rule.AUDIENCE
    assert world.decide(broadcast("/t")).rule is Rule.ACTION
    assert world.decide(world.invoke(world.org), topic="/t").rule is Rule.ACTION


def test_a_broadcast_on_no_topic_is_never_an_invocation(world: World) -> None:
    blob = encode_token_list(TokenList.of(world.invoke(world.org)))
    world.node.context.consume(world.peer.did, blob, sender=world.peer.id)
    world.node.context.require(world.node.did, world.peer.id, world.node.id, [A])
    with pytest.raises(NotAuthorized):
        world.node.context.require_broadcast(world.node.did, world.peer.id, "", [A])


def test_errors_carry_the_decision_and_stay_one_line(world: World) -> None:
    with pytest.raises(NotAuthorized) as caught:
        world.node.context.require(world.node.did, world.peer.id, world.node.id, [A])
    assert caught.value.decision is not None
    assert caught.value.message == caught.value.decision.message
    assert caught.value.hint == caught.value.decision.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_hostile_tokens_get_short_printable_explanations(world: World) -> None:
    """Whatever a message holds, the answer is small, is JSON, and holds nothing that moves a terminal's cursor."""
    bad = DID(uri="\x1b[2J\u202e" + "\U0001f600" * 300)
    cap = "/\n\x1b]0;title\x07" + "x" * 900
    hostile = [
        Token(
            dms=msgspec.structs.replace(
                world.invoke(world.org).body, iss=iss, cap=(cap,) * 2, topic=(cap,), act=act, nonce=b"n" * 500, aud=aud
            )
        )
        for iss in (bad, world.org.did)
        for act in (Action.INVOKE, "\x00" * 90)
        for aud in (NO_DID, bad)
    ]
    for tokens in ([], hostile[:2], hostile[2:4], hostile[4:6], hostile[6:], [Token()] * 200):
        decision = world.decide(*tokens, caps=(Capability(cap),) * 9, origin=bad)
        text = json.dumps(decision.as_data(), ensure_ascii=False)
        assert len(text) < MAX_BLOB_BYTES
        assert text.isprintable()
        assert len(decision.considered) <= MAX_CONSIDERED
        assert len(decision.message) + len(decision.hint) < 2048


def test_a_denial_tells_nothing_of_what_else_the_context_holds(world: World) -> None:
    """Neither whom we trust, nor what we were given or have revoked, nor the signatures of tokens."""
    context = world.node.context
    secret = Party("secret", clock=world.clock)
    context.add_roots(
        [secret.did],
        TokenList.of(world.node.issue(Party("lender", clock=world.clock), "/hidden")),
        TokenList.of(Party("giver", clock=world.clock).issue(world.node, "/hidden")),
        TokenList.of(issue_revocation(secret.provider, secret.issue(world.user, "/hidden"))),
    )
    token = world.invoke(world.user)
    text = json.dumps(world.decide(token).as_data())
    for did in (secret.did, Party("lender").did, Party("giver").did, world.org.did):
        assert str(did) not in text
    assert "/hidden" not in text
    assert '"sig"' not in text


# explain --------------------------------------------------------------------------------------------------------------


def test_explaining_is_deciding_about_a_message_that_did_not_come(world: World) -> None:
    context = world.node.context
    assert context.explain(world.org.did, [A]).allowed, "a root needs only the token that every message carries"
    denied = context.explain(world.peer.did, [A])
    assert (denied.rule, denied.considered[0].missing) == (Rule.NOT_ANCHORED, (world.peer.did,))
    held = TokenList.of(world.org.issue(world.peer, "/a"))
    assert context.explain(world.peer.did, [A], tokens=held).allowed, "it would rest a token on what it was given"
    assert context.explain(world.peer.did, [B], tokens=held).rule is Rule.LINK
    assert context.explain(world.peer.did, [B, A], tokens=held).allowed, "any one of the capabilities is enough"
    assert context.explain(world.user.did, [A], tokens=held).rule is Rule.NOT_ANCHORED, "it was given to another"
    assert context.explain(world.peer.did, [A], tokens=held, audience=world.user.did).allowed
    over = context.explain(world.peer.did, [A], tokens=held, now_ns=EXP + 1)
    assert (over.rule, over.considered[0].level) == (Rule.EXPIRED, 0)
    assert context.explain(world.peer.did, [A], tokens=TokenList.of(forged(held.tokens[0]))).rule is Rule.SIGNATURE
    assert context.explain(world.peer.did, []).rule is Rule.NO_TOKEN
    assert context.collect_garbage() == 0
    assert not world.decide().allowed, "nothing of it is kept"


def test_explaining_broadcasts(world: World) -> None:
    held = TokenList.of(world.org.issue(world.peer, "/a", topics=("/t",)))
    assert world.node.context.explain(world.peer.did, [A], topic="/t", tokens=held).allowed
    assert world.node.context.explain(world.peer.did, [A], topic="/u", tokens=held).rule is Rule.LINK


def test_an_explanation_remembers_no_signature_that_nobody_made(world: World) -> None:
    """The imagined token must not be mistaken for a signed one later."""
    decision = world.node.context.explain(world.org.did, [A])
    assert decision.token is not None
    blob = encode_token_list(TokenList.of(decision.token))
    world.node.context.consume(world.org.did, blob, sender=world.org.id)
    assert world.node.context.decide(world.node.did, world.org.id, world.node.id, [A]).rule is Rule.SIGNATURE
