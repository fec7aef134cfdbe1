"""Topics in a virtual network: a flood through all who subscribed to one.

Every node passes a message to each connected subscriber that nobody else passes it to, so its cost is what an ideal tree
would cost. That is what tests of everything above want: who hears something depends on connections, losses and
validators alone. :mod:`.meshed` has what a broadcast costs and how it travels in a real network.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import trio

from dms.network.errors import MessageTooLarge
from dms.network.framing import MAX_GOSSIP_BYTES
from dms.network.protocol import PeerScore, Verdict
from dms.network.subscriptions import Subscriptions
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork
    from dms.testing.network.node import MemoryNetwork


class Broadcast:
    """What one node publishes, hears and passes on."""

    def __init__(self, network: VirtualNetwork, node: MemoryNetwork, counters: Counter[str]) -> None:
        self._network = network
        self._node = node
        self._counters = counters
        self.subscriptions = Subscriptions(counters)

    async def open(self, nursery: trio.Nursery) -> None:
        """Deliver to the subscribers from now on."""
        await self.subscriptions.open(nursery, join=_nothing, leave=_nothing)

    def close(self) -> None:
        """Deliver no more."""
        self.subscriptions.close()

    def connected(self, peer: PeerID) -> None:
        """A peer is there; a flood needs no more than that."""

    def disconnected(self, peer: PeerID) -> None:
        """It is not."""

    def scores(self) -> dict[PeerID, PeerScore]:
        """Nobody misbehaves here: all are equal."""
        return {peer: PeerScore() for peer in self._node.connections.inbound}

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody who subscribed to the topic and is reached through others who did."""
        if len(data) > MAX_GOSSIP_BYTES:
            raise MessageTooLarge(f"message too large: {len(data)} bytes, a broadcast has at most {MAX_GOSSIP_BYTES}")
        self._node.require_running()
        await trio.lowlevel.checkpoint()
        self._counters["gossip out"] += 1
        self.subscriptions.deliver(topic, self._node.peer_id, data)
        self._spread(topic, self._node.peer_id, data, {self._node.peer_id})

    def _spread(self, topic: str, publisher: PeerID, data: bytes, reached: set[PeerID]) -> None:
        """Give a broadcast to the connected subscribers that nobody else gives it to."""
        for peer in sorted(self._node.connections.inbound.keys() - reached):
            node = self._network.find(peer)
            link = self._node.connections.path(peer)
            if node is None or link.blocks(self._node.peer_id) or topic not in node.broadcast.subscriptions.topics():
                continue
            assert isinstance(node.broadcast, Broadcast)  # all nodes of a network have the same
            reached.add(peer)
            if self._node.loses(link):
                node.count("gossip lost")
                continue
            delay_s = link.delay_s + self._node.jitter_s(link)
            hear = partial(node.broadcast.hear, topic, publisher, self._node.peer_id, data, reached)
            node.after(delay_s, hear)

    def hear(self, topic: str, publisher: PeerID, relay: PeerID, data: bytes, reached: set[PeerID]) -> None:
        """A broadcast is here."""
        verdict = self.subscriptions.judge(relay, topic, data)
        self._counters[f"gossip in: {verdict.value}"] += 1
        self._network.tell(relay, self._node.peer_id, topic, data)
        if verdict is Verdict.ACCEPT:
            self.subscriptions.deliver(topic, publisher, data)
            self._spread(topic, publisher, data, reached)


async def _nothing(_topic: str) -> None:
    """What becomes of a topic that somebody joins or leaves: nobody has to know."""
