"""Two nodes of one organisation on the virtual network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.testing.actors import World


class Two:
    """The world and its nodes."""

    def __init__(self, world: World, a: Actor, b: Actor) -> None:
        self.world, self.a, self.b = world, a, b


@pytest.fixture
async def two(autojump_clock: MockClock) -> AsyncIterator[Two]:
    assert trio.lowlevel.current_clock() is autojump_clock
    world = World()
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(world.node("a"))
        b = await stack.enter_async_context(world.node("b"))
        yield Two(world, a, b)
