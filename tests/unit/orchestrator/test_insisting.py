"""What takes long is asked for again when the provider that was asked comes back."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.errors import InvocationTimeout
from dms.actor.handle import handle_of_peer
from dms.network.errors import PeerUnreachable
from dms.orchestrator.insisting import RETURN_S, insist
from dms.testing.actors import World
from dms.types.gojson import Wire

WORK = "/public/work"


class Nothing(Wire):
    """No payload."""


class Done(Wire):
    """The answer: the how manieth time it was asked for."""

    times: int


class Worker:
    """Does what takes long."""

    def __init__(self, actor: Actor, takes_s: float) -> None:
        self.takes_s, self.asked = takes_s, 0
        actor.on(WORK, self.on_work, payload=Nothing)

    async def on_work(self, _message: Message[Nothing]) -> Done:
        self.asked += 1
        times = self.asked
        await trio.sleep(self.takes_s)
        return Done(times=times)


async def ask(actor: Actor, worker: Actor, timeout_s: float = 300.0) -> int:
    handle = handle_of_peer(worker.network.peer_id)
    done = await insist(actor, handle, WORK, Nothing(), Done, timeout_s=timeout_s)
    return done.times


async def test_who_answers_is_asked_once(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("asker") as asker, world.node("worker") as actor:
        worker = Worker(actor, 60.0)
        assert await ask(asker, actor) == 1
        assert worker.asked == 1


async def test_who_dies_and_comes_back_is_asked_again_at_once(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("asker") as asker, world.node("worker") as actor, trio.open_nursery() as nursery:
        Worker(actor, 60.0)

        async def die() -> None:
            await trio.sleep(10.0)
            world.network.crash(actor.network.peer_id)
            await trio.sleep(5.0)
            world.network.restart(actor.network.peer_id)

        nursery.start_soon(die)
        assert await ask(asker, actor) == 2
        assert 75.0 < trio.current_time() < 90.0


async def test_who_does_not_come_back_is_given_up_long_before_the_time_out(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("asker") as asker, world.node("worker") as actor, trio.open_nursery() as nursery:
        Worker(actor, 60.0)

        async def die() -> None:
            await trio.sleep(10.0)
            world.network.crash(actor.network.peer_id)

        nursery.start_soon(die)
        with pytest.raises(PeerUnreachable):
            await ask(asker, actor)
        assert 10.0 + RETURN_S <= trio.current_time() < 60.0


async def test_who_was_not_there_is_not_waited_for(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("asker") as asker, world.node("worker") as actor:
        world.network.crash(actor.network.peer_id)
        await trio.sleep(5.0)
        begun = trio.current_time()
        with pytest.raises(PeerUnreachable):
            await ask(asker, actor)
        assert trio.current_time() - begun < RETURN_S


async def test_the_time_out_holds_for_all_of_it_together(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("asker") as asker, world.node("worker") as actor:
        Worker(actor, 600.0)
        with pytest.raises(InvocationTimeout):
            await ask(asker, actor, timeout_s=20.0)
        assert trio.current_time() < 21.0
