"""Tests of what the twin of the network has beyond the seam; the seam itself is tested in tests/network."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.network import AddressInUse, PeerChange, PeerEvent, PeerUnreachable, Verdict
from dms.network.addresses import parse_peer_id
from dms.testing.network import DETECT_S, RECONNECT_S, MemoryNetwork, VirtualNetwork
from dms.types.errors import BadInput
from dms.types.ids import PeerID

ROOT = "actor/root/messages/0.0.1"
TOPIC = "/nunet/hello"

Heard = tuple[float, PeerID, bytes]


class Mailbox:
    """A handler that notes what came when."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    async def __call__(self, sender: PeerID, data: bytes) -> None:
        self.heard.append((round(trio.current_time(), 3), sender, data))

    @property
    def texts(self) -> list[bytes]:
        return [data for _, _, data in self.heard]


async def start(nursery: trio.Nursery, *nodes: MemoryNetwork) -> None:
    """Run nodes until the nursery ends, and wait until they are connected."""

    async def keep(node: MemoryNetwork) -> None:
        async with node.run():
            await trio.sleep_forever()

    for node in nodes:
        nursery.start_soon(keep, node)
    await trio.sleep(RECONNECT_S)


def test_peer_ids_are_those_of_real_keys_and_follow_from_the_key() -> None:
    one, again = VirtualNetwork().node(bytes(32)), VirtualNetwork().node(bytes(32))
    assert one.peer_id == again.peer_id == "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
    assert parse_peer_id(VirtualNetwork().node("alice").peer_id)
    network = VirtualNetwork()
    network.node("alice")
    with pytest.raises(BadInput):
        network.node("alice")


async def test_running_nodes_are_connected_to_each_other(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    a, b, c = (network.node(name) for name in "abc")
    events = list[PeerEvent]()
    a.listen(events.append)
    async with trio.open_nursery() as nursery:
        await start(nursery, a, b, c)
        assert {info.peer for info in a.peers()} == {b.peer_id, c.peer_id}
        nursery.cancel_scope.cancel()
    kinds = [(event.change, event.peer) for event in events]
    for peer in (b.peer_id, c.peer_id):
        mine = [change for change, one in kinds if one == peer]
        assert mine[:2] == [PeerChange.CONNECTED, PeerChange.IDENTIFIED]


async def test_a_message_takes_the_time_of_its_link(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(delay_s=0.01)
    a, b = network.node("a"), network.node("b")
    network.set_link(a, b, delay_s=0.5)
    mail = Mailbox()
    b.handle(ROOT, mail)
    async with trio.open_nursery() as nursery:
        await start(nursery, a, b)
        sent_s = trio.current_time()
        await a.send(b.peer_id, ROOT, b"x")
        await trio.sleep(1)
        assert mail.heard[0][0] - sent_s == pytest.approx(
            1.5, abs=0.01
        )  # open the stream: there and back; then the message
        assert await a.ping(b.peer_id, timeout_s=2) == 1.0
        with pytest.raises(PeerUnreachable):
            await a.ping(b.peer_id, timeout_s=0.9)
        nursery.cancel_scope.cancel()


async def test_delays_may_depend_on_who_talks_to_whom(autojump_clock: MockClock) -> None:
    remote = list[PeerID]()
    network = VirtualNetwork(delay_s=lambda a, b: 0.2 if {a, b} & set(remote) else 0.1)
    a, b, c = (network.node(name) for name in "abc")
    remote.append(c.peer_id)
    async with trio.open_nursery() as nursery:
        await start(nursery, a, b, c)
        assert await a.ping(b.peer_id) == pytest.approx(0.2)
        assert await a.ping(c.peer_id) == pytest.approx(0.4)
        nursery.cancel_scope.cancel()


async def test_a_cut_link_keeps_messages_waiting_and_loses_the_connection_after_a_while(
    autojump_clock: MockClock,
) -> None:
    network = VirtualNetwork()
    a, b = network.node("a"), network.node("b")
    mail = Mailbox()
    b.handle(ROOT, mail)
    async with trio.open_nursery() as nursery:
        await start(nursery, a, b)
        network.cut(a, b)
        with pytest.raises(PeerUnreachable):
            await a.send(b.peer_id, ROOT, b"lost", timeout_s=1)
        assert a.is_connected(b.peer_id)
        nursery.start_soon(a.send, b.peer_id, ROOT, b"patient")
        await trio.sleep(DETECT_S)
        assert not a.is_connected(b.peer_id)
        assert not b.is_connected(a.peer_id)

        network.heal(a, b)
        await trio.sleep(RECONNECT_S)
        assert a.is_connected(b.peer_id)
        assert mail.texts == [b"patient"]
        nursery.cancel_scope.cancel()


async def test_a_short_cut_is_not_noticed(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    a, b = network.node("a"), network.node("b")
    async with trio.open_nursery() as nursery:
        await start(nursery, a, b)
        network.cut(a, b)
        await trio.sleep(DETECT_S / 2)
        network.heal(a, b)
        await trio.sleep(DETECT_S)
        assert a.counters().get("peers disconnected", 0) == 0
        nursery.cancel_scope.cancel()


async def test_the_sides_of_a_partition_do_not_hear_each_other(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    nodes = [network.node(name) for name in "abcd"]
    mails = [Mailbox() for _ in nodes]
    for node, mail in zip(nodes, mails, strict=True):
        await node.subscribe(TOPIC, mail)
    a, b, c, d = nodes
    async with trio.open_nursery() as nursery:
        await start(nursery, *nodes)
        network.partition([a, b], [c, d])
        await a.publish(TOPIC, b"left")
        await c.publish(TOPIC, b"right")
        await trio.sleep(DETECT_S + 1)
        assert [mail.texts for mail in mails] == [[b"left"], [b"left"], [b"right"], [b"right"]]

        network.heal_all()
        await trio.sleep(RECONNECT_S)
        await d.publish(TOPIC, b"whole")
        await trio.sleep(1)
        assert all(mail.texts[-1] == b"whole" for mail in mails)
        nursery.cancel_scope.cancel()


async def test_a_crash_is_noticed_at_once_and_undone_by_a_restart(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    a, b = network.node("a"), network.node("b")
    mail = Mailbox()
    b.handle(ROOT, mail)
    async with trio.open_nursery() as nursery:
        await start(nursery, a, b)
        network.crash(b)
        assert not a.is_connected(b.peer_id)
        with pytest.raises(PeerUnreachable):
            await a.send(b.peer_id, ROOT, b"x")
        with pytest.raises(PeerUnreachable):
            await b.send(a.peer_id, ROOT, b"x")

        network.restart(b)
        await trio.sleep(RECONNECT_S)
        await a.send(b.peer_id, ROOT, b"back")
        await trio.sleep(1)
        assert mail.texts == [b"back"]
        nursery.cancel_scope.cancel()


async def test_what_is_under_way_to_a_crashed_node_is_lost(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(delay_s=0.1)
    a, b = network.node("a"), network.node("b")
    mail = Mailbox()
    b.handle(ROOT, mail)
    async with trio.open_nursery() as nursery:
        await start(nursery, a, b)
        await a.send(b.peer_id, ROOT, b"x")
        network.crash(b)
        network.restart(b)
        await trio.sleep(1)
        assert mail.texts == []
        nursery.cancel_scope.cancel()


async def test_a_broadcast_goes_only_through_subscribers_that_accept_it(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(mesh=False)
    nodes = [network.node(name) for name in "abc"]
    a, b, c = nodes
    mail = Mailbox()
    await c.subscribe(TOPIC, mail)

    async def ignore(_sender: PeerID, _data: bytes) -> None:
        return

    async with trio.open_nursery() as nursery:
        await start(nursery, *nodes)
        await a.connect(b.listen_addresses[0])
        await b.connect(c.listen_addresses[0])
        await a.publish(TOPIC, b"b does not subscribe")
        await trio.sleep(1)
        await b.subscribe(TOPIC, ignore, lambda _relay, data: Verdict.ACCEPT if data == b"good" else Verdict.REJECT)
        await a.publish(TOPIC, b"bad")
        await a.publish(TOPIC, b"good")
        await trio.sleep(1)
        assert mail.texts == [b"good"]
        assert mail.heard[0][1] == a.peer_id
        nursery.cancel_scope.cancel()


async def test_two_nodes_cannot_listen_at_one_address(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    a = network.node("a", listen=["/ip4/10.0.0.9/tcp/1"])
    b = network.node("b", listen=["/ip4/10.0.0.9/tcp/1"])
    async with a.run():
        with pytest.raises(AddressInUse, match=r"/ip4/10\.0\.0\.9/tcp/1"):
            async with b.run():
                pass


async def _storm(seed: int) -> tuple[list[list[Heard]], list[dict[str, int]]]:
    """Many messages and broadcasts over lossy links."""
    network = VirtualNetwork(seed, delay_s=lambda a, b: 0.01 + (ord(a[-1]) + ord(b[-1])) % 7 / 1000, loss=0.3)
    nodes = [network.node(number) for number in range(6)]
    mails = [Mailbox() for _ in nodes]
    for node, mail in zip(nodes, mails, strict=True):
        node.handle(ROOT, mail)
        await node.subscribe(TOPIC, mail)
    async with trio.open_nursery() as nursery:
        await start(nursery, *nodes)
        for number in range(30):
            sender, target = nodes[number % 6], nodes[(number * 5 + 1) % 6]
            await sender.send(target.peer_id, ROOT, b"direct %d" % number)
            await sender.publish(TOPIC, b"broadcast %d" % number)
        await trio.sleep(5)
        counters = [node.counters() for node in nodes]
        nursery.cancel_scope.cancel()
    return [mail.heard for mail in mails], counters


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> tuple[list[list[Heard]], list[dict[str, int]]]:
        return trio.run(_storm, seed, clock=MockClock(autojump_threshold=0))

    first = run(1)
    assert any(counters.get("gossip lost") for counters in first[1])
    assert any(counters.get("messages lost") for counters in first[1])
    assert run(1) == first
    assert run(2) != first
