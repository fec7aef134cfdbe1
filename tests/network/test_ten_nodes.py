"""Ten real nodes in one process that know one address: they grow together, lose a third, heal.

The same with fifty virtual ones is in :mod:`tests.network.test_fifty_nodes`.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio
from tests.network.waiting import until

from dms.network import MessageHandler
from dms.network.libp2p import Libp2pNetwork
from dms.types.ids import PeerID

TOPIC = "/nunet/deployment"
COUNT = 10
ENOUGH, IN_MESH = 5, 3


class Node:
    """One node that can be killed and started again, with two handlers of one topic."""

    def __init__(self, number: int, listen: str, bootstrap: list[str]) -> None:
        self.network = Libp2pNetwork(
            seed=(7000 + number).to_bytes(32, "big"), listen=[listen], bootstrap=bootstrap, rng=random.Random(number)
        )
        self.got: tuple[Counter[bytes], Counter[bytes]] = (Counter(), Counter())

    async def listen(self) -> None:
        for got in self.got:
            await self.network.subscribe(TOPIC, _counting(got))

    async def serve(self, over: trio.Event, started: trio.Event) -> None:
        async with self.network.run():
            started.set()
            await over.wait()


def _counting(got: Counter[bytes]) -> MessageHandler:
    async def handle(_sender: PeerID, data: bytes) -> None:
        got[data] += 1

    return handle


class Crowd:
    """The nodes that run now."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._over: dict[int, trio.Event] = {}
        self._ended: dict[int, trio.Event] = {}
        self.nodes: list[Node] = []

    @property
    def up(self) -> list[Node]:
        return [self.nodes[number] for number in sorted(self._over)]

    async def start(self, number: int) -> None:
        self._over[number], self._ended[number], started = trio.Event(), trio.Event(), trio.Event()

        async def live() -> None:
            await self.nodes[number].serve(over, started)
            ended.set()

        over, ended = self._over[number], self._ended[number]
        self._nursery.start_soon(live)
        await started.wait()

    async def stop(self, number: int) -> None:
        self._over.pop(number).set()
        await self._ended.pop(number).wait()

    async def everybody_hears(self, what: bytes) -> None:
        """Of what three publish everybody who is up hears everything, each handler once."""
        texts = [b"%s %d" % (what, number) for number in range(3)]
        for node, text in zip(self.up[:: len(self.up) // 3], texts, strict=False):
            await node.network.publish(TOPIC, text)
        await until(lambda: all(got[text] for node in self.up for got in node.got for text in texts))
        await trio.sleep(1.2)  # a heartbeat: what would come twice comes by now
        assert {got[text] for node in self.up for got in node.got for text in texts} == {1}

    def has_grown_together(self) -> bool:
        """Everybody is connected to most others and to nobody who is gone, and has some in its mesh."""
        ids = {node.network.peer_id for node in self.up}
        peers = [{info.peer for info in node.network.peers()} for node in self.up]
        return all(len(some) >= ENOUGH and some <= ids for some in peers) and all(
            sum(TOPIC in score.topics for score in node.network.scores().values()) >= IN_MESH for node in self.up
        )


@pytest.mark.long("tests/network/test_fifty_nodes.py")
async def test_ten_nodes_grow_together_lose_a_third_and_heal() -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        crowd.nodes.append(Node(0, "/ip4/127.0.0.1/tcp/0", []))
        await crowd.nodes[0].listen()
        await crowd.start(0)
        address = crowd.nodes[0].network.listen_addresses[0]
        for number in range(1, COUNT):
            crowd.nodes.append(Node(number, "/ip4/127.0.0.1/tcp/0", [address]))
            await crowd.nodes[number].listen()
            await crowd.start(number)
        await until(crowd.has_grown_together)
        await crowd.everybody_hears(b"grown")

        for number in (0, 4, 7):
            await crowd.stop(number)
        await until(crowd.has_grown_together)
        await crowd.everybody_hears(b"less")

        listen, peer = address.split("/p2p/")
        crowd.nodes[0] = Node(0, listen, [])
        assert crowd.nodes[0].network.peer_id == peer
        await crowd.nodes[0].listen()
        await crowd.start(0)
        for number in (4, 7):
            await crowd.start(number)
        await until(crowd.has_grown_together)
        await crowd.everybody_hears(b"whole")
        for node in crowd.up:
            assert node.network.counters().get("tasks failed", 0) == 0
        nursery.cancel_scope.cancel()
