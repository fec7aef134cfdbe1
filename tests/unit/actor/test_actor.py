"""Actors on the virtual network: the whole path of a message, and everything that is dropped on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.errors import ActorExists, InvocationTimeout, RemoteUnknownBehaviour
from dms.actor.handle import handle_of_did, handle_of_peer, protocol_of
from dms.network.errors import PeerUnreachable
from dms.testing.actors import World, key_of
from dms.types.errors import BadInput
from dms.types.gojson import Wire
from dms.types.ids import Capability


class Ping(Wire):
    text: str = ""


class Pong(Wire):
    text: str
    sender: str


async def pong(message: Message[Ping]) -> Pong:
    return Pong(text=message.payload.text.upper(), sender=str(message.sender.did))


class Pair:
    def __init__(self, world: World, a: Actor, b: Actor) -> None:
        self.world, self.a, self.b = world, a, b


@pytest.fixture
async def pair(autojump_clock: MockClock) -> AsyncIterator[Pair]:
    # pytest-trio runs on the clock only when the test itself asks for it: else hours would pass in real time
    assert trio.lowlevel.current_clock() is autojump_clock
    world = World()
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(world.node("a"))
        b = await stack.enter_async_context(world.node("b"))
        b.on("/public/ping", pong, payload=Ping)
        yield Pair(world, a, b)


async def test_an_invocation_is_answered(autojump_clock: MockClock, pair: Pair) -> None:
    reply = await pair.a.invoke(pair.b.handle, "/public/ping", Ping(text="hello"), Pong)
    assert reply == Pong(text="HELLO", sender=pair.a.handle.did.uri)


async def test_a_handle_made_from_peer_id_or_did_reaches_the_root_actor(autojump_clock: MockClock, pair: Pair) -> None:
    for handle in (handle_of_peer(pair.b.network.peer_id), handle_of_did(pair.b.handle.did)):
        assert handle == pair.b.handle
        assert (await pair.a.invoke(handle, "/public/ping", Ping(), Pong)).text == ""


async def test_an_actor_may_invoke_itself(autojump_clock: MockClock, pair: Pair) -> None:
    assert (await pair.b.invoke(pair.b.handle, "/public/ping", Ping(text="x"), Pong)).text == "X"


async def test_whoever_lacks_the_capability_gets_no_answer(autojump_clock: MockClock, pair: Pair) -> None:
    pair.b.on("/dms/secret", pong, payload=Ping)
    with pytest.raises(InvocationTimeout, match="/dms/secret"):
        await pair.a.invoke(pair.b.handle, "/dms/secret", Ping(), Pong, timeout_s=2)
    assert pair.b.counters["dropped.not_authorized"] == 1
    assert pair.b.counters["dispatched"] == 0


async def test_a_stranger_gets_no_answer(autojump_clock: MockClock, pair: Pair) -> None:
    async with pair.world.node("stranger", is_member=False) as stranger:
        with pytest.raises(InvocationTimeout):
            await stranger.invoke(pair.b.handle, "/public/ping", Ping(), Pong, timeout_s=2)


async def test_the_root_of_a_node_may_do_everything(autojump_clock: MockClock, pair: Pair) -> None:
    pair.b.on("/dms/node/secret", pong, payload=Ping)
    user = pair.world.user_actor(pair.a)
    async with trio.open_nursery() as nursery:
        await nursery.start(user.run)
        assert (await user.invoke(pair.b.handle, "/dms/node/secret", Ping(text="y"), Pong)).text == "Y"
        nursery.cancel_scope.cancel()


async def test_an_unknown_behaviour_is_dropped_and_counted(autojump_clock: MockClock, pair: Pair) -> None:
    with pytest.raises(RemoteUnknownBehaviour, match="/public/nothing"):
        await pair.a.invoke(pair.b.handle, "/public/nothing", None, Pong, timeout_s=1)
    assert pair.b.counters["dropped.unknown_behaviour"] == 1


async def test_a_message_is_handled_once_however_often_it_arrives(autojump_clock: MockClock, pair: Pair) -> None:
    seen: list[str] = []

    async def note(message: Message[Ping]) -> None:
        seen.append(message.payload.text)

    pair.b.on("/public/note", note, payload=Ping)
    envelope = pair.a.envelope(pair.b.handle, "/public/note", Ping(text="once"))
    signed = pair.a.security.provide(envelope, [Capability("/public/note")])
    for _ in range(3):
        await pair.a.network.send(pair.b.network.peer_id, protocol_of("root"), signed.encode())
        await trio.sleep(0.1)
    assert seen == ["once"]
    assert pair.b.counters["dropped.replayed"] == 2


async def test_a_message_sent_on_by_another_host_is_dropped(autojump_clock: MockClock, pair: Pair) -> None:
    envelope = pair.a.envelope(pair.b.handle, "/public/ping", Ping(text="stolen"))
    signed = pair.a.security.provide(envelope, [Capability("/public/ping")])
    async with pair.world.node("thief") as thief:
        await thief.network.send(pair.b.network.peer_id, protocol_of("root"), signed.encode())
        await trio.sleep(0.1)
    assert pair.b.counters["dropped.bad_sender"] == 1
    assert pair.b.counters["dispatched"] == 0


async def test_a_message_for_somebody_else_is_dropped(autojump_clock: MockClock, pair: Pair) -> None:
    envelope = pair.a.envelope(pair.a.handle, "/public/ping", Ping())
    signed = pair.a.security.provide(envelope, [Capability("/public/ping")])
    await pair.a.network.send(pair.b.network.peer_id, protocol_of("root"), signed.encode())
    await trio.sleep(0.1)
    assert pair.b.counters["dropped.bad_sender"] == 1


async def test_a_changed_message_is_dropped(autojump_clock: MockClock, pair: Pair) -> None:
    envelope = pair.a.envelope(pair.b.handle, "/public/ping", Ping(text="true"))
    signed = pair.a.security.provide(envelope, [Capability("/public/ping")])
    forged = msgspec.structs.replace(signed, msg=b'{"text":"false"}')
    await pair.a.network.send(pair.b.network.peer_id, protocol_of("root"), forged.encode())
    await trio.sleep(0.1)
    assert pair.b.counters["dropped.bad_signature"] == 1


async def test_an_identity_that_did_not_sign_for_the_key_is_refused(autojump_clock: MockClock, pair: Pair) -> None:
    claimed = msgspec.structs.replace(pair.a.handle, did=pair.b.handle.did)
    envelope = msgspec.structs.replace(pair.a.envelope(pair.b.handle, "/public/ping", Ping()), from_=claimed)
    signed = pair.a.security.provide(envelope, [Capability("/public/ping")])
    await pair.a.network.send(pair.b.network.peer_id, protocol_of("root"), signed.encode())
    await trio.sleep(0.1)
    assert pair.b.counters["dispatched"] == 0


@pytest.mark.parametrize("data", [b"", b"\x00", b"{", b"[]", b"null", b'{"to":5}', b"{}", b"\xff" * 100, b"[" * 10_000])
async def test_garbage_in_the_inbox_is_dropped(autojump_clock: MockClock, pair: Pair, data: bytes) -> None:
    await pair.a.network.send(pair.b.network.peer_id, protocol_of("root"), data or b" ")
    await trio.sleep(0.1)
    assert pair.b.counters["dispatched"] == 0
    assert (await pair.a.invoke(pair.b.handle, "/public/ping", Ping(text="alive"), Pong)).text == "ALIVE"


async def test_a_token_list_that_is_too_big_is_dropped(autojump_clock: MockClock, pair: Pair) -> None:
    envelope = msgspec.structs.replace(
        pair.a.envelope(pair.b.handle, "/public/ping", Ping()), cap=b'{"tok":[' + b" " * 20_000 + b"]}"
    )
    await pair.a.network.send(pair.b.network.peer_id, protocol_of("root"), envelope.sign(pair.a.security.key).encode())
    await trio.sleep(0.1)
    assert pair.b.counters["dropped.capability_blob_too_big"] == 1


async def test_an_expired_message_is_dropped(autojump_clock: MockClock, pair: Pair) -> None:
    envelope = pair.a.envelope(pair.b.handle, "/public/ping", Ping(), lifetime_ns=10**9)
    signed = pair.a.security.provide(envelope, [Capability("/public/ping")])
    await trio.sleep(2)
    await pair.a.network.send(pair.b.network.peer_id, protocol_of("root"), signed.encode())
    await trio.sleep(0.1)
    assert pair.b.counters["dropped.message_expired"] == 1


async def test_a_message_that_would_live_for_ever_is_dropped(autojump_clock: MockClock, pair: Pair) -> None:
    envelope = pair.a.envelope(pair.b.handle, "/public/ping", Ping(), lifetime_ns=48 * 3600 * 10**9)
    signed = pair.a.security.provide(envelope, [Capability("/public/ping")])
    await pair.a.network.send(pair.b.network.peer_id, protocol_of("root"), signed.encode())
    await trio.sleep(0.1)
    assert pair.b.counters["dropped.invalid_message"] == 1


async def test_a_failing_handler_answers_with_the_behaviours_own_error(autojump_clock: MockClock, pair: Pair) -> None:
    async def refuse(message: Message[Ping]) -> None:
        raise BadInput("no such thing")

    async def crash(message: Message[Ping]) -> None:
        raise ZeroDivisionError

    pair.b.on("/public/refuse", refuse, payload=Ping, error_reply=lambda e: Ping(text=e))
    pair.b.on("/public/crash", crash, payload=Ping, error_reply=lambda e: Ping(text=e))
    pair.b.on("/public/silent", crash, payload=Ping)
    assert (await pair.a.invoke(pair.b.handle, "/public/refuse", Ping(), Ping)).text == "no such thing"
    assert (await pair.a.invoke(pair.b.handle, "/public/crash", Ping(), Ping)).text == "internal error"
    with pytest.raises(InvocationTimeout):
        await pair.a.invoke(pair.b.handle, "/public/silent", Ping(), Ping, timeout_s=1)
    assert (await pair.a.invoke(pair.b.handle, "/public/ping", Ping(text="alive"), Pong)).text == "ALIVE"


async def test_a_payload_of_the_wrong_shape_is_an_error_of_the_behaviour(autojump_clock: MockClock, pair: Pair) -> None:
    pair.b.on("/public/strict", pong, payload=Ping, error_reply=lambda e: Ping(text=e))
    reply = await pair.a.invoke(pair.b.handle, "/public/strict", {"text": 5}, Ping)
    assert "$.text" in reply.text


async def test_a_broadcast_reaches_all_subscribers_but_the_sender(autojump_clock: MockClock, pair: Pair) -> None:
    heard: list[str] = []

    def listener(name: str) -> Callable[[Message[Ping]], Awaitable[Ping]]:
        async def hear(message: Message[Ping]) -> Ping:
            heard.append(f"{name}:{message.payload.text}")
            return Ping(text=name)

        return hear

    answers: list[str] = []

    async def on_answer(message: Message[Ping]) -> None:
        answers.append(message.payload.text)

    async with pair.world.node("c") as c:
        for name, actor in (("a", pair.a), ("b", pair.b), ("c", c)):
            actor.on("/broadcast/hello", listener(name), payload=Ping, topic="/nunet/hello")
            await actor.subscribe("/nunet/hello")
            await actor.subscribe("/nunet/hello")
        pair.a.on("/public/answers", on_answer, payload=Ping)
        await trio.sleep(1)  # until they are connected
        await pair.a.publish("/nunet/hello", "/broadcast/hello", Ping(text="hi"), reply_to="/public/answers")
        await trio.sleep(1)
    assert sorted(heard) == ["b:hi", "c:hi"]
    assert sorted(answers) == ["b", "c"]


async def test_a_broadcast_on_a_foreign_topic_or_without_capability_is_dropped(
    autojump_clock: MockClock, pair: Pair
) -> None:
    heard: list[str] = []

    async def hear(message: Message[Ping]) -> None:
        heard.append(message.payload.text)

    pair.b.on("/broadcast/hello", hear, payload=Ping, topic="/nunet/hello")
    pair.b.on("/dms/forbidden", hear, payload=Ping, topic="/nunet/hello")
    await pair.b.subscribe("/nunet/hello")
    await pair.b.subscribe("/nunet/other")
    await trio.sleep(1)  # until they are connected
    await pair.a.publish("/nunet/hello", "/broadcast/hello", Ping(text="proper"))
    await pair.a.publish("/nunet/other", "/broadcast/hello", Ping(text="other topic"))
    await pair.a.publish("/nunet/hello", "/dms/forbidden", Ping(text="forbidden"))
    async with pair.world.node("stranger", is_member=False) as stranger:
        await trio.sleep(1)
        await stranger.publish("/nunet/hello", "/broadcast/hello", Ping(text="stranger"))
        await trio.sleep(1)
    assert heard == ["proper"]


async def test_children_have_their_own_key_and_inbox_and_the_identity_of_their_parent(
    autojump_clock: MockClock, pair: Pair
) -> None:
    child = await pair.b.create_child("ensemble-1")
    assert child.handle.did == pair.b.handle.did
    assert child.handle.id != pair.b.handle.id
    child.on("/public/ping", pong, payload=Ping)
    assert (await pair.a.invoke(child.handle, "/public/ping", Ping(text="child"), Pong)).text == "CHILD"
    with pytest.raises(ActorExists):
        await pair.b.create_child("ensemble-1")
    await child.aclose()
    assert not pair.b.children
    with pytest.raises((PeerUnreachable, InvocationTimeout)):
        await pair.a.invoke(child.handle, "/public/ping", Ping(), Pong, timeout_s=1)
    again = await pair.b.create_child("ensemble-1", key_of("child"))
    assert again.security.key == key_of("child")


async def test_a_dynamic_grant_lets_an_actor_in_until_it_expires(autojump_clock: MockClock, pair: Pair) -> None:
    child = await pair.a.create_child("orchestrator")
    pair.b.on("/dms/ensemble/x/logs", pong, payload=Ping)
    with pytest.raises(InvocationTimeout):
        await child.invoke(pair.b.handle, "/dms/ensemble/x/logs", Ping(), Pong, timeout_s=1)
    pair.b.security.grant(pair.a.handle.did, pair.b.handle.did, [Capability("/dms/ensemble/x")], 3600 * 10**9)
    assert (await child.invoke(pair.b.handle, "/dms/ensemble/x/logs", Ping(text="z"), Pong)).text == "Z"
    await trio.sleep(3601)
    with pytest.raises(InvocationTimeout):
        await child.invoke(pair.b.handle, "/dms/ensemble/x/logs", Ping(), Pong, timeout_s=1)


async def test_a_reply_that_cannot_be_delivered_hurts_nobody(autojump_clock: MockClock, pair: Pair) -> None:
    async def slow(message: Message[Ping]) -> Ping:
        pair.world.network.cut(pair.a.network.peer_id, pair.b.network.peer_id)
        return Ping()

    pair.b.on("/public/slow", slow, payload=Ping)
    with pytest.raises(InvocationTimeout):
        await pair.a.invoke(pair.b.handle, "/public/slow", Ping(), Ping, timeout_s=2)
    pair.world.network.heal(pair.a.network.peer_id, pair.b.network.peer_id)
    await trio.sleep(1)
    assert (await pair.a.invoke(pair.b.handle, "/public/ping", Ping(text="x"), Pong)).text == "X"


async def test_tokens_of_a_message_are_forgotten_after_its_handler(autojump_clock: MockClock, pair: Pair) -> None:
    await pair.a.invoke(pair.b.handle, "/public/ping", Ping(), Pong)
    await trio.testing.wait_all_tasks_blocked()
    assert pair.b.security.capabilities.ephemeral_count == 0
    assert pair.a.security.capabilities.ephemeral_count == 0
