"""A network of fifty nodes that know one address: it grows together, loses a third, heals.

On the virtual network with the router of real nodes; the same with ten real ones is in :mod:`tests.network.test_ten_nodes`.
"""

from __future__ import annotations

import random
from collections import Counter

import trio
from tests.unit.testing.network.running import running
from trio.testing import MockClock

from dms.network import MessageHandler
from dms.testing.network import MemoryNetwork, VirtualNetwork
from dms.types.ids import PeerID

TOPIC = "/nunet/deployment"
COUNT = 50


class Crowd:
    """Fifty nodes, two handlers of one topic at each, and what came to them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.network = VirtualNetwork(
            seed,
            delay_s=lambda a, b: 0.005 + (ord(a[-1]) * ord(b[-1])) % 50 / 1000,
            mesh=False,
            explore=True,
            gossip=True,
        )
        self.network.jitter_s = 0.01
        first = self.network.node(0)
        address = f"/ip4/10.0.0.1/tcp/9000/p2p/{first.peer_id}"
        self.nodes = [first, *(self.network.node(number, bootstrap=[address]) for number in range(1, COUNT))]
        self.got: dict[tuple[PeerID, int], Counter[bytes]] = {}

    async def listen(self) -> None:
        for node in self.nodes:
            for handler in (1, 2):
                got = self.got[node.peer_id, handler] = Counter()
                await node.subscribe(TOPIC, _counting(got))

    @property
    def up(self) -> list[MemoryNetwork]:
        return [node for node in self.nodes if node.is_up]

    def parts(self) -> list[set[PeerID]]:
        """The nodes that are up, by who reaches whom over connections."""
        left = {node.peer_id: node for node in self.up}
        found = []
        while left:
            part, new = set[PeerID](), {next(iter(left))}
            while new:
                part |= new
                new = {info.peer for peer in new for info in left[peer].peers()} - part
            for peer in part:
                del left[peer]
            found.append(part)
        return found

    async def everybody_hears(self, what: bytes, publishers: int = 5, *, within_s: float = 10.0) -> None:
        """Of what some publish everybody who is up hears everything, each handler once."""
        chosen = self.rng.sample(self.up, publishers)
        for number, node in enumerate(chosen):
            await node.publish(TOPIC, b"%s %d" % (what, number))
        await trio.sleep(within_s)
        expected = {b"%s %d" % (what, number): 1 for number in range(publishers)}
        for node in self.up:
            for handler in (1, 2):
                got = self.got[node.peer_id, handler]
                assert {text: count for text, count in got.items() if text.startswith(what)} == expected


def _counting(got: Counter[bytes]) -> MessageHandler:
    async def handle(_sender: PeerID, data: bytes) -> None:
        got[data] += 1

    return handle


async def test_fifty_nodes_grow_together_lose_a_third_and_heal(autojump_clock: MockClock) -> None:
    crowd = Crowd(1)
    await crowd.listen()
    async with running(*crowd.nodes, settle_s=30):
        assert len(crowd.parts()) == 1
        assert min(len(node.peers()) for node in crowd.nodes) >= 5
        await crowd.everybody_hears(b"grown")

        # A third goes, the address that everybody knows among them.
        lost = [crowd.nodes[0], *crowd.rng.sample(crowd.nodes[1:], COUNT // 3 - 1)]
        for node in lost:
            crowd.network.crash(node)
        await trio.sleep(15)
        assert len(crowd.up) == COUNT - COUNT // 3
        assert len(crowd.parts()) == 1, "nobody stays isolated"
        await crowd.everybody_hears(b"less")

        for node in lost:
            crowd.network.restart(node)
        await trio.sleep(30)
        assert len(crowd.parts()) == 1
        assert min(len(node.peers()) for node in crowd.nodes) >= 5
        await crowd.everybody_hears(b"whole")
        assert max(score.total for node in crowd.nodes for score in node.scores().values()) > 0
        assert min(score.total for node in crowd.nodes for score in node.scores().values()) >= 0


async def test_fifty_nodes_torn_in_two_find_each_other_again(autojump_clock: MockClock) -> None:
    crowd = Crowd(3)
    await crowd.listen()
    async with running(*crowd.nodes, settle_s=30):
        left, right = crowd.nodes[:20], crowd.nodes[20:]
        crowd.network.partition(left, right)
        await trio.sleep(30)
        assert len(crowd.parts()) == 2
        await left[3].publish(TOPIC, b"left")
        await trio.sleep(10)
        heard = {peer for (peer, _), got in crowd.got.items() if got[b"left"]}
        assert heard == {node.peer_id for node in left}
        crowd.network.heal_all()
        await trio.sleep(30)
        assert len(crowd.parts()) == 1
        await crowd.everybody_hears(b"whole")


async def test_messages_reach_all_over_bad_links(autojump_clock: MockClock) -> None:
    crowd = Crowd(4)
    await crowd.listen()
    async with running(*crowd.nodes, settle_s=20):
        crowd.network.set_loss(0.25)
        await crowd.everybody_hears(b"lossy", 10, within_s=20)
