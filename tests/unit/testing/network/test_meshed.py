"""Broadcasts through meshes, in the twin."""

from __future__ import annotations

import pytest
import trio
from tests.unit.testing.network.running import TOPIC, Mailbox, running
from trio.testing import MockClock

from dms.network import Verdict
from dms.network.errors import MessageTooLarge
from dms.network.framing import MAX_GOSSIP_BYTES
from dms.testing.determinism import repeatable
from dms.testing.network import MemoryNetwork, VirtualNetwork
from dms.types.ids import PeerID


async def listening(network: VirtualNetwork, count: int) -> tuple[list[MemoryNetwork], list[Mailbox]]:
    nodes = [network.node(number) for number in range(count)]
    mails = [Mailbox() for _ in nodes]
    for node, mail in zip(nodes, mails, strict=True):
        await node.subscribe(TOPIC, mail)
    return nodes, mails


def copies(nodes: list[MemoryNetwork]) -> int:
    return sum(node.counters().get("gossip copies out", 0) for node in nodes)


async def test_everybody_hears_a_broadcast_once_at_the_cost_of_a_mesh(autojump_clock: MockClock) -> None:
    nodes, mails = await listening(VirtualNetwork(gossip=True), 30)
    async with running(*nodes, settle_s=5):
        await nodes[3].publish(TOPIC, b"x")
        await trio.sleep(5)
        assert [mail.texts for mail in mails] == [[b"x"]] * 30
        assert 29 <= copies(nodes) < 30 * 13


async def test_losses_in_the_mesh_are_mended_by_gossip(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(gossip=True)
    nodes, mails = await listening(network, 20)
    async with running(*nodes, settle_s=5):
        network.set_loss(0.4)
        for number in range(20):
            await nodes[number].publish(TOPIC, b"%d" % number)
        await trio.sleep(10)
    assert all(sorted(mail.texts) == sorted(b"%d" % number for number in range(20)) for mail in mails)
    assert sum(node.counters()["gossip copies lost"] for node in nodes) > 100


async def test_the_node_that_floods_its_peers_with_rejected_messages_is_graylisted(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(gossip=True, delay_s=0.01)
    nodes = [network.node(number) for number in range(5)]
    flooder = nodes[0]
    mails = [Mailbox() for _ in nodes]

    def judge(_relay: PeerID, data: bytes) -> Verdict:
        return Verdict.REJECT if data.startswith(b"bad") else Verdict.ACCEPT

    await flooder.subscribe(TOPIC, mails[0])
    for node, mail in zip(nodes[1:], mails[1:], strict=True):
        await node.subscribe(TOPIC, mail, judge)
    async with running(*nodes, settle_s=5):
        for number in range(20):
            await flooder.publish(TOPIC, b"bad %d" % number)
            await trio.sleep(0.1)
        await flooder.publish(TOPIC, b"good")
        await nodes[1].publish(TOPIC, b"of somebody else")
        await trio.sleep(2)
        assert [mail.texts for mail in mails[1:]] == [[b"of somebody else"]] * 4
        score = nodes[1].scores()[flooder.peer_id]
        assert score.total < -2500
        assert score.topics[TOPIC].invalid_messages >= 1
        assert all(one.total >= 0 for peer, one in nodes[1].scores().items() if peer != flooder.peer_id)


async def test_what_is_too_long_is_refused_and_unsubscribing_ends_it(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(gossip=True)
    a, b = network.node("a"), network.node("b")
    mail = Mailbox()
    number = await b.subscribe(TOPIC, mail)
    async with running(a, b, settle_s=2):
        with pytest.raises(MessageTooLarge):
            await a.publish(TOPIC, bytes(MAX_GOSSIP_BYTES + 1))
        await a.publish(TOPIC, b"one")
        await trio.sleep(1)
        await b.unsubscribe(number)
        await trio.sleep(1)
        await a.publish(TOPIC, b"two")
        await trio.sleep(1)
        assert mail.texts == [b"one"]
        assert a.counters().get("gossip copies out") == 1


async def _storm(seed: int) -> list[list[tuple[float, PeerID, bytes]]]:
    network = VirtualNetwork(seed, gossip=True, loss=0.2)
    network.jitter_s = 0.05
    nodes, mails = await listening(network, 10)
    async with running(*nodes, settle_s=3):
        network.partition(nodes[:3], nodes[3:])
        for number in range(30):
            await nodes[number % 10].publish(TOPIC, b"%d" % number)
            await trio.sleep(0.3)
        network.heal_all()
        await trio.sleep(5)
    return [mail.heard for mail in mails]


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[list[tuple[float, PeerID, bytes]]]:
        with repeatable(seed):
            return trio.run(_storm, seed, clock=MockClock(autojump_threshold=0))

    first = run(1)
    assert run(1) == first
    assert run(2) != first
