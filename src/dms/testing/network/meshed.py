"""Topics in a virtual network through meshes, by the router that real nodes have (:mod:`dms.network.gossip`).

What a broadcast costs, how far it gets and how late are those of a real network: every node passes it to the handful in its
mesh, tells some others of it once a second, and judges its peers. Packets of one node to another arrive in order; a loss
takes single messages out of them, as a full queue would.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING

import trio

from dms.network.errors import MessageTooLarge
from dms.network.framing import MAX_GOSSIP_BYTES
from dms.network.gossip import Mesh, MeshParameters, Message, Packet, ScoreParameters, Scores
from dms.network.protocol import PeerScore, Verdict
from dms.network.subscriptions import Subscriptions
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork
    from dms.testing.network.node import MemoryNetwork

_PACKET_BYTES = 64
_MESSAGE_BYTES = 128
"""What surrounds a message: publisher, number, topic, signature."""


class MeshBroadcast:
    """What one node publishes, hears and passes on."""

    def __init__(self, network: VirtualNetwork, node: MemoryNetwork, counters: Counter[str]) -> None:
        self.subscriptions = Subscriptions(counters)
        self._network = network
        self._node = node
        self._counters = counters
        self._rng = random.Random(f"{network.seed}/{node.peer_id}/gossip")  # noqa: S311  a simulation, not a secret
        self._numbers = itertools.count()
        self._arrives_s: dict[PeerID, float] = defaultdict(float)
        self._scores, self.mesh = self._begun()

    async def open(self, nursery: trio.Nursery) -> None:
        """Take part from now on, as a node that has just started."""
        self._scores, self.mesh = self._begun()
        await self.subscriptions.open(nursery, join=self._join, leave=self._leave)
        nursery.start_soon(self._beat)

    def close(self) -> None:
        """Take part no more."""
        self.subscriptions.close()

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody connected who subscribed to the topic; they pass it on."""
        if len(data) > MAX_GOSSIP_BYTES:
            raise MessageTooLarge(f"message too large: {len(data)} bytes, a broadcast has at most {MAX_GOSSIP_BYTES}")
        self._node.require_running()
        await trio.lowlevel.checkpoint()
        self._counters["gossip out"] += 1
        own = self._node.peer_id
        # An id is never used again, not even after a restart: others would have seen it already.
        message = Message(f"{own}/{next(self._numbers)}".encode(), own, topic, data)
        self.subscriptions.deliver(topic, own, data)
        self.mesh.publish(message)
        self._send_out()

    def connected(self, peer: PeerID) -> None:
        """A peer is there: say to what we listen."""
        self.mesh.add_peer(peer, is_outbound=not self._node.connections.inbound[peer])
        self.mesh.speaks_dont_want(peer)
        self._send(peer, Packet(subscriptions=[(topic, True) for topic in self.mesh.members]))

    def disconnected(self, peer: PeerID) -> None:
        """It is gone."""
        self.mesh.remove_peer(peer)
        self._send_out()

    def scores(self) -> dict[PeerID, PeerScore]:
        """What is thought of the connected peers."""
        return self._scores.all()

    def hear(self, relay: PeerID, packet: Packet) -> None:
        """A packet is here."""
        for message in packet.messages:
            self._network.tell(relay, self._node.peer_id, message.topic, message.data)
        for message in self.mesh.receive(relay, packet):
            self.subscriptions.deliver(message.topic, message.origin, message.data)
        self.mesh.take_offers()  # nodes find others by themselves here
        self._send_out()

    def _begun(self) -> tuple[Scores, Mesh]:
        scores = Scores(ScoreParameters(), lambda peer: self._node.app_score(peer), trio.current_time)
        mesh = Mesh(
            self._node.peer_id,
            parameters=MeshParameters(),
            scores=scores,
            is_genuine=lambda _: True,
            judge=self._judge,
            clock=trio.current_time,
            rng=self._rng,
            counters=self._counters,
        )
        return scores, mesh

    def _judge(self, relay: PeerID, message: Message) -> Verdict:
        return self.subscriptions.judge(relay, message.topic, message.data)

    async def _join(self, topic: str) -> None:
        self.mesh.join(topic)
        self._send_out()

    async def _leave(self, topic: str) -> None:
        self.mesh.leave(topic)
        self._send_out()

    async def _beat(self) -> None:
        """Once a second, each node at a moment of its own."""
        await trio.sleep(self._rng.random())
        while True:
            if self._node.is_up:
                self.mesh.beat()
                self._send_out()
            await trio.sleep(self.mesh.parameters.heartbeat_s)

    def _send_out(self) -> None:
        for peer, packet in self.mesh.drain():
            self._send(peer, packet)

    def _send(self, peer: PeerID, packet: Packet) -> None:
        own = self._node.peer_id
        target, link = self._network.find(peer), self._node.connections.path(peer)
        if target is None or link.blocks(own) or not isinstance(target.broadcast, MeshBroadcast):
            return
        kept = [message for message in packet.messages if not self._node.loses(link)]
        self._counters["gossip copies out"] += len(packet.messages)
        self._counters["gossip copies lost"] += len(packet.messages) - len(kept)
        packet.messages = kept
        size = _PACKET_BYTES + sum(_MESSAGE_BYTES + len(message.data) for message in kept)
        now_s = trio.current_time()
        arrives_s = now_s + link.crossing_s(size, own) + self._node.jitter_s(link)
        self._arrives_s[peer] = max(arrives_s, self._arrives_s[peer] + 1e-9)
        target.after(self._arrives_s[peer] - now_s, partial(target.broadcast.hear, own, packet))
