"""Nodes of either implementation of the network, for tests that hold for both."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio
from tests.network.waiting import until as until

from dms.network import MAX_LARGE_MESSAGE_BYTES, Network
from dms.network.libp2p import Libp2pNetwork
from dms.testing.network import VirtualNetwork
from dms.types.ids import PeerID

WAIT_S = 10.0

_seeds = itertools.count(1)


@asynccontextmanager
async def running(*nodes: Network) -> AsyncIterator[None]:
    """Run these nodes."""
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.run())
        yield


@dataclass
class Mailbox:
    """A handler that keeps what it got, and can be waited for."""

    got: list[tuple[PeerID, bytes]] = field(default_factory=list)
    arrived: trio.Event = field(default_factory=trio.Event)

    async def __call__(self, sender: PeerID, data: bytes) -> None:
        self.got.append((sender, data))
        self.arrived.set()

    async def wait_for(self, count: int) -> list[tuple[PeerID, bytes]]:
        with trio.fail_after(WAIT_S):
            while len(self.got) < count:
                self.arrived = trio.Event()
                await self.arrived.wait()
        return self.got


class World:
    """Makes nodes of one implementation."""

    def __init__(self, kind: str, nursery: trio.Nursery) -> None:
        self.kind = kind
        self.nursery = nursery
        self._over = trio.Event()
        self._virtual = VirtualNetwork(seed=1, delay_s=0.001, mesh=False)

    def make(
        self,
        *,
        listen: Sequence[str] = ("/ip4/127.0.0.1/tcp/0",),
        bootstrap: Sequence[str] = (),
        original: bool = False,
    ) -> Network:
        """A node; an original one knows no other way than a stream for each message."""
        number = next(_seeds)
        if self.kind == "libp2p":
            seed = number.to_bytes(32, "big")
            return Libp2pNetwork(seed=seed, listen=listen, bootstrap=bootstrap, keep_streams=not original)
        fixed = [address for address in listen if not address.endswith("/0")]
        node = self._virtual.node(number, listen=fixed, bootstrap=bootstrap)
        node.is_original = original
        return node

    async def start(self, *, bootstrap: Sequence[str] = (), original: bool = False) -> Network:
        node = self.make(bootstrap=bootstrap, original=original)
        ready = trio.Event()
        self.nursery.start_soon(self._keep, node, ready)
        await ready.wait()
        return node

    async def _keep(self, node: Network, ready: trio.Event) -> None:
        async with node.run():
            ready.set()
            await self._over.wait()

    def end(self) -> None:
        self._over.set()

    async def pair(self) -> tuple[Network, Network]:
        a, b = await self.start(), await self.start()
        await b.connect(a.listen_addresses[0])
        return a, b


def any_size(_peer: PeerID) -> int:
    """An inbox that takes the largest messages of everybody."""
    return MAX_LARGE_MESSAGE_BYTES
