"""A clock that is set wrong, on either side, opens nothing that was closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from tests.adversary.attacker import HOUR_NS, SECOND_NS
from tests.adversary.scene import Clock, Scene, Target, Wire, tokens_of
from trio.testing import MockClock

from dms.actor.behaviour import Message

NOTE = "/public/note"
MINUTE_NS = 60 * SECOND_NS


@asynccontextmanager
async def _jumpy(scene: Scene) -> AsyncIterator[Target]:
    async with scene.node("jumpy", clock=Clock()) as node:
        yield node


def _payloads(node: Target) -> list[object]:
    return [payload for _, _, payload in node.handled]


@pytest.mark.parametrize("jump_ns", [HOUR_NS, -HOUR_NS], ids=["forwards", "backwards"])
async def test_a_clock_that_jumps_an_hour_and_back_must_not_let_a_captured_message_in_again(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, jump_ns: int
) -> None:
    async with _jumpy(scene) as node:
        captured = alice.person.sign(scene.request(alice.person, node.handle, payload="captured"))
        await alice.send(node, captured)
        assert _payloads(node) == ["captured"]
        node.clock.offset_ns = jump_ns
        for number in range(3):  # others speak meanwhile, so that whatever has expired is forgotten
            now = scene.request(alice.person, node.handle, payload=number, exp=node.clock() + MINUTE_NS)
            await alice.send(node, alice.person.sign(now))
        await alice.send(node, captured)
        node.clock.offset_ns = 0
        await alice.send(node, captured)
        assert _payloads(node).count("captured") == 1


async def test_a_clock_set_back_an_hour_must_not_let_yesterdays_messages_in_again(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire
) -> None:
    """They were handled, expired and were forgotten; now they look valid for an hour."""
    async with _jumpy(scene) as node:
        captured = [alice.person.sign(scene.request(alice.person, node.handle, payload=n)) for n in range(3)]
        for one in captured:
            await alice.send(node, one)
        assert _payloads(node) == [0, 1, 2]
        await trio.sleep(600)
        later = scene.request(alice.person, node.handle, payload="later", exp=scene.exp())
        await alice.send(node, alice.person.sign(later))
        node.clock.offset_ns = -HOUR_NS
        for one in captured:
            await alice.send(node, one)
        assert _payloads(node) == [0, 1, 2, "later"]


async def test_a_clock_an_hour_ahead_must_not_take_what_has_expired_for_valid(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire
) -> None:
    """It refuses honest messages of thirty seconds instead, until it is set right; then all is well again."""
    async with _jumpy(scene) as node:
        node.clock.offset_ns = HOUR_NS
        await alice.send(node, alice.person.sign(scene.request(alice.person, node.handle, payload="fresh")))
        assert _payloads(node) == []
        node.clock.offset_ns = 0
        await alice.send(node, alice.person.sign(scene.request(alice.person, node.handle, payload="again")))
        assert _payloads(node) == ["again"]


async def test_expired_tokens_must_not_count_however_fresh_the_message(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    past, future = scene.exp(-1), scene.exp(60)
    lists = [
        [scene.invocation(thief, NOTE, exp=past)],
        [scene.invocation(thief, NOTE, exp=past, chain=scene.membership(thief, exp=past))],
        [scene.invocation(thief, NOTE, exp=future, chain=scene.membership(thief, exp=past))],
        [scene.invocation(thief, NOTE, exp=0)],
        [scene.invocation(thief, NOTE, exp=0, chain=scene.membership(thief, exp=0))],
    ]
    for tokens in lists:
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
    assert victim.handled == []


async def test_a_token_must_not_be_used_after_its_time_although_it_was_verified_before(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    chain = scene.membership(thief, exp=scene.exp(10))
    tokens = [scene.invocation(thief, NOTE, exp=scene.exp(10), chain=chain)]
    await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
    assert len(victim.handled) == 1
    await trio.sleep(15)
    await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
    assert len(victim.handled) == 1


@pytest.mark.parametrize("end", ["expiry", "revocation"])
async def test_a_token_must_not_count_after_its_end_although_another_message_with_it_is_still_being_handled(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, end: str
) -> None:
    """Then it is still held, and known to be well signed."""

    async def hang(message: Message[object]) -> None:
        await trio.sleep(60)

    victim.actor.on("/public/ping", hang)
    thief, exp = mallory.person, scene.exp(10 if end == "expiry" else 300)
    chain = scene.membership(thief, exp=exp)
    tokens = [scene.invocation(thief, "/public", exp=exp, chain=chain)]
    for behaviour in ("/public/ping", NOTE):
        message = scene.request(thief, victim.handle, behaviour, tokens=tokens, exp=scene.exp(100))
        await mallory.send(victim, thief.sign(message))
    assert len(victim.handled) == 1
    if end == "expiry":
        await trio.sleep(15)
    else:
        body = chain["dms"]
        revocation = scene.organisation.token("revoke", thief.did, body["cap"], exp=body["exp"], nonce=body["nonce"])
        victim.context.add_roots(revoke=tokens_of(revocation))
    await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
    assert len(victim.handled) == 1


async def test_an_expired_message_must_not_be_handled(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    tokens = [scene.invocation(thief, NOTE, exp=scene.exp(300))]
    for seconds in (0, -1, -3600):
        message = thief.sign(scene.request(thief, victim.handle, tokens=tokens, exp=scene.exp(seconds)))
        await mallory.send(victim, message)
    late = thief.sign(scene.request(thief, victim.handle, tokens=tokens, exp=scene.exp(10)))
    await trio.sleep(11)
    await mallory.send(victim, late)
    assert victim.handled == []


async def test_a_token_must_not_outlive_what_it_rests_on(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """By a nanosecond; at the first level and in the middle (the time window of a delegation not inside its proof)."""
    thief, exp = mallory.person, scene.exp()
    member = scene.membership(thief, exp=exp)
    wide = thief.token("delegate", thief.did, [NOTE], exp=exp + 1, chain=member)
    fits = thief.token("delegate", thief.did, [NOTE], exp=exp, chain=member)
    lists = [
        [thief.token("invoke", thief.did, [NOTE], exp=exp + 1, chain=member)],
        [thief.token("invoke", thief.did, [NOTE], exp=exp, chain=wide)],
        [thief.token("invoke", thief.did, [NOTE], exp=2**64 - 1, chain=fits)],
    ]
    for tokens in lists:
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
    assert victim.handled == []
    good = [thief.token("invoke", thief.did, [NOTE], exp=exp, chain=fits)]
    await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=good)))
    assert len(victim.handled) == 1


@pytest.mark.parametrize("lifetime_s", [25 * 3600, 10**6, 10**9])
async def test_a_message_must_not_live_longer_than_a_day(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, lifetime_s: int
) -> None:
    thief, exp = mallory.person, scene.exp(lifetime_s)
    chain = scene.membership(thief, exp=exp)
    tokens = [thief.token("invoke", thief.did, [NOTE], exp=exp, chain=chain)]
    await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens, exp=exp)))
    assert victim.handled == []
