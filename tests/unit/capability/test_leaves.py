"""Tokens of messages are used again, for a while, and never beyond what they rest on."""

from __future__ import annotations

import pytest

from dms.capability.context import CapabilityContext
from dms.capability.leaves import EXTRA_LIFE_NS, LeafKey, Leaves, expiry_of_leaf
from dms.capability.token import Action, Token, TokenList, decode_token_list
from dms.identity.ids import DID, NO_DID
from dms.identity.trust import Anchor, TrustContext
from dms.testing.parties import HOUR_NS, NOW_NS, Party, StoppedClock
from dms.types.ids import Capability

SECOND_NS = 10**9
LIFE_NS = 30 * SECOND_NS
A, B, REPLY = Capability("/a"), Capability("/b"), Capability("/dms/actor/replyto/1")


class World:
    def __init__(self) -> None:
        self.clock = StoppedClock()
        self.node, self.user, self.org = (Party(name, clock=self.clock) for name in ("node", "user", "org"))
        self.user.context.add_roots(provide=TokenList.of(self.org.issue(self.user, "/", topics=("/t",))))

    def tokens(self, cap: Capability = A, *, life_ns: int = LIFE_NS, reply: tuple[Capability, ...] = ()) -> list[Token]:
        blob = self.user.context.provide(
            self.node.did, self.user.id, self.node.id, self.clock() + life_ns, [cap], list(reply)
        )
        return list(decode_token_list(blob).tokens)


@pytest.fixture
def world() -> World:
    return World()


def test_messages_of_the_same_kind_carry_the_same_tokens(world: World) -> None:
    first = world.tokens()
    world.clock.advance(SECOND_NS)
    assert world.tokens() == first
    assert world.tokens(B) != first
    assert [token.body.exp for token in first] == [NOW_NS + LIFE_NS + EXTRA_LIFE_NS] * 2


def test_broadcasts_carry_the_same_tokens_too(world: World) -> None:
    def tokens(topic: str) -> bytes:
        return world.user.context.provide_broadcast(world.user.id, topic, world.clock() + LIFE_NS, [A])

    assert tokens("/t") == tokens("/t")
    assert tokens("/t") != tokens("/t/u")


def test_a_token_is_used_until_half_of_its_life_is_over(world: World) -> None:
    first = world.tokens()
    world.clock.advance((LIFE_NS + EXTRA_LIFE_NS) // 2)
    assert world.tokens() == first
    world.clock.advance(1)
    assert world.tokens() != first


def test_a_token_is_never_used_for_a_message_that_outlives_it(world: World) -> None:
    first = world.tokens()
    later = world.tokens(life_ns=LIFE_NS + EXTRA_LIFE_NS + 1)
    assert later != first
    assert all(token.body.exp >= NOW_NS + LIFE_NS + EXTRA_LIFE_NS + 1 for token in later)


def test_a_short_message_does_not_carry_a_token_for_a_long_one(world: World) -> None:
    """The extra life is bounded, whatever else was sent before."""
    world.tokens(life_ns=HOUR_NS // 2)
    assert all(token.body.exp <= NOW_NS + LIFE_NS + EXTRA_LIFE_NS for token in world.tokens())


def test_no_token_lives_longer_than_what_it_rests_on(world: World) -> None:
    world.clock.advance(HOUR_NS - LIFE_NS - SECOND_NS)
    chained, own = world.tokens()
    assert chained.body.exp == chained.levels[1].exp == NOW_NS + HOUR_NS
    assert own.body.exp == world.clock() + LIFE_NS + EXTRA_LIFE_NS


def test_after_the_clock_was_set_back_tokens_are_issued_anew(world: World) -> None:
    first = world.tokens()
    world.clock.advance(-SECOND_NS)
    assert world.tokens() != first


def test_changed_anchors_and_revocations_end_the_use_of_tokens(world: World) -> None:
    context = world.user.context
    grant = context.list_roots()[2].tokens[0]
    first = world.tokens()
    context.add_roots([world.node.did])
    second = world.tokens()
    assert second != first
    context.remove_roots([world.node.did])
    assert world.tokens() != second
    context.add_roots(revoke=TokenList.of(world.org.context.revoke(grant)))
    assert [len(token.levels) for token in world.tokens()] == [1]


def test_delegations_for_replies_are_new_in_every_message(world: World) -> None:
    first, second = world.tokens(reply=(REPLY,)), world.tokens(reply=(REPLY,))
    assert first[:-1] == second[:-1]
    assert first[-1] != second[-1]
    assert first[-1].body.exp == NOW_NS + LIFE_NS


def test_replies_use_nothing_again_and_live_as_long_as_their_message(world: World) -> None:
    world.node.context.add_roots([world.user.did])
    request = world.user.context.provide(world.node.did, world.user.id, world.node.id, NOW_NS + LIFE_NS, [A], [REPLY])
    world.node.context.consume(world.user.did, request, sender=world.user.id)

    def reply() -> list[Token]:
        blob = world.node.context.provide(world.user.did, world.node.id, world.user.id, NOW_NS + LIFE_NS, [REPLY])
        return list(decode_token_list(blob).tokens)

    first = reply()
    assert [token.body.exp for token in first] == [NOW_NS + LIFE_NS] * 2
    assert not set(first) & set(reply())


def test_a_receiver_verifies_tokens_that_come_again_twice_at_most(world: World) -> None:
    issuers: list[DID] = []

    class CountingTrust(TrustContext):
        def anchor(self, did: DID) -> Anchor:
            issuers.append(did)
            return super().anchor(did)

    node = CapabilityContext("node", world.node.did, CountingTrust(), clock_ns=world.clock)
    node.add_roots([world.org.did])
    counts = []
    for number in range(6):
        blob = world.user.context.provide(
            world.node.did,
            world.user.id,
            world.node.id,
            world.clock() + LIFE_NS,
            [A],
            [Capability(f"/dms/actor/replyto/{number}")],
        )
        carried = node.consume(world.user.did, blob, sender=world.user.id)
        node.require(world.node.did, world.user.id, world.node.id, [A], origin=world.user.did)
        node.discard(carried)
        counts.append(len(issuers))
    assert counts == [2, 3, 3, 3, 3, 3]


def test_the_number_of_kept_tokens_is_bounded() -> None:
    leaves, org, user = Leaves(max_bunches=2), Party("org"), Party("user")

    def get(cap: str) -> Token:
        key = LeafKey(Action.INVOKE, user.did, NO_DID, (), (cap,))
        return leaves.get(key, NOW_NS, NOW_NS + 5, lambda: [org.issue(user, cap, expiry_ns=NOW_NS + 9)]).tokens[0]

    one, two = get("/1"), get("/2")
    assert get("/1") is one
    get("/3")
    assert get("/1") is one
    assert get("/2") is not two
    assert len(leaves) == 2
    leaves.collect_garbage(NOW_NS + 10)
    assert len(leaves) == 0


def test_a_token_lives_longer_than_its_message_but_not_than_what_it_rests_on() -> None:
    assert expiry_of_leaf(5, 9) == 9
    assert expiry_of_leaf(5, 5 + 2 * EXTRA_LIFE_NS) == 5 + EXTRA_LIFE_NS
