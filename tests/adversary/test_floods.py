"""Whoever sends too much harms himself only: others are served meanwhile, and afterwards nothing is left of it."""

from __future__ import annotations

import gc
import logging
import types
from collections import deque
from collections.abc import Iterable
from itertools import chain, cycle, islice

import pytest
import trio
from tests.adversary.attacker import ROOT_PROTOCOL, Json, Person, write_json
from tests.adversary.scene import TOPIC, Scene, Target, Wire, tokens_of
from trio.testing import MockClock

from dms.actor.behaviour import Message
from dms.actor.handle import handle_of_peer
from dms.actor.limiter import Limits
from dms.identity.ids import DID
from dms.types.errors import DMSError

NOTE, PING = "/public/note", "/public/ping"
FLOOD = 10_000
FRESH = 2_000
"""More than the rate of a peer admits in the time that a flood takes; those after them never get as far as the replay window."""
BURST, BURST_INTERVAL_S = 100, 0.008
CROWD = 800
REVOCATIONS = 4_500
AT_ONCE = 250
CALLS = 30
FORGOTTEN_S = 600.0
MARK = 1234567890123456789
LIMITS = Limits()
SLACK = 500
"""What may be left of a flood: explanations of the last denials, counters by name."""

_OPAQUE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.FrameType, logging.Logger)


def entries_of(root: object) -> int:
    """How many entries all collections have that can be reached from an object, our own modules' objects only."""
    gc.collect()
    seen, left, count = {id(root)}, [root], 0
    while left:
        one = left.pop()
        if isinstance(one, dict | list | set | deque):
            count += len(one)
        for other in gc.get_referents(one):
            if id(other) in seen or isinstance(other, _OPAQUE):
                continue
            if type(other).__module__.startswith(("trio", "dms.testing", "structlog", "logging", "tests")):
                continue
            seen.add(id(other))
            left.append(other)
    return count


async def _flood(wire: Wire, target: Target, messages: Iterable[bytes]) -> None:
    """Send as many at once as a greedy host would."""
    slots = trio.Semaphore(AT_ONCE)

    async def send(data: bytes) -> None:
        async with slots:
            await wire.network.send(target.person.peer, ROOT_PROTOCOL, data)

    async with trio.open_nursery() as nursery:
        for data in messages:
            nursery.start_soon(send, data)


async def _pour(scene: Scene, wire: Wire, target: Target, messages: list[bytes]) -> None:
    """The same without what sending costs here: bursts that fit into the slots of one peer, so that all of it arrives."""
    (door,) = [node for node in scene.network.nodes if node.peer_id == target.person.peer]
    for start in range(0, len(messages), BURST):
        for data in messages[start : start + BURST]:
            door.arrive(wire.person.peer, ROOT_PROTOCOL, data)
        await trio.sleep(BURST_INTERVAL_S)
    assert door.counters()["messages in"] >= len(messages)
    assert "messages dropped: too many at once" not in door.counters()


async def _call(caller: Target, target: Target, times: int) -> list[object]:
    """An honest node asks, again and again; what it was answered."""
    answers: list[object] = []
    handle = handle_of_peer(target.person.peer)
    for number in range(times):
        answers.append(await caller.actor.invoke(handle, PING, number, dict[str, int], timeout_s=10))
        await trio.sleep(0.003)
    return answers


async def _answered_during(
    scene: Scene, victim: Target, wire: Wire, messages: list[bytes], *, is_poured: bool = False
) -> None:
    """Both at once; every single call of the honest node must succeed, and also afterwards."""
    expected = [{"echo": number} for number in range(CALLS)]
    async with scene.node("honest") as honest:
        answers: list[object] = []

        async def keep_calling() -> None:
            answers.extend(await _call(honest, victim, CALLS))

        async with trio.open_nursery() as nursery:
            if is_poured:
                nursery.start_soon(_pour, scene, wire, victim, messages)
            else:
                nursery.start_soon(_flood, wire, victim, messages)
            nursery.start_soon(keep_calling)
        assert answers == expected
        assert await _call(honest, victim, 1) == expected[:1]


def _with_nonce(sender: Person, message: Json, nonce: int) -> bytes:
    """The same as signing anew, without writing most of it anew."""
    text = write_json(message).replace(b"%d" % MARK, b"%d" % nonce)
    return b'%b,"sig":%b}' % (text[:-1], write_json(sender.key.sign(b"dms:msg:" + text)))


async def _hang(message: Message[object]) -> None:
    await trio.sleep(20)


async def test_ten_thousand_messages_of_one_peer_must_not_keep_another_from_being_served(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """As many as could be admitted are signed, new and authorised; each keeps a handler busy for as long as it can."""
    await trio.sleep(1)
    before = entries_of(victim.actor)
    victim.actor.on(NOTE, _hang)
    thief, tokens = mallory.person, [scene.invocation(mallory.person, NOTE)]
    one = scene.request(thief, victim.handle, tokens=tokens, nonce=MARK)
    fresh = [_with_nonce(thief, one, number) for number in range(1, FRESH + 1)]
    messages = list(islice(chain(fresh, cycle(fresh[FRESH // 2 :])), FLOOD))
    await _answered_during(scene, victim, mallory, messages, is_poured=True)
    counters = victim.actor.counters
    assert 0 < counters["dispatched"] <= LIMITS.per_host + CALLS + 1
    assert counters["dropped.rate_limited"] == FLOOD + CALLS + 1 - counters["dispatched"]
    await trio.sleep(FORGOTTEN_S)
    async with scene.node("last") as last:  # what has expired is forgotten when the next one comes
        assert await _call(last, victim, 1) == [{"echo": 0}]
    assert entries_of(victim.actor) < before + SLACK


async def test_many_keys_of_one_peer_must_not_count_as_many_peers(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """Keys cost nothing; whoever is a member can authorise as many as he likes."""
    await trio.sleep(1)
    before = entries_of(victim.actor)
    victim.actor.on(NOTE, _hang)
    thief, messages = mallory.person, []
    chain = scene.membership(thief)
    for number in range(CROWD):
        puppet = Person(f"puppet {number}")
        token = scene.invocation(thief, NOTE, subject=puppet.did, chain=chain)
        sender = puppet.handle(did=thief.did, host=thief.peer)
        messages.append(puppet.sign(scene.request(puppet, victim.handle, tokens=[token], sender=sender)))
    await _answered_during(scene, victim, mallory, messages)
    await trio.sleep(FORGOTTEN_S)
    async with scene.node("last") as last:
        assert await _call(last, victim, 1) == [{"echo": 0}]
    assert entries_of(victim.actor) < before + SLACK


async def test_strangers_must_not_leave_anything_in_memory(
    autojump_clock: MockClock, scene: Scene, victim: Target
) -> None:
    """Well-formed, signed, each with a key, a DID and a capability of its own, but without authority."""
    await trio.sleep(1)
    async with scene.wire("stranger") as stranger:
        messages = []
        for number in range(CROWD):
            puppet = Person(f"stranger {number}")
            token = puppet.token("invoke", puppet.did, [f"/public/{number}"], exp=scene.exp())
            sender = puppet.handle(host=stranger.person.peer)
            message = scene.request(puppet, victim.handle, f"/public/{number}", tokens=[token], sender=sender)
            messages.append(puppet.sign(message))
        before = entries_of(victim.actor)
        await _flood(stranger, victim, messages)
        await trio.sleep(1)
        assert victim.handled == []
        assert entries_of(victim.actor) < before + SLACK, "at once, not only when they have expired"
        await _answered_during(scene, victim, stranger, messages)


async def test_garbage_of_one_peer_must_not_keep_another_from_being_served(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    honest = mallory.person.sign(scene.request(mallory.person, victim.handle))
    garbage = [
        b"\0",
        honest[:-2],
        b"{}",
        b"null",
        b"[" * 500,
        b'{"to":' * 200,
        honest.replace(b"a", b"b"),
        b"\xff" * 99,
    ]
    await _answered_during(scene, victim, mallory, garbage * (CROWD // len(garbage)))
    assert {behaviour for behaviour, _, _ in victim.handled} == {PING}


async def test_copies_of_one_message_must_not_be_more_than_one(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    copy = mallory.person.sign(scene.request(mallory.person, victim.handle))
    await _answered_during(scene, victim, mallory, [copy] * CROWD)
    assert [behaviour for behaviour, _, _ in victim.handled if behaviour == NOTE] == [NOTE]


async def test_a_flood_of_broadcasts_must_not_keep_anybody_from_being_served(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    await trio.sleep(1)
    before = entries_of(victim.actor)
    victim.actor.on("/broadcast/hello", _hang, topic=TOPIC)
    thief, member, exp = mallory.person, scene.membership(mallory.person), scene.exp()
    tokens = [thief.token("broadcast", thief.did, ["/broadcast/hello"], topics=[TOPIC], exp=exp, chain=member)]
    async with scene.node("honest") as honest:
        for _ in range(CROWD):
            await mallory.network.publish(TOPIC, thief.sign(scene.broadcast(thief, tokens=tokens)))
        assert len(await _call(honest, victim, CALLS)) == CALLS
    await trio.sleep(FORGOTTEN_S)
    async with scene.node("last") as last:
        assert await _call(last, victim, 1) == [{"echo": 0}]
    assert entries_of(victim.actor) < before + SLACK


@pytest.mark.parametrize("issuers", [1, REVOCATIONS])
async def test_a_flood_of_revocations_must_not_keep_an_honest_one_from_counting(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, issuers: int
) -> None:
    """By one issuer, or by as many as there are revocations: what they revoke does not even exist."""
    thief = mallory.person
    member = scene.membership(thief)
    message = thief.sign(scene.request(thief, victim.handle, tokens=[scene.invocation(thief, NOTE, chain=member)]))
    await mallory.send(victim, message)
    assert len(victim.handled) == 1
    people = [Person(f"revoker {number}") for number in range(issuers)]
    for start in range(0, REVOCATIONS, 250):
        flood = [
            people[number % issuers].token("revoke", Person("nobody").did, ["/"], exp=2**63)
            for number in range(start, start + 250)
        ]
        try:
            victim.context.add_roots(revoke=tokens_of(*flood))
        except DMSError:
            continue
    body = member["dms"]
    honest = scene.organisation.token("revoke", thief.did, body["cap"], exp=body["exp"], nonce=body["nonce"])
    victim.context.add_roots(revoke=tokens_of(honest))
    again = [scene.invocation(thief, NOTE, chain=member)]
    await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=again)))
    assert len(victim.handled) == 1
    if issuers == 1:
        assert len(victim.context.list_roots()[3]) < REVOCATIONS


async def test_a_flood_of_tokens_that_anybody_can_make_must_not_fill_the_context(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """Tokens that claim the node's own DID, a root or the organisation somewhere in their chain, with forged signatures."""
    thief = mallory.person
    before = entries_of(victim.context)
    for number in range(60):
        tokens = []
        for issuer in (victim.person.did, scene.user.did, scene.organisation.did):
            for subject in (thief.did, victim.person.did):
                members = Json(exp=2**63, issuer=issuer, nonce=b"%012d" % number)
                tokens += [thief.token("delegate", subject, [f"/{number}"], **members)]
        await mallory.send(
            victim, thief.sign(scene.request(thief, victim.handle, "/none", tokens=tokens)), settle=False
        )
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, NOTE, tokens=tokens)))
    assert victim.handled == []
    assert entries_of(victim.context) < before + SLACK
    assert DID(uri=thief.did) not in victim.context.list_roots()[0]


async def test_large_messages_must_not_pile_up(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """The largest that the network carries, with a payload that nobody asked for."""
    message = scene.request(mallory.person, victim.handle, payload=b'"' + b"x" * 700_000 + b'"')
    data = write_json(message | {"sig": b"\0" * 64})
    await _answered_during(scene, victim, mallory, [data] * 30)
    assert {behaviour for behaviour, _, _ in victim.handled} == {PING}
