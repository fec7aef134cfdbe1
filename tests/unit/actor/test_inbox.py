"""The path of a message: nobody waits for another, what is cheap comes first, every drop is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import trio
from tests.unit.actor.conftest import Two
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.envelope import Envelope
from dms.actor.errors import InvocationTimeout
from dms.actor.gate import FETCHES_PER_PEER
from dms.actor.handle import protocol_of
from dms.identity.ids import DID
from dms.network.errors import PeerUnreachable
from dms.types.ids import Capability

PING = "/public/ping"


async def yes(_message: Message[Any]) -> bool:
    return True


async def never(_message: Message[Any]) -> None:
    await trio.sleep_forever()


async def deliver(sender: Actor, receiver: Actor, message: Envelope) -> None:
    await sender.network.send(receiver.network.peer_id, protocol_of(receiver.inbox), message.encode())


def signed(sender: Actor, receiver: Actor, behaviour: str = PING, **changes: object) -> Envelope:
    message = msgspec.structs.replace(sender.envelope(receiver.handle, behaviour, None), **changes)
    return sender.security.provide(message, [Capability(behaviour)])


async def test_slow_handlers_of_one_peer_do_not_delay_another(autojump_clock: MockClock, two: Two) -> None:
    two.b.on(PING, yes)
    two.b.on("/public/slow", never)
    async with two.world.node("c") as c:
        for _ in range(300):
            await two.a.send(two.b.handle, "/public/slow", None)
        began_s = trio.current_time()
        assert await c.invoke(two.b.handle, PING, None, bool)
        assert trio.current_time() - began_s < 0.2
    assert two.b.counters["dropped.rate_limited"] == 300 - 256, "the share of one peer"


class SlowResolver:
    """DIDs of one method take long to fetch."""

    def __init__(self, actor: Actor) -> None:
        self.waiting = 0
        self.answered = trio.Event()
        actor.security.resolve = self.resolve  # type: ignore[method-assign]

    async def resolve(self, message: Envelope) -> None:
        self.waiting += 1
        await self.answered.wait()


async def test_a_did_that_must_be_fetched_keeps_only_its_own_message_waiting(
    autojump_clock: MockClock, two: Two
) -> None:
    two.b.on(PING, yes)
    resolver = SlowResolver(two.b)
    foreign = b'{"tok":[{"dms":{"iss":{"uri":"did:prism:abc"}}}]}'
    for _ in range(3 * FETCHES_PER_PEER):
        message = msgspec.structs.replace(two.a.envelope(two.b.handle, PING, None), cap=foreign)
        await deliver(two.a, two.b, message.sign(two.a.security.key))
    await trio.sleep(0.1)
    assert resolver.waiting == FETCHES_PER_PEER
    assert two.b.counters["dropped.rate_limited"] == 2 * FETCHES_PER_PEER
    assert await two.a.invoke(two.b.handle, PING, None, bool, timeout_s=1)
    async with two.world.node("c") as c:
        assert await c.invoke(two.b.handle, PING, None, bool, timeout_s=1)
    resolver.answered.set()
    await trio.sleep(0.1)
    assert two.b.counters["dropped.not_authorized"] == FETCHES_PER_PEER


async def test_a_flood_of_one_peer_costs_another_nothing(autojump_clock: MockClock, two: Two) -> None:
    two.b.on(PING, yes)
    async with two.world.node("c") as c, trio.open_nursery() as nursery:
        flood = [signed(two.a, two.b).encode() for _ in range(20)] * 100
        for data in flood:
            nursery.start_soon(two.a.network.send, two.b.network.peer_id, protocol_of("root"), data)
        for _ in range(20):
            assert await c.invoke(two.b.handle, PING, None, bool, timeout_s=1)


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("stolen", "bad_sender"),
        ("misdirected", "bad_sender"),
        ("expired", "message_expired"),
        ("immortal", "invalid_message"),
        ("unknown", "unknown_behaviour"),
        ("replayed", "replayed"),
        ("forged", "bad_signature"),
    ],
)
async def test_what_is_cheap_is_looked_at_before_the_tokens(
    autojump_clock: MockClock, two: Two, what: str, code: str
) -> None:
    """A token list that is too big would be told by another code, if anybody looked."""
    two.b.on(PING, yes)
    good = signed(two.a, two.b)
    await deliver(two.a, two.b, good)
    await trio.sleep(0.1)
    huge: dict[str, object] = {"cap": b" " * 20_000}
    key = two.a.security.key
    plain = two.a.envelope(two.b.handle, PING, None)
    elsewhere = msgspec.structs.replace(two.a.handle.addr, host=two.b.network.peer_id)
    changed: dict[str, dict[str, object]] = {
        "stolen": {"from_": msgspec.structs.replace(two.a.handle, addr=elsewhere)},
        "misdirected": {"to": two.a.handle},
        "expired": {"opt": msgspec.structs.replace(plain.opt, exp=1)},
        "immortal": {"opt": msgspec.structs.replace(plain.opt, exp=2**63)},
        "unknown": {"be": "/public/nothing"},
        "replayed": {"nonce": good.nonce},
        "forged": {},
    }
    message = msgspec.structs.replace(plain, **(changed[what] | huge)).sign(key)
    if what == "forged":
        message = msgspec.structs.replace(message, nonce=1)
    await deliver(two.a, two.b, message)
    await trio.sleep(0.1)
    assert {name: n for name, n in two.b.counters.items() if name.startswith("dropped.")} == {f"dropped.{code}": 1}


async def test_a_reply_of_whom_we_asked_needs_no_token_and_of_nobody_else_is_believed(
    autojump_clock: MockClock, two: Two
) -> None:
    """The one who was asked is known by its key; anybody else needs the right that the question gave away."""
    answers: list[Sequence[int]] = []

    async def ask() -> None:
        answers.append(await two.a.invoke(two.b.handle, "/public/ask", None, list[int], timeout_s=5))

    asked: list[Envelope] = []

    async def keep(message: Message[Any]) -> None:
        asked.append(message.envelope)

    two.b.on("/public/ask", keep)
    async with two.world.node("c") as c, trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.5)
        for sender, number in ((c, 1), (two.b, 2)):
            claimed = msgspec.structs.replace(sender.handle, did=two.b.handle.did)
            reply = msgspec.structs.replace(
                sender.envelope(two.a.handle, asked[0].opt.cont, [number]), from_=claimed, cap=b""
            )
            await deliver(sender, two.a, reply.sign(sender.security.key))
            await trio.sleep(0.5)
    assert answers == [[2]]


async def test_a_broadcast_must_come_from_the_host_that_it_names(autojump_clock: MockClock, two: Two) -> None:
    heard: list[DID] = []

    async def hear(message: Message[Any]) -> None:
        heard.append(message.sender.did)

    two.b.on("/broadcast/hello", hear, topic="/nunet/hello")
    await two.b.subscribe("/nunet/hello")
    async with two.world.node("c") as c:
        await trio.sleep(1)
        message = two.a.envelope(two.b.handle, "/broadcast/hello", None, topic="/nunet/hello")
        nobody = msgspec.structs.replace(
            message, to=type(message.to)(id=type(message.to.id)(pub=""), did=DID(), addr=type(message.to.addr)())
        )
        captured = two.a.security.provide_broadcast(nobody, "/nunet/hello", [Capability("/broadcast/hello")]).encode()
        await c.network.publish("/nunet/hello", captured)
        await trio.sleep(1)
        assert heard == []
        assert two.b.counters["dropped.bad_sender"] == 1
        await two.a.network.publish("/nunet/hello", captured)
        await trio.sleep(1)
    assert heard == [two.a.handle.did]


async def test_a_child_that_has_ended_receives_nothing_that_still_waits(autojump_clock: MockClock, two: Two) -> None:
    child = await two.b.create_child("short-lived")
    child.on(PING, yes)
    message = signed(two.a, child)
    await child.aclose()
    await child._inbox.on_message(two.a.network.peer_id, message.encode())
    with pytest.raises((InvocationTimeout, PeerUnreachable)):
        await two.a.invoke(child.handle, PING, None, bool, timeout_s=1)
    assert child.counters["dispatched"] == 0
