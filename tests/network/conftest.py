"""Fixtures of the tests that run against both implementations of the network."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from tests.network.worlds import World


@pytest.fixture(params=["libp2p", "memory"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(request.param, nursery)
        yield world
        world.end()
