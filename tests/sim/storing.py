"""A user's node, and a machine that has storage for jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dms.node.hosting import HostingOptions
from dms.storage.service import StorageOptions, open_volumes
from dms.store import Store
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode


@asynccontextmanager
async def alice_and_bob(cluster: Cluster, directory: Path) -> AsyncIterator[tuple[SimulatedNode, SimulatedNode]]:
    """Alice deploys; Bob offers four cores, and keeps volumes below ``directory``."""
    async with await Store.open(None) as store, open_volumes(store, directory / "bob", StorageOptions()) as volumes:
        alice = await cluster.start("alice")
        yield alice, await cluster.start("bob", offers=FOUR_CORES, hosting=HostingOptions(volumes=volumes))
