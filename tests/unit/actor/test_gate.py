"""What all inboxes share: turns, room, and the own host that waits instead of losing messages."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing
from tests.unit.actor.conftest import Two
from trio.testing import MockClock

from dms.actor.behaviour import Message
from dms.actor.fairness import MAX_WAITING_PER_PEER
from dms.actor.gate import PER_TURN, Gate, GateOptions
from dms.actor.rates import Rate, Rates, Traffic
from dms.types.ids import PeerID

OWN, A, B = PeerID("own"), PeerID("a"), PeerID("b")
PING = "/public/ping"


class Recorder:
    """A door that notes what comes in; what is in ``blocking`` waits there until it is cancelled."""

    def __init__(self, nursery: trio.Nursery | None) -> None:
        self.nursery = nursery
        self.begun: list[tuple[PeerID, bytes]] = []
        self.cancelled: list[bytes] = []
        self.blocking: set[bytes] = set()

    async def receive(self, peer: PeerID, data: bytes) -> None:
        self.begun.append((peer, data))
        if data in self.blocking:
            try:
                await trio.sleep_forever()
            finally:
                self.cancelled.append(data)


async def test_messages_are_let_in_in_turns_and_a_few_at_a_time(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        gate, door = Gate(OWN), Recorder(nursery)
        for number in range(PER_TURN):
            assert gate.offer(A, b"a%d" % number, door)
        assert gate.offer(B, b"b", door)
        nursery.start_soon(gate.run)
        while not door.begun:
            await trio.lowlevel.checkpoint()
        assert len(door.begun) == PER_TURN, "then others have their turn"
        await trio.testing.wait_all_tasks_blocked()
        assert [data for _, data in door.begun[:3]] == [b"a0", b"b", b"a1"]
        assert len(door.begun) == PER_TURN + 1
        gate.offer(B, b"later", door)
        await trio.testing.wait_all_tasks_blocked()
        assert door.begun[-1] == (B, b"later")
        nursery.cancel_scope.cancel()


async def test_a_message_that_waits_keeps_no_other_waiting(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        gate, door = Gate(OWN), Recorder(nursery)
        door.blocking = {b"1", b"3", b"4"}
        for number in range(6):
            gate.offer(A, b"%d" % number, door)
        nursery.start_soon(gate.run)
        await trio.testing.wait_all_tasks_blocked()
        assert [data for _, data in door.begun] == [b"%d" % number for number in range(6)]
        gate.offer(A, b"after", door)
        await trio.testing.wait_all_tasks_blocked()
        assert door.begun[-1] == (A, b"after")
        nursery.cancel_scope.cancel()
    assert sorted(door.cancelled) == [b"1", b"3", b"4"]


async def test_messages_end_with_the_inbox_that_they_are_for(autojump_clock: MockClock) -> None:
    """Whoever takes the next message, it is handled in the nursery of its own inbox."""
    async with trio.open_nursery() as nursery:
        gate, lasting = Gate(OWN), Recorder(nursery)
        nursery.start_soon(gate.run)
        async with trio.open_nursery() as short:
            ending = Recorder(short)
            ending.blocking = {b"1", b"2"}
            lasting.blocking = {b"x", b"y"}
            for door, data in ((lasting, b"x"), (ending, b"1"), (lasting, b"y"), (ending, b"2")):
                gate.offer(A, data, door)
            await trio.testing.wait_all_tasks_blocked()
            ending.nursery = None
            gate.offer(A, b"late", ending)
            short.cancel_scope.cancel()
        assert ending.cancelled in ([b"1", b"2"], [b"2", b"1"])
        assert lasting.cancelled == []
        gate.offer(A, b"z", lasting)
        await trio.testing.wait_all_tasks_blocked()
        assert [data for _, data in lasting.begun] == [b"x", b"y", b"z"]
        assert (A, b"late") not in ending.begun
        nursery.cancel_scope.cancel()


async def test_who_waits_for_room_is_woken_as_room_is_made(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        gate, door = Gate(OWN), Recorder(nursery)
        while gate.offer(OWN, b"x", door):
            pass

        async def insist() -> None:
            while not gate.offer(OWN, b"late", door):
                await gate.wait_for_room()

        for _ in range(3 * MAX_WAITING_PER_PEER):
            nursery.start_soon(insist)
        await trio.testing.wait_all_tasks_blocked()
        assert door.begun == []
        nursery.start_soon(gate.run)
        await trio.testing.wait_all_tasks_blocked()
        assert door.begun.count((OWN, b"late")) == 3 * MAX_WAITING_PER_PEER
        nursery.cancel_scope.cancel()


async def test_our_own_host_has_no_rate_and_others_have(autojump_clock: MockClock) -> None:
    slow = Rate(1.0, 2.0)
    gate = Gate(OWN, GateOptions(rates=Rates(slow, slow, slow, slow)))
    assert [gate.is_slow_enough(A, Traffic.PUBLIC, trio.current_time()) for _ in range(3)] == [True, True, False]
    assert all(gate.is_slow_enough(OWN, Traffic.PUBLIC, trio.current_time()) for _ in range(10))
    await trio.sleep(1)
    assert [gate.is_slow_enough(A, Traffic.PUBLIC, trio.current_time()) for _ in range(2)] == [True, False]


async def test_refusals_have_a_rate_and_can_be_switched_off(autojump_clock: MockClock) -> None:
    gate = Gate(OWN, GateOptions(refusal_rate=Rate(1.0, 1.0)))
    assert [gate.may_refuse(A), gate.may_refuse(A), gate.may_refuse(B)] == [True, False, True]
    assert not Gate(OWN, GateOptions(are_refusals_told=False)).may_refuse(A)


async def test_actors_of_one_node_lose_nothing_that_they_tell_each_other(autojump_clock: MockClock, two: Two) -> None:
    """More at once than any limit that is meant for others."""
    handled = 0

    async def count(_message: Message[Any]) -> None:
        nonlocal handled
        handled += 1
        await trio.sleep(1)

    two.a.on(PING, count)
    child, times = await two.a.create_child("child"), 1500
    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(child.send, two.a.handle, PING, None)
    await trio.sleep(5)
    assert handled == times
    assert not [name for name in two.a.counters if name.startswith("dropped.")]
    assert not [name for name in two.a.network.counters() if name.startswith("messages dropped")]


async def test_a_defect_that_one_message_meets_ends_nothing_else(autojump_clock: MockClock, two: Two) -> None:
    """An answer that cannot be written is a defect of the handler's; the actor goes on."""

    async def answer(_message: Message[Any]) -> object:
        return object()

    two.b.on(PING, answer)
    await two.a.send(two.b.handle, PING, None, reply_to="/public/answer")
    await trio.sleep(1)
    assert two.b.counters["crashed"] == 1

    async def well(_message: Message[Any]) -> bool:
        return True

    two.b.on(PING, well)
    assert await two.a.invoke(two.b.handle, PING, None, bool)
