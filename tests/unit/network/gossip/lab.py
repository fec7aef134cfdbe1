"""Routers without a network: what one wants sent is given to the other, at once and in order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from dms.network import Verdict
from dms.network.gossip import Mesh, MeshParameters, Message, Packet, ScoreParameters, Scores
from dms.types.ids import PeerID

TOPIC = "/nunet/hello"


class Node:
    """A router, with what it delivered and was asked to judge."""

    def __init__(self, name: str, lab: Lab, *, mesh: MeshParameters, scores: ScoreParameters) -> None:
        self.name = PeerID(name)
        self.app: dict[PeerID, float] = {}
        self.verdicts: dict[bytes, Verdict] = {}
        self.forged: set[bytes] = set()
        self.judged: list[bytes] = []
        self.got: list[bytes] = []
        self.counters: Counter[str] = Counter()
        self.scores = Scores(scores, lambda peer: self.app.get(peer, 0.0), lab.clock)
        self.mesh = Mesh(
            self.name,
            parameters=mesh,
            scores=self.scores,
            is_genuine=lambda message: message.id not in self.forged,
            judge=self._judge,
            clock=lab.clock,
            rng=random.Random(name),
            counters=self.counters,
        )
        self._numbers = 0

    def _judge(self, _relay: PeerID, message: Message) -> Verdict:
        self.judged.append(message.id)
        return self.verdicts.get(message.data, Verdict.ACCEPT)

    def message(self, data: bytes, topic: str = TOPIC) -> Message:
        self._numbers += 1
        return Message(f"{self.name}{self._numbers}".encode(), self.name, topic, data)

    def publish(self, data: bytes, topic: str = TOPIC) -> Message:
        message = self.message(data, topic)
        self.mesh.publish(message)
        return message

    def hear(self, peer: PeerID, packet: Packet) -> dict[PeerID, Packet]:
        """Take a packet; what is answered, by peer."""
        self.got += [one.data for one in self.mesh.receive(peer, packet)]
        return dict(self.mesh.drain())


class Lab:
    """Some routers, who of them is connected, and the clock."""

    def __init__(self, seed: int = 1) -> None:
        self.now_s = 1000.0
        self.nodes: dict[PeerID, Node] = {}
        self.loses: Callable[[PeerID, PeerID, Packet], bool] = lambda _a, _b, _packet: False
        self.sent: Counter[str] = Counter()
        self.rng = random.Random(seed)
        self._links: set[frozenset[PeerID]] = set()

    def clock(self) -> float:
        return self.now_s

    def node(self, name: str, *, mesh: MeshParameters | None = None, scores: ScoreParameters | None = None) -> Node:
        node = Node(name, self, mesh=mesh or MeshParameters(), scores=scores or ScoreParameters())
        self.nodes[node.name] = node
        return node

    def many(self, count: int, *, topic: str | None = TOPIC) -> Sequence[Node]:
        nodes = [self.node(f"n{number:03}") for number in range(count)]
        for node in nodes:
            if topic is not None:
                node.mesh.join(topic)
        return nodes

    def connect(self, a: Node, b: Node) -> None:
        """``a`` dials ``b``; both say to what they listen."""
        if frozenset((a.name, b.name)) in self._links:
            return
        self._links.add(frozenset((a.name, b.name)))
        a.mesh.add_peer(b.name, is_outbound=True)
        b.mesh.add_peer(a.name, is_outbound=False)
        for one, other in ((a, b), (b, a)):
            one.mesh.speaks_dont_want(other.name)
            hello = Packet(subscriptions=[(topic, True) for topic in one.mesh.members])
            other.got += [m.data for m in other.mesh.receive(one.name, hello)]

    def disconnect(self, a: Node, b: Node) -> None:
        self._links.discard(frozenset((a.name, b.name)))
        a.mesh.remove_peer(b.name)
        b.mesh.remove_peer(a.name)

    def settle(self) -> None:
        """Deliver until nobody has anything to say."""
        for _ in range(1000):
            packets = [(node, peer, packet) for node in self.nodes.values() for peer, packet in node.mesh.drain()]
            if not packets:
                return
            for node, peer, packet in packets:
                self.sent.update({"packets": 1, "messages": len(packet.messages)})
                if frozenset((node.name, peer)) in self._links and not self.loses(node.name, peer, packet):
                    target = self.nodes[peer]
                    target.got += [one.data for one in target.mesh.receive(node.name, packet)]
        raise AssertionError("it never ends")

    def beat(self, times: int = 1) -> None:
        """Let seconds pass."""
        for _ in range(times):
            self.now_s += 1.0
            for node in self.nodes.values():
                node.mesh.beat()
            self.settle()
