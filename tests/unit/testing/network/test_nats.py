"""Nodes of the twin that cannot be dialled."""

from __future__ import annotations

import pytest
import trio
from tests.unit.testing.network.running import ROOT, TOPIC, Mailbox, running
from trio.testing import MockClock

from dms.network import ByteStream, PeerUnreachable, StreamEnded
from dms.testing.network import MemoryNetwork, VirtualNetwork


def home(network: VirtualNetwork, *, relay: bool) -> tuple[MemoryNetwork, MemoryNetwork, MemoryNetwork]:
    """A public node, and two behind NATs of their own."""
    public = network.node("public", is_relay=relay)
    return public, network.node("a", nat="of a"), network.node("b", nat="of b")


async def test_who_is_behind_a_nat_dials_out_and_is_not_dialled(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(mesh=False)
    public, a, _ = home(network, relay=False)
    mail = Mailbox()
    a.handle(ROOT, mail)
    async with running(public, a):
        address = a.listen_addresses[0]
        with pytest.raises(PeerUnreachable):
            await public.connect(address)
        await a.connect(public.listen_addresses[0])
        assert [info.inbound for info in public.peers()] == [True]
        await public.send(a.peer_id, ROOT, b"over the connection that it made")
        await trio.sleep(1)
    assert mail.texts == [b"over the connection that it made"]


async def test_nodes_behind_the_same_nat_reach_each_other(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(mesh=False)
    one, other = network.node("one", nat="home"), network.node("other", nat="home")
    async with running(one, other):
        await one.connect(other.listen_addresses[0])
        assert not one.peers()[0].is_relayed


async def test_two_behind_nats_do_not_meet_without_a_relay(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    public, a, b = home(network, relay=False)
    async with running(public, a, b, settle_s=10):
        assert {info.peer for info in a.peers()} == {public.peer_id}
        with pytest.raises(PeerUnreachable):
            await a.send(b.peer_id, ROOT, b"x", timeout_s=5)


async def test_a_relay_carries_messages_broadcasts_and_streams_and_is_told_of(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(delay_s=0.1, mesh=False)
    network.relay_delay_s = 0.05
    public, a, b = home(network, relay=True)
    mail, heard = Mailbox(), Mailbox()
    b.handle(ROOT, mail)
    await b.subscribe(TOPIC, heard)
    async with running(public, a, b):
        for node in (a, b):
            await node.connect(public.listen_addresses[0])
        started_s = trio.current_time()
        await a.send(b.peer_id, ROOT, b"x")
        await a.publish(TOPIC, b"y")
        await trio.sleep(1)
        assert mail.heard[0][0] - started_s == pytest.approx(3 * 0.25, abs=0.01), "there, back, and the message"
        assert heard.texts == [b"y"]
        (info,) = [info for info in a.peers() if info.peer == b.peer_id]
        assert info.is_relayed
        assert info.addresses == (f"{public.listen_addresses[0]}/p2p-circuit/p2p/{b.peer_id}",)
        assert await a.ping(b.peer_id) == pytest.approx(0.5)
        assert not any(info.is_relayed for info in public.peers())

        async def serve(_stream: ByteStream) -> None:
            await trio.sleep_forever()

        b.streams.handle("/x/1", serve)
        assert (await a.streams.open(b.peer_id, "/x/1")).is_relayed


async def test_a_relay_ends_a_connection_at_its_limits_and_can_be_used_again(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(mesh=False)
    network.relay_limit_bytes = 10_000
    network.relay_limit_s = 60
    public, a, b = home(network, relay=True)
    mail = Mailbox()
    b.handle(ROOT, mail)
    ended = trio.Event()

    async def read(stream: ByteStream) -> None:
        try:
            while await stream.read(100_000):
                pass
        except StreamEnded:
            ended.set()

    b.streams.handle("/x/1", read)
    async with running(public, a, b):
        for node in (a, b):
            await node.connect(public.listen_addresses[0])
        await a.send(b.peer_id, ROOT, bytes(6000))
        assert a.is_connected(b.peer_id)
        await a.send(b.peer_id, ROOT, bytes(6000))
        assert not a.is_connected(b.peer_id)
        await a.send(b.peer_id, ROOT, bytes(6000))
        await trio.sleep(1)
        assert len(mail.texts) == 2, "the second was too much"

        stream = await a.streams.open(b.peer_id, "/x/1")
        for _ in range(5):  # the last message left room for four
            await stream.write(bytes(1000))
        with pytest.raises(StreamEnded):
            await stream.write(bytes(1000))
        await ended.wait()

        await a.send(b.peer_id, ROOT, b"x")
        await trio.sleep(59)
        assert a.is_connected(b.peer_id)
        await trio.sleep(2)
        assert not a.is_connected(b.peer_id)
        assert a.is_connected(public.peer_id)


async def test_without_its_relay_a_relayed_connection_ends(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    public, a, b = home(network, relay=True)
    async with running(public, a, b, settle_s=5):
        assert a.is_connected(b.peer_id), "in a mesh they find each other by themselves"
        network.crash(public)
        assert not a.is_connected(b.peer_id)
        network.restart(public)
        await trio.sleep(5)
        assert a.is_connected(b.peer_id)


async def test_the_nearer_of_two_relays_is_taken(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(delay_s=0.1, mesh=False)
    far, near = network.node("far", is_relay=True), network.node("near", is_relay=True)
    a, b = network.node("a", nat="of a"), network.node("b", nat="of b")
    network.set_link(a, near, delay_s=0.01)
    async with running(far, near, a, b):
        for node in (a, b):
            for relay in (far, near):
                await node.connect(relay.listen_addresses[0])
        await a.connect(b.peer_id)
        assert a.connections.relayed[b.peer_id].relay == near.peer_id
