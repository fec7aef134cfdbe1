"""Capability contexts: admission, authorisation, issuing, revocation (spec/security.md 4 and 8)."""

from __future__ import annotations

import pytest

from dms.capability.admission import Carried
from dms.capability.context import CapabilityContext, SelfSign
from dms.capability.errors import BadToken, BlobTooBig, CapabilityExpired, NotAuthorized, TooManyRevocations
from dms.capability.leaves import EXTRA_LIFE_NS
from dms.capability.token import (
    MAX_BLOB_BYTES,
    NO_TOKENS,
    Action,
    Token,
    TokenList,
    decode_token_list,
    encode_token_list,
    issue,
)
from dms.capability.verification import verify
from dms.identity.errors import InvalidKey, NoProvider, SignatureFailed
from dms.identity.ids import DID, NO_DID, ActorID
from dms.identity.trust import TrustContext
from dms.testing.parties import HOUR_NS, NOW_NS, Party, StoppedClock
from dms.types.errors import BadInput
from dms.types.ids import Capability

EXP = NOW_NS + HOUR_NS
SOON = NOW_NS + 30 * 10**9
A, B, REPLY = Capability("/a"), Capability("/b"), Capability("/dms/actor/replyto/1")


class World:
    """Four parties on one clock: a node that guards itself, a peer, a user and an organisation."""

    def __init__(self) -> None:
        self.clock = StoppedClock()
        self.node, self.peer, self.user, self.org = (
            Party(name, clock=self.clock) for name in ("node", "peer", "user", "org")
        )

    def send(self, sender: Party, receiver: Party, *caps: Capability, reply: tuple[Capability, ...] = ()) -> bytes:
        return sender.context.provide(receiver.did, sender.id, receiver.id, self.clock() + 30 * 10**9, caps, reply)

    def arrives(self, sender: Party, receiver: Party, blob: bytes) -> Carried:
        return receiver.context.consume(sender.did, blob, sender=sender.id)

    def allowed(self, sender: Party, receiver: Party, *caps: Capability, origin: DID = NO_DID) -> bool:
        try:
            receiver.context.require(receiver.did, sender.id, receiver.id, caps, origin=origin)
        except NotAuthorized:
            return False
        return True


@pytest.fixture
def world() -> World:
    return World()


def blob_of(*tokens: Token) -> bytes:
    return encode_token_list(TokenList.of(*tokens))


# input ----------------------------------------------------------------------------------------------------------------


def test_nobody_is_trusted_to_begin_with(world: World) -> None:
    world.arrives(world.peer, world.node, world.send(world.peer, world.node, A))
    assert not world.allowed(world.peer, world.node, A)


def test_a_root_may_do_everything(world: World) -> None:
    world.node.context.add_roots([world.peer.did])
    world.arrives(world.peer, world.node, world.send(world.peer, world.node, A))
    assert world.allowed(world.peer, world.node, A)
    assert world.allowed(world.peer, world.node, B, A), "any one of the capabilities is enough"
    assert not world.allowed(world.peer, world.node, B), "the token was for another capability"
    assert not world.allowed(world.peer, world.node), "no capability is no authority"
    assert not world.allowed(world.user, world.node, A)


def test_a_root_at_any_level_of_the_chain_counts_for_what_it_granted_only(world: World) -> None:
    """Anchoring looks at no position: what lies below a trusted issuer is narrower than what it signed."""
    world.node.context.add_roots([world.user.did])
    chain = world.user.issue(world.peer, "/a", parent=world.org.issue(world.user, "/a", "/b"))
    invoke = world.peer.issue(world.peer, "/a", act=Action.INVOKE, audience=world.node.did, parent=chain)
    world.arrives(world.peer, world.node, blob_of(invoke))
    assert world.allowed(world.peer, world.node, A)
    wider = world.peer.issue(world.peer, "/b", act=Action.INVOKE, audience=world.node.did, parent=chain)
    world.arrives(world.peer, world.node, blob_of(wider))
    assert not world.allowed(world.peer, world.node, B)


def test_a_side_chain_admits_what_passes_through_its_subject(world: World) -> None:
    world.node.context.add_roots(require=TokenList.of(world.node.issue(world.org, "/a")))
    world.peer.context.add_roots(provide=TokenList.of(world.org.issue(world.peer, "/")))
    world.arrives(world.peer, world.node, world.send(world.peer, world.node, A))
    assert world.allowed(world.peer, world.node, A)
    world.arrives(world.peer, world.node, world.send(world.peer, world.node, B))
    assert not world.allowed(world.peer, world.node, B)


def test_an_own_grant_is_authority(world: World) -> None:
    world.peer.context.add_roots(provide=TokenList.of(world.node.issue(world.peer, "/a", depth=1)))
    world.arrives(world.peer, world.node, world.send(world.peer, world.node, A))
    assert world.allowed(world.peer, world.node, A)


def test_a_reply_rests_on_what_came_with_the_request(world: World) -> None:
    world.node.context.add_roots([world.peer.did])
    request = world.send(world.peer, world.node, A, reply=(REPLY,))
    carried = world.arrives(world.peer, world.node, request)
    reply = world.send(world.node, world.peer, REPLY)
    world.arrives(world.node, world.peer, reply)
    assert world.allowed(world.node, world.peer, REPLY)
    assert not world.allowed(world.node, world.peer, A)
    levels = decode_token_list(reply).tokens[0].levels
    assert [level.iss for level in levels] == [world.node.did, world.peer.did]
    world.node.context.discard(carried)
    assert len(decode_token_list(world.send(world.node, world.peer, REPLY))) == 1, "only the self-signed one is left"


def test_broadcasts_are_authorised_by_topic(world: World) -> None:
    world.node.context.add_roots(require=TokenList.of(world.node.issue(world.org, "/a", topics=("/nunet",))))
    world.peer.context.add_roots(provide=TokenList.of(world.org.issue(world.peer, "/a", topics=("/nunet",))))
    blob = world.peer.context.provide_broadcast(world.peer.id, "/nunet/hello", SOON, [A])
    assert [t.body.topic for t in decode_token_list(blob).tokens] == [("/nunet/hello",)] * 2
    world.arrives(world.peer, world.node, blob)
    world.node.context.require_broadcast(world.node.did, world.peer.id, "/nunet/hello", [A])
    for topic, caps, hint in (
        ("/nunet", [A], "for the topics /nunet/hello, not for /nunet"),
        ("/nunet/hello", [B], "its tokens are for /a; needed is /b"),
        ("/nunet/hello", [], "needed is a capability"),
    ):
        with pytest.raises(NotAuthorized) as caught:
            world.node.context.require_broadcast(world.node.did, world.peer.id, topic, caps)
        assert hint in caught.value.hint
    assert not world.allowed(world.peer, world.node, A), "a broadcast token is not for invocations"
    elsewhere = world.peer.context.provide_broadcast(world.peer.id, "/other", SOON, [A])
    assert len(decode_token_list(elsewhere)) == 1


def test_forged_tokens_are_dropped_without_an_error(world: World) -> None:
    world.node.context.add_roots([world.org.did])
    real = world.org.issue(world.peer, "/a", act=Action.INVOKE)
    forged = real.json.replace(b'"/a"', b'"/"')
    world.arrives(world.peer, world.node, b'{"tok":[%b,null,{},{"dms":{"chain":{}}}]}' % forged)
    with pytest.raises(NotAuthorized) as caught:
        world.node.context.require(world.node.did, world.peer.id, world.node.id, [A])
    assert caught.value.message.startswith("not authorized")


def test_one_bad_token_does_not_cost_the_others(world: World) -> None:
    world.node.context.add_roots([world.org.did])
    good = world.org.issue(world.peer, "/a", act=Action.INVOKE)
    world.arrives(world.peer, world.node, b'{"tok":[null,%b,{}]}' % good.json)
    assert world.allowed(world.peer, world.node, A)


def test_blobs_that_are_no_lists_or_too_big_are_errors(world: World) -> None:
    with pytest.raises(BadToken):
        world.arrives(world.peer, world.node, b"{")
    with pytest.raises(BlobTooBig, match="capability blob too big"):
        world.arrives(world.peer, world.node, b" " * (MAX_BLOB_BYTES + 1))
    world.node.context.discard(world.arrives(world.peer, world.node, b""))


def test_only_tokens_for_the_sender_or_ourselves_are_kept(world: World) -> None:
    """Otherwise a stranger could fill our memory, or bring tokens that make somebody else look authorised."""
    world.node.context.add_roots([world.org.did])
    for_user = world.org.issue(world.user, "/a", act=Action.INVOKE)
    world.arrives(world.peer, world.node, blob_of(for_user))
    assert not world.allowed(world.user, world.node, A)
    world.node.context.consume(world.peer.did, blob_of(for_user))
    assert world.allowed(world.user, world.node, A), "without a sender nothing is left out"


def test_the_deciding_token_must_come_from_the_did_that_the_message_claims(world: World) -> None:
    world.node.context.add_roots([world.user.did])
    session = Party("session", clock=world.clock)
    token = world.user.issue(session, "/a", act=Action.INVOKE)
    world.arrives(session, world.node, blob_of(token))
    assert world.allowed(session, world.node, A, origin=world.user.did)
    assert world.allowed(session, world.node, A, origin=session.did)
    assert not world.allowed(session, world.node, A, origin=world.org.did)
    with pytest.raises(NotAuthorized) as caught:
        world.node.context.require(world.node.did, session.id, world.node.id, [A], origin=world.org.did)
    assert f"{world.org.did} did not issue the token" in caught.value.hint


def test_a_forged_token_of_the_claimed_did_binds_nothing(world: World) -> None:
    world.node.context.add_roots([world.peer.did])
    mine = world.peer.issue(world.peer, "/a", act=Action.INVOKE)
    forged = world.peer.issue(world.peer, "/a", act=Action.INVOKE).json.replace(
        str(world.peer.did).encode(), str(world.user.did).encode(), 1
    )
    world.arrives(world.peer, world.node, b'{"tok":[%b,%b]}' % (mine.json, forged))
    assert world.allowed(world.peer, world.node, A, origin=world.peer.did)
    assert not world.allowed(world.peer, world.node, A, origin=world.user.did)


def test_tokens_expire_while_they_are_held(world: World) -> None:
    world.node.context.add_roots([world.peer.did])
    world.arrives(world.peer, world.node, world.send(world.peer, world.node, A))
    assert world.allowed(world.peer, world.node, A)
    world.clock.advance(SOON - NOW_NS + EXTRA_LIFE_NS)
    assert world.allowed(world.peer, world.node, A)
    world.clock.advance(1)
    assert not world.allowed(world.peer, world.node, A)
    assert world.node.context.collect_garbage() == 1
    assert world.node.context.collect_garbage() == 0


def test_a_token_is_held_as_long_as_a_message_that_brought_it(world: World) -> None:
    world.node.context.add_roots([world.peer.did])
    blob = world.send(world.peer, world.node, A)
    first, second = (world.arrives(world.peer, world.node, blob) for _ in range(2))
    world.node.context.discard(first)
    world.node.context.discard(first)
    assert world.allowed(world.peer, world.node, A), "the second message is still being handled"
    world.node.context.discard(second)
    assert not world.allowed(world.peer, world.node, A)
    assert world.node.context.collect_garbage() == 0


def test_nobody_discards_the_tokens_of_another_sender(world: World) -> None:
    world.node.context.add_roots([world.peer.did])
    blob = world.send(world.peer, world.node, A, reply=(REPLY,))
    world.arrives(world.peer, world.node, blob)
    world.node.context.discard(world.arrives(world.user, world.node, blob))
    assert world.allowed(world.peer, world.node, A)
    assert len(decode_token_list(world.send(world.node, world.peer, REPLY))) == 2


def test_tokens_in_memory_are_bounded(world: World) -> None:
    world.node.context = CapabilityContext(
        "node", world.node.did, world.node.trust, clock_ns=world.clock, max_ephemeral=3
    )
    world.node.context.add_roots([world.peer.did])
    blobs = [world.send(world.peer, world.node, Capability(f"/{number}")) for number in range(5)]
    for blob in blobs:
        world.arrives(world.peer, world.node, blob)
    assert world.node.context.ephemeral_count == 3
    world.clock.advance(HOUR_NS)
    assert world.node.context.collect_garbage() == 3


def test_the_audience_is_the_actor_that_is_addressed(world: World) -> None:
    world.node.context.add_roots([world.peer.did])
    world.arrives(world.peer, world.node, world.send(world.peer, world.user, A))
    with pytest.raises(NotAuthorized) as caught:
        world.node.context.require(world.node.did, world.peer.id, world.node.id, [A])
    assert f"for use at {world.user.did}, not at {world.node.did}" in caught.value.hint


def test_denials_tell_what_is_missing(world: World) -> None:
    def hint_for(*caps: Capability) -> str:
        with pytest.raises(NotAuthorized) as caught:
            world.node.context.require(world.node.did, world.peer.id, world.node.id, caps)
        assert caught.value.exit_code == 3
        assert str(world.peer.did) in caught.value.message
        return caught.value.hint

    assert "no token" in hint_for(A)
    assert "side chain (require) of context 'node'" in hint_for(A)
    world.node.context.add_roots([world.peer.did])
    world.arrives(world.peer, world.node, blob_of(world.peer.issue(world.peer, "/a")))
    assert "none of its tokens is for invoke" in hint_for(A)
    world.arrives(world.peer, world.node, world.send(world.peer, world.node, B))
    assert "its tokens are for /b; needed is /a" in hint_for(A)
    world.arrives(world.peer, world.node, world.send(world.peer, world.node, A))
    assert world.allowed(world.peer, world.node, A)
    world.node.context.remove_roots([world.peer.did])
    hint = hint_for(A)
    assert f"the chain starts at {world.peer.did}" in hint
    assert "nunet cap anchor --context node --root DID" in hint


# anchors --------------------------------------------------------------------------------------------------------------


def test_anchors_are_listed_in_order_and_removed_one_by_one(world: World) -> None:
    context = world.node.context
    require, provide = world.node.issue(world.org, "/a"), world.user.issue(world.node, "/a")
    revocation = world.node.context.revoke(world.node.issue(world.user, "/a"))
    context.add_roots(
        [world.user.did, world.org.did, world.user.did],
        TokenList.of(require, require),
        TokenList.of(provide),
        TokenList.of(revocation),
    )
    assert context.list_roots() == (
        (world.user.did, world.org.did),
        TokenList.of(require),
        TokenList.of(provide),
        TokenList.of(revocation),
    )
    assert context.remove_roots([world.peer.did]) == 0
    assert context.remove_roots([world.user.did], TokenList.of(require)) == 2
    assert context.remove_roots((), NO_TOKENS, TokenList.of(provide), TokenList.of(revocation)) == 2
    assert context.list_roots() == ((world.org.did,), NO_TOKENS, NO_TOKENS, NO_TOKENS)


def test_adding_is_all_or_nothing(world: World) -> None:
    context = world.node.context
    good = TokenList.of(world.node.issue(world.org, "/a"))
    forged = TokenList(tok=decode_token_list(encode_token_list(good).replace(b'"/a"', b'"/"')).tok)
    victim = world.node.issue(world.user, "/a")
    with pytest.raises(SignatureFailed):
        context.add_roots([world.user.did], good, forged, TokenList.of(context.revoke(victim)))
    with pytest.raises(SignatureFailed):
        context.add_roots([world.user.did], TokenList.of(*good.tokens, *forged.tokens))
    assert context.list_roots() == ((), NO_TOKENS, NO_TOKENS, NO_TOKENS)


def test_anchors_that_could_never_be_of_use_are_refused(world: World) -> None:
    context, trust = world.node.context, world.node.issue
    invoke = TokenList.of(trust(world.org, "/a", act=Action.INVOKE))
    revocation = TokenList.of(context.revoke(trust(world.org, "/a")))
    null, empty = TokenList(tok=(None,)), TokenList.of(Token())
    for wrong in (invoke, revocation, null, empty):
        with pytest.raises(BadToken):
            context.add_roots(require=wrong)
        with pytest.raises(BadToken):
            context.add_roots(provide=wrong)
    for wrong in (invoke, null, empty, TokenList.of(trust(world.org, "/a"))):
        with pytest.raises(BadToken):
            context.add_roots(revoke=wrong)
    with pytest.raises(BadToken, match="must be given to") as caught:
        context.add_roots(provide=TokenList.of(world.org.issue(world.user, "/a")))
    assert str(world.user.did) in caught.value.hint
    with pytest.raises(CapabilityExpired):
        context.add_roots(require=TokenList.of(trust(world.org, "/a", expiry_ns=NOW_NS - 1)))
    for text in ("", "did:key", "x"):
        with pytest.raises(BadInput, match="invalid"):
            context.add_roots([DID(uri=text)])
    assert context.list_roots() == ((), NO_TOKENS, NO_TOKENS, NO_TOKENS)


def test_expired_anchors_are_neither_listed_nor_used_and_are_collected(world: World) -> None:
    context = world.node.context
    victim = world.node.issue(world.user, "/a")
    context.add_roots(
        (),
        TokenList.of(world.node.issue(world.peer, "/a")),
        TokenList.of(world.org.issue(world.node, "/a")),
        TokenList.of(context.revoke(victim)),
    )
    far = EXP + HOUR_NS
    long_lived = world.peer.issue(world.peer, "/a", act=Action.INVOKE, expiry_ns=EXP)
    world.arrives(world.peer, world.node, blob_of(long_lived))
    assert world.allowed(world.peer, world.node, A)
    world.clock.advance(HOUR_NS + 1)
    assert context.list_roots() == ((), NO_TOKENS, NO_TOKENS, NO_TOKENS)
    world.arrives(world.peer, world.node, blob_of(world.peer.issue(world.peer, "/a", act=Action.INVOKE, expiry_ns=far)))
    assert not world.allowed(world.peer, world.node, A)
    assert len(decode_token_list(world.send(world.node, world.user, A))) == 1
    assert context.collect_garbage() == 4


# revocation -----------------------------------------------------------------------------------------------------------


def test_a_revocation_takes_effect_at_once_everywhere(world: World) -> None:
    node = world.node.context
    grant = world.org.issue(world.peer, "/a")
    passed = world.peer.issue(world.user, "/a", parent=grant)
    node.add_roots([world.org.did], TokenList.of(world.node.issue(world.org, "/a")))
    world.peer.context.add_roots(provide=TokenList.of(grant))
    world.user.context.add_roots(provide=TokenList.of(passed))
    for sender in (world.peer, world.user):
        world.arrives(sender, world.node, world.send(sender, world.node, A))
        assert world.allowed(sender, world.node, A)
    revocation = TokenList.of(world.org.context.revoke(grant))
    for party in (world.node, world.peer, world.user):
        party.context.add_roots(revoke=revocation)
    for sender in (world.peer, world.user):
        assert not world.allowed(sender, world.node, A), "already admitted tokens are gone"
        assert sender.context.list_roots()[2] == NO_TOKENS
        world.arrives(sender, world.node, blob_of(world.peer.issue(sender, "/a", act=Action.INVOKE, parent=grant)))
        assert not world.allowed(sender, world.node, A)
    with pytest.raises(NotAuthorized, match="revoked"):
        world.user.context.add_roots(provide=TokenList.of(passed))


def test_a_revocation_spares_other_tokens_of_the_same_parties(world: World) -> None:
    world.node.context.add_roots([world.org.did])
    one, two = (world.org.issue(world.peer, "/a", act=Action.INVOKE) for _ in range(2))
    world.node.context.add_roots(revoke=TokenList.of(world.org.context.revoke(one)))
    world.arrives(world.peer, world.node, blob_of(one))
    assert not world.allowed(world.peer, world.node, A)
    world.arrives(world.peer, world.node, blob_of(two))
    assert world.allowed(world.peer, world.node, A)


def test_revocations_by_others_have_no_effect(world: World) -> None:
    world.node.context.add_roots([world.org.did])
    token = world.org.issue(world.peer, "/a", act=Action.INVOKE)
    with pytest.raises(NotAuthorized, match="only the issuer"):
        world.user.context.revoke(token)
    claimed = issue(world.user.provider, Action.REVOKE, world.peer.did, NO_DID, (), ["/a"], EXP, nonce=token.key.nonce)
    world.node.context.add_roots(revoke=TokenList.of(claimed))
    world.arrives(world.peer, world.node, blob_of(token))
    assert world.allowed(world.peer, world.node, A)


def test_revocations_in_messages_are_not_kept(world: World) -> None:
    world.node.context.add_roots([world.org.did])
    revocation = world.org.context.revoke(world.org.issue(world.peer, "/a"))
    world.arrives(world.peer, world.node, blob_of(revocation))
    world.clock.advance(2 * HOUR_NS)
    assert world.node.context.collect_garbage() == 0


def test_one_issuer_cannot_fill_the_memory_with_revocations(world: World) -> None:
    context = CapabilityContext(
        "node", world.node.did, world.node.trust, clock_ns=world.clock, max_revocations_per_issuer=2
    )
    for party in (world.org, world.org, world.peer):
        context.add_roots(revoke=TokenList.of(party.context.revoke(party.issue(world.user, "/a"))))
    with pytest.raises(TooManyRevocations):
        context.add_roots(revoke=TokenList.of(world.org.context.revoke(world.org.issue(world.user, "/a"))))
    assert len(context.list_roots()[3]) == 3


# output ---------------------------------------------------------------------------------------------------------------


def test_a_message_carries_chains_then_a_self_signed_token_then_the_reply_delegation(world: World) -> None:
    world.user.context.add_roots(
        provide=TokenList.of(world.org.issue(world.user, "/a"), world.peer.issue(world.user, "/b"))
    )
    tokens = decode_token_list(world.send(world.user, world.node, A, reply=(REPLY,))).tokens
    assert [(t.body.act, len(t.levels)) for t in tokens] == [("invoke", 2), ("invoke", 1), ("delegate", 1)]
    for token in tokens:
        verify(token, TrustContext(), NOW_NS)
        assert token.body.exp == SOON + (EXTRA_LIFE_NS if token.body.act == Action.INVOKE else 0)
        assert token.body.iss == world.user.did
        assert len(token.key.nonce) == 12
    chained, own, reply = (token.body for token in tokens)
    for body in (chained, own):
        assert (body.sub, body.aud, body.cap, body.topic) == (world.user.did, world.node.did, ("/a",), ())
    assert (reply.sub, reply.aud, reply.cap, reply.depth) == (
        world.node.did,
        world.user.did,
        ("/dms/actor/replyto/1",),
        1,
    )
    assert len({token.key.nonce for token in tokens}) == 3


def test_chains_that_end_before_the_message_are_left_out(world: World) -> None:
    world.user.context.add_roots(provide=TokenList.of(world.org.issue(world.user, "/a", expiry_ns=SOON - 1)))
    assert len(decode_token_list(world.send(world.user, world.node, A))) == 1


def test_a_message_never_exceeds_the_limit_however_many_anchors_there_are(world: World) -> None:
    anchors = [
        Party(f"org{n}", clock=world.clock).issue(world.user, "/a", *(f"/{n}/{'x' * 50}/{m}" for m in range(20)))
        for n in range(12)
    ]
    world.user.context.add_roots(provide=TokenList.of(*anchors))
    blob = world.send(world.user, world.node, A, reply=(REPLY,))
    assert MAX_BLOB_BYTES - 3000 < len(blob) <= MAX_BLOB_BYTES
    acts = [(t.body.act, len(t.levels)) for t in decode_token_list(blob).tokens]
    assert acts[-2:] == [("invoke", 1), ("delegate", 1)]
    assert 5 < len(acts) < 14


def test_messages_without_a_capability_are_refused(world: World) -> None:
    with pytest.raises(NotAuthorized):
        world.send(world.user, world.node)
    with pytest.raises(NotAuthorized):
        world.user.context.provide_broadcast(world.user.id, "/t", SOON, [])
    with pytest.raises(InvalidKey):
        world.user.context.provide(world.node.did, world.user.id, ActorID(pub=""), SOON, [A])


def test_delegation_needs_an_anchor_for_every_capability(world: World) -> None:
    context = world.user.context
    parent = world.org.issue(world.user, "/a", "/b", topics=("/t",), depth=2, expiry_ns=EXP)
    context.add_roots(provide=TokenList.of(parent))
    tokens = context.delegate(world.node.did, NO_DID, ("/t/x",), SOON, 1, [A, B]).tokens
    assert [t.levels[1] for t in tokens] == [parent.body]
    body = tokens[0].body
    assert (body.act, body.sub, body.topic, body.exp, body.depth) == ("delegate", world.node.did, ("/t/x",), SOON, 1)
    verify(tokens[0], TrustContext(), NOW_NS)
    for topics, expiry_ns, caps in (
        (("/u",), SOON, [A]),
        ((), EXP + 1, [A]),
        ((), SOON, [A, Capability("/c")]),
    ):
        with pytest.raises(NotAuthorized, match="no provide anchor of context 'user'"):
            context.delegate(world.node.did, NO_DID, topics, expiry_ns, 0, caps)
    assert context.delegate(world.node.did, NO_DID, (), SOON, 0, []) == NO_TOKENS


def test_expiry_zero_takes_that_of_the_anchor(world: World) -> None:
    world.user.context.add_roots(provide=TokenList.of(world.org.issue(world.user, "/a", expiry_ns=EXP - 5)))
    assert world.user.context.delegate(world.node.did, NO_DID, (), 0, 0, [A]).tokens[0].body.exp == EXP - 5


def test_depth_one_cannot_be_passed_on(world: World) -> None:
    world.user.context.add_roots(provide=TokenList.of(world.org.issue(world.user, "/a", depth=1)))
    with pytest.raises(NotAuthorized):
        world.user.context.delegate(world.node.did, NO_DID, (), SOON, 0, [A])
    assert len(decode_token_list(world.send(world.user, world.node, A))) == 2, "but it can be used"


def test_self_sign_modes(world: World) -> None:
    context = world.user.context
    context.add_roots(provide=TokenList.of(world.org.issue(world.user, "/a")))

    def levels(mode: SelfSign) -> list[int]:
        return [len(t.levels) for t in context.delegate(world.node.did, NO_DID, (), SOON, 0, [A], mode).tokens]

    assert levels(SelfSign.NO) == [2]
    assert levels(SelfSign.ALSO) == [2, 1]
    assert levels(SelfSign.ONLY) == [1]
    assert [SelfSign.parse(text) for text in ("no", "also", "only")] == list(SelfSign)
    with pytest.raises(BadInput, match="invalid self-sign option: maybe"):
        SelfSign.parse("maybe")


def test_a_grant_is_what_was_asked_for(world: World) -> None:
    token = world.node.context.grant(Action.DELEGATE, world.org.did, world.user.did, ["/t"], EXP, 3, [A]).tokens[0]
    verify(token, TrustContext(), NOW_NS)
    body = token.body
    assert (body.iss, body.sub, body.aud, body.topic, body.cap) == (
        world.node.did,
        world.org.did,
        world.user.did,
        ("/t",),
        ("/a",),
    )
    assert (body.exp, body.depth, body.chain) == (EXP, 3, None)
    with pytest.raises(BadToken):
        world.node.context.grant(Action.DELEGATE, world.org.did, NO_DID, (), EXP, 0, [])


def test_a_context_whose_key_is_not_open_issues_nothing(world: World) -> None:
    locked = CapabilityContext("locked", world.node.did, TrustContext(), clock_ns=world.clock)
    locked.add_roots([world.org.did])
    with pytest.raises(NoProvider):
        locked.grant(Action.DELEGATE, world.org.did, NO_DID, (), EXP, 0, [A])


def test_adversarial_lists_cost_no_more_than_their_size(world: World) -> None:
    """Sixteen kilobytes of slashes, of capabilities and of levels are each answered, not chewed on."""
    world.node.context.add_roots([world.org.did])
    slashes = world.org.issue(world.peer, "/" * 8000, act=Action.INVOKE)
    many = world.org.issue(world.peer, *(f"/{n}" for n in range(1500)), act=Action.INVOKE)
    deep = b'{"tok":[' + b'{"dms":{"chain":' * 900 + b"{}" + b"}}" * 900 + b"]}"
    for blob in (blob_of(slashes), blob_of(many), deep, b'{"tok":[' + b"{}," * 5000 + b"{}]}"):
        assert len(blob) <= MAX_BLOB_BYTES
        try:
            world.arrives(world.peer, world.node, blob)
        except BadToken:
            continue
        assert not world.allowed(world.peer, world.node, Capability("/a" + "/b" * 500))
