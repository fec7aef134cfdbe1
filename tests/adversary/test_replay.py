"""What was captured is worth nothing: not here, not elsewhere, not later, and no reply goes to who did not ask."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import trio
from tests.adversary.attacker import ROOT_PROTOCOL, Json, Person
from tests.adversary.scene import TOPIC, Scene, Target, Wire
from trio.testing import MockClock

from dms.actor.handle import handle_of_peer
from dms.testing.clock import ThreadsFirst

NOTE = "/public/note"


async def test_a_captured_message_must_not_be_handled_again(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    """Neither from its own host (somebody else's process there) nor from another."""
    captured = alice.person.sign(scene.request(alice.person, victim.handle))
    for wire in (alice, alice, mallory):
        await wire.send(victim, captured)
    assert len(victim.handled) == 1
    await trio.sleep(40)
    await alice.send(victim, captured)
    assert len(victim.handled) == 1


async def test_copies_of_a_message_that_arrive_together_must_not_be_handled_twice(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire
) -> None:
    captured = alice.person.sign(scene.request(alice.person, victim.handle))
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(alice.network.send, victim.person.peer, ROOT_PROTOCOL, captured)
    await trio.sleep(1)
    assert len(victim.handled) == 1


async def test_a_captured_message_written_differently_must_not_be_handled_again(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire
) -> None:
    """The signature covers what was meant, so the same meaning can be written in many ways; it is the same message."""
    captured = alice.person.sign(scene.request(alice.person, victim.handle))
    await alice.send(victim, captured)
    assert len(victim.handled) == 1
    loaded = json.loads(captured)
    for rewritten in (
        captured + b"\n",
        json.dumps(loaded, indent=1).encode(),
        json.dumps(dict(reversed(loaded.items()))).encode(),
        captured.replace(b'"nonce"', b'"NONCE"'),
        captured.replace(b'{"to"', b'{"unknown":1,"to"', 1),
        captured.replace(b'"be"', b'"be":"/public/ping","be"', 1),
    ):
        assert rewritten != captured
        await alice.send(victim, rewritten)
    assert len(victim.handled) == 1


async def test_a_captured_message_must_not_be_handled_by_another_node(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    captured = alice.person.sign(scene.request(alice.person, victim.handle))
    async with scene.node("second") as second:
        for wire in (alice, mallory):
            await wire.send(second, captured)
        assert second.handled == []
        await alice.send(second, alice.person.sign(scene.request(alice.person, second.handle)))
        assert len(second.handled) == 1


async def test_a_captured_message_must_not_be_handled_again_after_the_node_was_restarted(
    autojump_clock: MockClock, scene: Scene, tmp_path: Path
) -> None:
    trio.lowlevel.add_instrument(ThreadsFirst())
    async with scene.wire("alice") as alice:
        async with scene.node("victim", directory=tmp_path) as victim:
            captured = alice.person.sign(scene.request(alice.person, victim.handle, exp=scene.exp(300)))
            await alice.send(victim, captured)
            assert len(victim.handled) == 1
        async with scene.node("victim", directory=tmp_path) as restarted:
            await alice.send(restarted, captured)
            assert restarted.handled == []
            await trio.sleep(3)
            fresh = alice.person.sign(scene.request(alice.person, restarted.handle))
            await alice.send(restarted, fresh)
            assert len(restarted.handled) == 1


async def test_a_captured_broadcast_must_not_be_handled_again(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    await trio.sleep(1)
    captured = alice.person.sign(scene.broadcast(alice.person))
    for wire in (alice, alice, mallory):
        await wire.network.publish(TOPIC, captured)
        await trio.sleep(1)
    assert len(victim.handled) == 1


async def test_a_broadcast_must_not_be_published_by_a_host_that_it_does_not_name(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    """Else a captured one could be published anew where it was not heard yet."""
    await trio.sleep(1)
    captured = alice.person.sign(scene.broadcast(alice.person))
    await mallory.network.publish(TOPIC, captured)
    await trio.sleep(1)
    assert victim.handled == []
    await alice.network.publish(TOPIC, captured)
    await trio.sleep(1)
    assert len(victim.handled) == 1


async def test_a_broadcast_must_not_make_all_who_hear_it_answer_a_third_party(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    """One message in, as many replies as there are nodes to somebody who never asked."""
    victim.listen("/broadcast/hello", topic=TOPIC, answers=True)
    await trio.sleep(1)
    thief = mallory.person
    sender = thief.handle(host=alice.person.peer)
    await mallory.network.publish(TOPIC, thief.sign(scene.broadcast(thief, sender=sender, reply_to="/public/x")))
    await trio.sleep(1)
    assert alice.received == []
    await mallory.network.publish(TOPIC, thief.sign(scene.broadcast(thief, reply_to="/public/x")))
    await trio.sleep(1)
    assert len(mallory.received) == 1


async def test_a_broadcast_must_not_be_delivered_on_another_topic_or_as_a_message_to_one(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    await victim.actor.subscribe("/nunet/other")
    await trio.sleep(1)
    thief = mallory.person
    await mallory.network.publish("/nunet/other", thief.sign(scene.broadcast(thief)))
    await mallory.send(victim, thief.sign(scene.broadcast(thief)))
    addressed = scene.broadcast(thief) | {"to": victim.handle}
    await mallory.send(victim, thief.sign(addressed))
    await mallory.network.publish(TOPIC, thief.sign(addressed))
    await mallory.network.publish(TOPIC, thief.sign(scene.request(thief, victim.handle)))
    await trio.sleep(1)
    assert victim.handled == []


async def test_a_broadcast_must_not_reach_a_behaviour_that_listens_to_no_topic_or_to_another(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """With tokens that would allow it: a member may use the capability, and the topic."""
    victim.listen("/broadcast/other", topic="/nunet/other")
    await victim.actor.subscribe("/nunet/other")
    await trio.sleep(1)
    thief, chain, exp = mallory.person, scene.membership(mallory.person), scene.exp()
    for behaviour in (NOTE, "/broadcast/other"):
        tokens = [
            thief.token(act, thief.did, [behaviour], topics=[TOPIC], exp=exp, chain=chain)
            for act in ("broadcast", "invoke")
        ]
        await mallory.network.publish(TOPIC, thief.sign(scene.broadcast(thief, behaviour, tokens=tokens)))
    await trio.sleep(1)
    assert victim.handled == []
    tokens = [thief.token("broadcast", thief.did, [behaviour], topics=["/nunet/other"], exp=exp, chain=chain)]
    honest = thief.sign(scene.broadcast(thief, behaviour, "/nunet/other", tokens=tokens))
    await mallory.network.publish("/nunet/other", honest)
    await trio.sleep(1)
    assert [name for name, _, _ in victim.handled] == ["/broadcast/other"]


async def test_a_reply_must_not_go_to_somebody_who_did_not_ask(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    thief = mallory.person
    for sender in (
        thief.handle(host=alice.person.peer),
        alice.person.handle(host=thief.peer),
        alice.person.handle(),
        victim.handle,
    ):
        message = scene.request(thief, victim.handle, "/public/ping", sender=sender, reply_to="/public/note")
        await mallory.send(victim, thief.sign(message))
    assert alice.received == []
    assert victim.handled == []


async def test_a_captured_reply_must_not_be_taken_by_its_author_or_a_third_node(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    right = thief.token("delegate", victim.person.did, [NOTE], aud=thief.did, depth=1, exp=scene.exp())
    tokens = [scene.invocation(thief, "/public/ping"), right]
    request = scene.request(thief, victim.handle, "/public/ping", tokens=tokens, reply_to=NOTE, payload={"n": 1})
    await mallory.send(victim, thief.sign(request))
    ((peer, reply),) = mallory.received
    assert peer == victim.person.peer
    async with scene.node("third") as third:
        for node in (victim, third):
            await mallory.send(node, reply)
        assert third.handled == []
    assert victim.handled == [("/public/ping", thief.did, {"n": 1})]


async def test_the_reply_of_somebody_who_was_not_asked_must_not_be_believed(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    """Even if that is a member who saw the question and answers first; and the true answer is taken once."""
    answers: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ask, victim, alice.person, answers)
        await trio.sleep(1)
        ((_, question),) = alice.received
        exp, cont = json.loads(question)["opt"]["exp"], json.loads(question)["opt"]["cont"]
        grant = _reply_grant(question)
        for tokens in (
            [scene.invocation(mallory.person, cont)],
            [mallory.person.token("invoke", mallory.person.did, [cont], exp=exp, chain=grant)],
            [grant],
        ):
            for did in (alice.person.did, mallory.person.did):
                sender = mallory.person.handle(did=did)
                forged = scene.request(
                    mallory.person, victim.handle, cont, tokens=tokens, exp=exp, sender=sender, payload="false"
                )
                await mallory.send(victim, mallory.person.sign(forged))
        assert answers == []
        token = alice.person.token("invoke", alice.person.did, [cont], aud=victim.person.did, exp=exp, chain=grant)
        for payload in ("true", "second"):
            reply = scene.request(alice.person, victim.handle, cont, tokens=[token], exp=exp, payload=payload)
            await alice.send(victim, alice.person.sign(reply))
        assert answers == ["true"]


async def test_the_right_to_reply_must_not_open_anything_else(
    autojump_clock: MockClock, scene: Scene, victim: Target
) -> None:
    """Whoever is asked may answer at that one path, and passes the right on to nobody."""
    async with scene.wire("asked") as wire, trio.open_nursery() as nursery:
        asked, friend, answers = wire.person, Person("friend of the asked"), list[object]()
        await trio.sleep(1)
        nursery.start_soon(_ask, victim, asked, answers)
        await trio.sleep(1)
        ((_, question),) = wire.received
        exp, cont = json.loads(question)["opt"]["exp"], json.loads(question)["opt"]["cont"]
        grant = _reply_grant(question)
        for behaviour in (NOTE, "/dms/node/secret", "/public/ping"):
            for caps in ([behaviour], [cont], [cont, behaviour], ["/"]):
                token = asked.token("invoke", asked.did, caps, aud=victim.person.did, exp=exp, chain=grant)
                message = scene.request(asked, victim.handle, behaviour, tokens=[token], exp=exp)
                await wire.send(victim, asked.sign(message))
        passed = asked.token("delegate", friend.did, [cont], aud=victim.person.did, exp=exp, chain=grant)
        token = friend.token("invoke", friend.did, [cont], aud=victim.person.did, exp=exp, chain=passed)
        sender = friend.handle(host=asked.peer)
        message = scene.request(friend, victim.handle, cont, tokens=[token], exp=exp, sender=sender)
        await wire.send(victim, friend.sign(message))
        assert answers == []
        nursery.cancel_scope.cancel()
    assert victim.handled == []


async def _ask(victim: Target, whom: Person, answers: list[object]) -> None:
    answers.append(await victim.actor.invoke(handle_of_peer(whom.peer), "/public/ping", {}, str, timeout_s=60))


def _reply_grant(question: bytes) -> Json:
    """The token by which the asker lets the asked answer."""
    tokens = json.loads(base64.b64decode(json.loads(question)["cap"]))["tok"]
    (grant,) = [token for token in tokens if token["dms"]["act"] == "delegate"]
    assert isinstance(grant, dict)
    return grant
