"""Nodes of a virtual network that run for the length of a test, and handlers that note what they got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from dms.testing.network import RECONNECT_S, MemoryNetwork
from dms.types.ids import PeerID

ROOT = "actor/root/messages/0.0.1"
TOPIC = "/nunet/hello"


class Mailbox:
    """A handler that notes what came when."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, PeerID, bytes]] = []

    async def __call__(self, sender: PeerID, data: bytes) -> None:
        self.heard.append((trio.current_time(), sender, data))

    @property
    def texts(self) -> list[bytes]:
        return [data for _, _, data in self.heard]


@asynccontextmanager
async def running(*nodes: MemoryNetwork, settle_s: float = RECONNECT_S) -> AsyncIterator[None]:
    """Run nodes, and wait until they are connected."""

    async def keep(node: MemoryNetwork) -> None:
        async with node.run():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(keep, node)
        await trio.sleep(settle_s)
        yield
        nursery.cancel_scope.cancel()
