"""Two nodes, an honest member and an attacker who is a member too: the strongest there is without others' keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from tests.adversary.scene import Scene, Target, Wire
from trio.testing import MockClock


@pytest.fixture
async def scene() -> Scene:
    """The test itself must ask for ``autojump_clock``: pytest-trio looks nowhere else."""
    assert isinstance(trio.lowlevel.current_clock(), MockClock)
    return Scene()


@pytest.fixture
async def victim(scene: Scene) -> AsyncIterator[Target]:
    """A node that accepts members of the organisation, and obeys the user."""
    async with scene.node("victim") as node:
        yield node


@pytest.fixture
async def alice(scene: Scene, victim: Target) -> AsyncIterator[Wire]:
    """An honest member."""
    async with scene.wire("alice") as wire:
        yield wire


@pytest.fixture
async def mallory(scene: Scene, victim: Target) -> AsyncIterator[Wire]:
    """The attacker."""
    async with scene.wire("mallory") as wire:
        yield wire
