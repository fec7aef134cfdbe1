"""A cluster of whole nodes on the virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dms.testing.nodes import Cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """No nodes yet. The test itself must ask for ``autojump_clock``: pytest-trio looks nowhere else."""
    assert isinstance(trio.lowlevel.current_clock(), MockClock)
    async with trio.open_nursery() as nursery:
        yield Cluster(tmp_path, nursery, seed=1)
        nursery.cancel_scope.cancel()
