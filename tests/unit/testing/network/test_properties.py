"""Whatever happens to a virtual network: what must hold at any moment, and that it heals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.testing.network.running import ROOT, TOPIC, running
from trio.testing import MockClock

from dms.network import MessageHandler, NetworkError
from dms.testing.determinism import repeatable
from dms.testing.network import MemoryNetwork, VirtualNetwork
from dms.types.ids import PeerID

NODES = 6
HEAL_S = 90.0


@dataclass(frozen=True)
class Step:
    """Something that is done to a network, to the nodes with these numbers, and a pause."""

    what: str
    a: int
    b: int
    pause_s: float


STEPS = st.builds(
    Step,
    st.sampled_from(
        ["cut", "cut one way", "heal", "crash", "restart", "send", "publish", "disconnect", "connect", "loss", "jitter"]
    ),
    st.integers(0, NODES - 1),
    st.integers(0, NODES - 1),
    st.sampled_from([0.0, 0.01, 1.0, 6.0]),
)


class Run:
    """A network with a relay, two nodes behind NATs of their own, and everything that they heard."""

    def __init__(self, seed: int, *, gossip: bool) -> None:
        self.network = VirtualNetwork(seed, gossip=gossip)
        self.nodes = [
            self.network.node(number, nat=f"home {number}" if number >= NODES - 2 else "", is_relay=number == 0)
            for number in range(NODES)
        ]
        self.heard: list[tuple[PeerID, PeerID, bytes]] = []
        self._published = 0

    async def begin(self) -> None:
        for node in self.nodes:
            await node.subscribe(TOPIC, self._note(node))
            node.handle(ROOT, self._note(node))

    def _note(self, node: MemoryNetwork) -> MessageHandler:
        async def handle(sender: PeerID, data: bytes) -> None:
            self.heard.append((node.peer_id, sender, data))

        return handle

    async def do(self, step: Step) -> None:
        a, b = self.nodes[step.a], self.nodes[step.b]
        self._published += 1
        text = b"%d" % self._published
        if step.what in ("cut", "cut one way") and a is not b:
            self.network.cut(a, b, one_way=step.what == "cut one way")
        elif step.what == "heal" and a is not b:
            self.network.heal(a, b)
        elif step.what == "crash":
            self.network.crash(a)
        elif step.what == "restart":
            self.network.restart(a)
        elif step.what == "loss":
            self.network.set_loss(step.b / 10)
        elif step.what == "jitter":
            self.network.jitter_s = step.b / 10
        else:
            await self._say(step.what, a, b, text)
        await trio.sleep(step.pause_s)

    async def _say(self, what: str, a: MemoryNetwork, b: MemoryNetwork, text: bytes) -> None:
        try:
            if what == "send":
                await a.send(b.peer_id, ROOT, text, timeout_s=1)
            elif what == "publish":
                await a.publish(TOPIC, text)
            elif what == "disconnect":
                await a.disconnect(b.peer_id)
            elif what == "connect":
                await a.connect(b.peer_id, timeout_s=1)
        except NetworkError:
            return

    def check(self) -> None:
        """Connections have two ends that are up; nobody heard anything twice."""
        for node in self.nodes:
            for peer in node.connections.inbound:
                other = self.network.find(peer)
                assert other is not None
                assert node.is_up
                assert node.peer_id in other.connections.inbound
                assert node.connections.inbound[peer] != other.connections.inbound[node.peer_id]
                relayed = node.connections.relayed.get(peer)
                assert relayed is other.connections.relayed.get(node.peer_id)
                if relayed is not None:
                    assert node.is_connected(relayed.relay)
                    assert other.is_connected(relayed.relay)
                else:
                    assert not (node.nat and other.nat), "nobody gets through two NATs alone"
        assert max(Counter(self.heard).values(), default=1) == 1

    def heal(self) -> None:
        self.network.set_loss(0)
        self.network.jitter_s = 0
        self.network.heal_all()
        for node in self.nodes:
            if node.is_crashed:
                self.network.restart(node)


async def _play(seed: int, steps: list[Step], gossip: bool) -> None:
    run = Run(seed, gossip=gossip)
    await run.begin()
    async with running(*run.nodes, settle_s=3):
        for step in steps:
            await run.do(step)
            run.check()
        run.heal()
        await trio.sleep(HEAL_S)
        run.check()
        for node in run.nodes:  # disconnecting on purpose is not undone by itself
            for other in run.nodes:
                if other is not node:
                    await node.connect(other.peer_id)
        await trio.sleep(HEAL_S)
        run.check()
        before = len(run.heard)
        await run.nodes[1].publish(TOPIC, b"healed")
        await trio.sleep(5)
        assert {node for node, _, text in run.heard[before:] if text == b"healed"} == {n.peer_id for n in run.nodes}
        run.check()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 3), steps=st.lists(STEPS, max_size=25), gossip=st.booleans())
def test_connections_have_two_ends_nothing_is_heard_twice_and_everything_heals(
    seed: int, steps: list[Step], gossip: bool
) -> None:
    with repeatable(seed):
        trio.run(_play, seed, steps, gossip, clock=MockClock(autojump_threshold=0))
