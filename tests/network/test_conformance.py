"""What every implementation of the network does; run against the real one (loopback sockets) and its twin in memory."""

from __future__ import annotations

import random

import pytest
import trio
from tests.network.worlds import Mailbox, World, any_size, running, until

from dms.network import (
    MAX_LARGE_MESSAGE_BYTES,
    MAX_MESSAGE_BYTES,
    AddressInUse,
    AlreadyHandled,
    BadFrame,
    InvalidAddress,
    MessageTooLarge,
    Network,
    NotRunning,
    PeerChange,
    PeerEvent,
    PeerUnreachable,
    Verdict,
)
from dms.network.framing import HEADER_BYTES, MAX_GOSSIP_BYTES
from dms.network.libp2p import Libp2pNetwork
from dms.network.reachability import Reach
from dms.testing.network import VirtualNetwork
from dms.types.ids import PeerID

ROOT = "actor/root/messages/0.0.1"
TOPIC = "/nunet/hello"
STRANGER = PeerID("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3")


# point to point ------------------------------------------------------------------------------------------------------


async def test_how_others_reach_a_node_is_not_known_before_anybody_could_tell(world: World) -> None:
    alone = world.make()
    assert alone.reachability.report().status is Reach.UNKNOWN
    async with running(alone):
        assert alone.reachability.report().announced == alone.listen_addresses
        report = await alone.reachability.probe(timeout_s=5)
        assert (report.status, report.confidence, report.relays) == (Reach.UNKNOWN, 0, ())
        assert report.why
        assert alone.reachability.public_ip() is None
    assert alone.reachability.report().announced == ()


async def test_a_message_arrives_whole_with_its_authenticated_sender(world: World) -> None:
    a, b = await world.pair()
    mail = Mailbox()
    a.handle(ROOT, mail, max_bytes=any_size)

    await b.send(a.peer_id, ROOT, b"\x00\xffhello")

    assert await mail.wait_for(1) == [(b.peer_id, b"\x00\xffhello")]


async def test_messages_go_in_both_directions_of_one_connection(world: World) -> None:
    a, b = await world.pair()
    mail = Mailbox()
    b.handle(ROOT, mail, max_bytes=any_size)

    await a.send(b.peer_id, ROOT, b"back")

    assert await mail.wait_for(1) == [(a.peer_id, b"back")]


async def test_the_largest_message_arrives_and_one_byte_more_is_refused(world: World) -> None:
    a, b = await world.pair()
    mail = Mailbox()
    a.handle(ROOT, mail, max_bytes=any_size)
    await until(lambda: b.message_limit_bytes(a.peer_id) == MAX_LARGE_MESSAGE_BYTES)
    largest = random.Random(1).randbytes(MAX_LARGE_MESSAGE_BYTES)

    await b.send(a.peer_id, ROOT, largest)
    with pytest.raises(MessageTooLarge):
        await b.send(a.peer_id, ROOT, largest + b"x")

    assert await mail.wait_for(1) == [(b.peer_id, largest)]


async def test_peers_that_speak_only_the_originals_protocol_take_a_mebibyte(world: World) -> None:
    a, b = await world.start(original=True), await world.start()
    await b.connect(a.listen_addresses[0])
    mail = Mailbox()
    a.handle(ROOT, mail, max_bytes=any_size)
    largest = bytes(MAX_MESSAGE_BYTES - HEADER_BYTES)

    assert b.message_limit_bytes(a.peer_id) == len(largest)
    await b.send(a.peer_id, ROOT, largest)
    with pytest.raises(MessageTooLarge, match="takes 1048576"):
        await b.send(a.peer_id, ROOT, largest + b"x")

    assert await mail.wait_for(1) == [(b.peer_id, largest)]


async def test_an_inbox_takes_large_messages_of_those_only_of_whom_it_says_so(world: World) -> None:
    a, b = await world.pair()
    c = await world.start()
    await c.connect(a.listen_addresses[0])
    mail = Mailbox()
    a.handle(ROOT, mail, max_bytes=lambda peer: 3 << 20 if peer == b.peer_id else 0)
    for node in (b, c):
        await until(lambda node=node: node.message_limit_bytes(a.peer_id) == MAX_LARGE_MESSAGE_BYTES)  # type: ignore[misc]

    await b.send(a.peer_id, ROOT, bytes(3 << 20))
    await c.send(a.peer_id, ROOT, bytes(1 << 19))
    for node, size in ((b, (3 << 20) + 1), (c, 3 << 20)):
        with pytest.raises(MessageTooLarge):
            await node.send(a.peer_id, ROOT, bytes(size))

    assert [len(data) for _, data in await mail.wait_for(2)] == [3 << 20, 1 << 19]


async def test_messages_to_one_inbox_stay_in_order(world: World) -> None:
    a, b = await world.pair()
    mail = Mailbox()
    a.handle(ROOT, mail, max_bytes=any_size)
    sizes = [10, 300_000, 10, 2_000_000, 10, 70_000, 10]

    for number, size in enumerate(sizes * 5):
        await b.send(a.peer_id, ROOT, bytes([number + 1]) * size)

    got = await mail.wait_for(len(sizes) * 5)
    assert [data[0] for _, data in got] == list(range(1, len(sizes) * 5 + 1))
    assert [len(data) for _, data in got] == sizes * 5


async def test_an_empty_message_is_refused(world: World) -> None:
    a, b = await world.pair()
    a.handle(ROOT, Mailbox(), max_bytes=any_size)

    with pytest.raises(BadFrame):
        await b.send(a.peer_id, ROOT, b"")


async def test_a_message_to_the_own_id_is_delivered_locally(world: World) -> None:
    a = await world.start()
    mail = Mailbox()
    a.handle(ROOT, mail, max_bytes=any_size)

    await a.send(a.peer_id, ROOT, b"me")
    await a.send(a.peer_id, "actor/nobody/messages/0.0.1", b"dropped")
    with pytest.raises(MessageTooLarge):
        await a.send(a.peer_id, ROOT, bytes(MAX_LARGE_MESSAGE_BYTES + 1))

    assert await mail.wait_for(1) == [(a.peer_id, b"me")]


async def test_a_protocol_has_one_handler_at_a_time(world: World) -> None:
    a, b = await world.pair()
    first, second = Mailbox(), Mailbox()
    a.handle(ROOT, first, max_bytes=any_size)
    with pytest.raises(AlreadyHandled):
        a.handle(ROOT, second, max_bytes=any_size)

    a.unhandle(ROOT)
    a.unhandle("actor/unknown/messages/0.0.1")
    a.handle(ROOT, second, max_bytes=any_size)
    await b.send(a.peer_id, ROOT, b"x")

    assert await second.wait_for(1) == [(b.peer_id, b"x")]
    assert first.got == []


async def test_sending_on_a_protocol_that_the_peer_does_not_handle_fails(world: World) -> None:
    a, b = await world.pair()
    a.handle(ROOT, Mailbox(), max_bytes=any_size)
    a.unhandle(ROOT)

    with pytest.raises(PeerUnreachable):
        await b.send(a.peer_id, ROOT, b"x")


async def test_sending_to_an_unknown_peer_fails(world: World) -> None:
    _, b = await world.pair()

    with pytest.raises(PeerUnreachable):
        await b.send(STRANGER, ROOT, b"x")


async def test_sending_to_a_peer_that_has_gone_fails(world: World) -> None:
    a = await world.start()
    b = world.make()
    async with b.run():
        await b.connect(a.listen_addresses[0])
        await until(lambda: a.is_connected(b.peer_id))

    await until(lambda: not a.is_connected(b.peer_id))
    with pytest.raises(PeerUnreachable):
        await a.send(b.peer_id, ROOT, b"x")


async def test_a_handler_that_raises_harms_nobody(world: World) -> None:
    a, b = await world.pair()
    mail = Mailbox()

    async def broken(_sender: PeerID, _data: bytes) -> None:
        raise RuntimeError("a defect in a handler")

    a.handle("actor/broken/messages/0.0.1", broken)
    a.handle(ROOT, mail, max_bytes=any_size)

    await b.send(a.peer_id, "actor/broken/messages/0.0.1", b"x")
    await b.send(a.peer_id, ROOT, b"y")

    assert await mail.wait_for(1) == [(b.peer_id, b"y")]
    await until(lambda: a.counters().get("handlers failed") == 1)


async def test_many_messages_at_once_all_arrive(world: World) -> None:
    a, b = await world.pair()
    mail = Mailbox()
    a.handle(ROOT, mail, max_bytes=any_size)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(b.send, a.peer_id, ROOT, b"%d" % number)

    got = await mail.wait_for(40)
    assert sorted(int(data) for _, data in got) == list(range(40))


# broadcast -----------------------------------------------------------------------------------------------------------


async def test_a_broadcast_reaches_every_subscriber_and_its_publisher(world: World) -> None:
    a, b = await world.pair()
    of_a, of_b = Mailbox(), Mailbox()
    await a.subscribe(TOPIC, of_a)
    await b.subscribe(TOPIC, of_b)

    await b.publish(TOPIC, b"hello")

    assert await of_a.wait_for(1) == [(b.peer_id, b"hello")]
    assert await of_b.wait_for(1) == [(b.peer_id, b"hello")]


async def test_who_unsubscribed_hears_no_more(world: World) -> None:
    a, b = await world.pair()
    first, second = Mailbox(), Mailbox()
    number = await a.subscribe(TOPIC, first)
    await a.subscribe(TOPIC, second)

    await b.publish(TOPIC, b"one")
    await first.wait_for(1)
    await a.unsubscribe(number)
    await a.unsubscribe(number)
    await b.publish(TOPIC, b"two")

    assert [data for _, data in await second.wait_for(2)] == [b"one", b"two"]
    assert [data for _, data in first.got] == [b"one"]


async def test_a_publisher_need_not_subscribe(world: World) -> None:
    a, b = await world.pair()
    mail = Mailbox()
    await a.subscribe(TOPIC, mail)

    await b.publish(TOPIC, b"from outside")

    assert await mail.wait_for(1) == [(b.peer_id, b"from outside")]


async def test_only_accepted_broadcasts_are_delivered(world: World) -> None:
    a, b = await world.pair()
    mail, asked = Mailbox(), list[tuple[PeerID, bytes]]()

    def judge(relay: PeerID, data: bytes) -> Verdict:
        asked.append((relay, data))
        return Verdict(data.decode())

    await a.subscribe(TOPIC, mail, judge)
    for verdict in Verdict:
        await b.publish(TOPIC, verdict.value.encode())

    await until(lambda: len(asked) == 3)
    assert await mail.wait_for(1) == [(b.peer_id, b"accept")]
    assert {relay for relay, _ in asked} == {b.peer_id}
    await until(lambda: {f"gossip in: {v.value}" for v in Verdict} <= a.counters().keys())


async def test_a_validator_that_raises_drops_its_message_only(world: World) -> None:
    a, b = await world.pair()
    mail = Mailbox()

    def judge(_relay: PeerID, data: bytes) -> Verdict:
        if data == b"bad":
            raise RuntimeError("a defect in a validator")
        return Verdict.ACCEPT

    await a.subscribe(TOPIC, mail, judge)
    await b.publish(TOPIC, b"bad")
    await b.publish(TOPIC, b"good")

    assert await mail.wait_for(1) == [(b.peer_id, b"good")]
    await until(lambda: a.counters().get("validators failed") == 1)


async def test_a_broadcast_over_the_limit_is_refused(world: World) -> None:
    a = await world.start()
    with pytest.raises(MessageTooLarge):
        await a.publish(TOPIC, bytes(MAX_GOSSIP_BYTES + 1))


async def test_subscriptions_and_handlers_made_before_the_start_count(world: World) -> None:
    a = world.make()
    direct, broadcast = Mailbox(), Mailbox()
    a.handle(ROOT, direct, max_bytes=any_size)
    await a.subscribe(TOPIC, broadcast)
    b = await world.start()

    async with a.run():
        await b.connect(a.listen_addresses[0])
        await b.send(a.peer_id, ROOT, b"x")
        await b.publish(TOPIC, b"y")

        assert await direct.wait_for(1) == [(b.peer_id, b"x")]
        assert await broadcast.wait_for(1) == [(b.peer_id, b"y")]


# peers ---------------------------------------------------------------------------------------------------------------


async def test_connecting_by_address_returns_the_id_and_can_be_repeated(world: World) -> None:
    a, b = await world.start(), await world.start()

    assert await b.connect(a.listen_addresses[0]) == a.peer_id
    assert await b.connect(a.listen_addresses[0]) == a.peer_id

    assert b.is_connected(a.peer_id)
    assert [info.peer for info in b.peers()] == [a.peer_id]


async def test_connecting_by_a_bare_id_works_once_its_address_is_known(world: World) -> None:
    a, b = await world.pair()
    await b.disconnect(a.peer_id)
    await until(lambda: not b.is_connected(a.peer_id))

    assert await b.connect(a.peer_id) == a.peer_id
    with pytest.raises(PeerUnreachable):
        await b.connect(STRANGER)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "/ip4/127.0.0.1/tcp/9000",
        "/ip4/1.2.3/tcp/1/p2p/x",
        "/p2p/" + STRANGER,
        "/ip4/127.0.0.1/tcp/1/p2p/Qm",
    ],
)
async def test_a_malformed_address_is_refused_with_a_reason(world: World, address: str) -> None:
    a = await world.start()
    with pytest.raises(InvalidAddress):
        await a.connect(address)


async def test_somebody_else_at_the_address_is_refused(world: World) -> None:
    a, b = await world.start(), await world.start()
    base = a.listen_addresses[0].rpartition("/p2p/")[0]

    with pytest.raises(PeerUnreachable):
        await b.connect(f"{base}/p2p/{STRANGER}")

    assert not b.is_connected(STRANGER)
    assert not b.is_connected(a.peer_id)


async def test_nobody_at_the_address_is_an_error(world: World) -> None:
    a = await world.start()
    with pytest.raises(PeerUnreachable):
        await a.connect(f"/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}")


async def test_a_node_does_not_dial_itself(world: World) -> None:
    a = await world.start()
    with pytest.raises(PeerUnreachable, match="can't dial self"):
        await a.connect(a.listen_addresses[0])


async def test_a_ping_measures_a_round_trip(world: World) -> None:
    a, b = await world.pair()

    rtt_s = await b.ping(a.peer_id)

    assert 0 < rtt_s < 1
    (info,) = b.peers()
    assert info.rtt_s is not None


async def test_pinging_oneself_or_nobody_is_an_error(world: World) -> None:
    a = await world.start()
    with pytest.raises(PeerUnreachable, match="can't ping self"):
        await a.ping(a.peer_id)
    with pytest.raises(PeerUnreachable):
        await a.ping(STRANGER)


async def test_peers_tells_who_opened_the_connection_and_what_the_peer_speaks(world: World) -> None:
    a, b = await world.pair()
    a.handle(ROOT, Mailbox(), max_bytes=any_size)
    await until(lambda: a.is_connected(b.peer_id))

    (of_a,), (of_b,) = a.peers(), b.peers()

    assert (of_a.peer, of_a.inbound) == (b.peer_id, True)
    assert (of_b.peer, of_b.inbound) == (a.peer_id, False)
    assert all(address.endswith(f"/p2p/{a.peer_id}") for address in of_b.addresses)
    assert of_b.addresses
    for info in (of_a, of_b):
        assert (info.transport, info.is_relayed) == ("tcp", False)
        assert 0 <= info.since_s <= trio.current_time()


async def test_changes_are_told_in_order_until_nobody_listens(world: World) -> None:
    a, b = await world.start(), await world.start()
    events = list[PeerEvent]()
    end = a.listen(events.append)

    await b.connect(a.listen_addresses[0])
    await until(lambda: len(events) == 2)
    await b.disconnect(a.peer_id)
    await until(lambda: len(events) == 3)
    end()
    await b.connect(a.listen_addresses[0])
    await until(lambda: a.is_connected(b.peer_id))

    assert events == [
        PeerEvent(change, b.peer_id)
        for change in (PeerChange.CONNECTED, PeerChange.IDENTIFIED, PeerChange.DISCONNECTED)
    ]


async def test_disconnecting_somebody_unconnected_is_no_error(world: World) -> None:
    a = await world.start()
    await a.disconnect(STRANGER)


# discovery and life --------------------------------------------------------------------------------------------------


async def test_two_nodes_that_know_only_a_third_reach_each_other(world: World) -> None:
    a = await world.start()
    b = await world.start(bootstrap=a.listen_addresses)
    c = await world.start(bootstrap=a.listen_addresses)
    mails = {node.peer_id: Mailbox() for node in (a, b, c)}
    for node in (a, b, c):
        await node.subscribe(TOPIC, mails[node.peer_id])
    direct = Mailbox()
    c.handle(ROOT, direct, max_bytes=any_size)
    await until(lambda: len(a.peers()) == 2)

    await b.send(c.peer_id, ROOT, b"by id alone")
    await b.publish(TOPIC, b"to all")

    assert await direct.wait_for(1) == [(b.peer_id, b"by id alone")]
    for mail in mails.values():
        assert await mail.wait_for(1) == [(b.peer_id, b"to all")]


async def test_listen_addresses_exist_while_running_and_name_the_peer(world: World) -> None:
    a = world.make()
    before = list(a.listen_addresses)
    async with a.run():
        during = list(a.listen_addresses)
    after = list(a.listen_addresses)

    assert (before, after) == ([], [])
    assert during
    assert all(address.endswith(f"/p2p/{a.peer_id}") for address in during)


async def test_a_port_in_use_is_an_error_that_names_the_address(world: World) -> None:
    a = await world.start()
    taken = a.listen_addresses[0].rpartition("/p2p/")[0]
    b = world.make(listen=[taken])

    with pytest.raises(AddressInUse, match=taken):
        async with b.run():
            pass


async def test_nothing_can_be_sent_before_the_start(world: World) -> None:
    a = world.make()
    with pytest.raises(NotRunning):
        await a.send(STRANGER, ROOT, b"x")
    with pytest.raises(NotRunning):
        await a.publish(TOPIC, b"x")
    assert a.peers() == ()


async def test_a_network_can_run_again(world: World) -> None:
    a, b = world.make(), await world.start()
    mail = Mailbox()
    a.handle(ROOT, mail, max_bytes=any_size)
    for number in (1, 2):
        async with a.run():
            await a.connect(b.listen_addresses[0])
            await b.send(a.peer_id, ROOT, b"%d" % number)
            await mail.wait_for(number)
        await until(lambda: not b.is_connected(a.peer_id))

    assert [data for _, data in mail.got] == [b"1", b"2"]


async def test_an_error_in_the_body_comes_out_as_it_is(world: World) -> None:
    a = world.make()
    with pytest.raises(KeyError, match="mine"):
        async with a.run():
            raise KeyError("mine")


def test_both_implement_the_seam() -> None:
    real: Network = Libp2pNetwork(seed=bytes(32), listen=[])
    twin: Network = VirtualNetwork().node(1)
    assert real.peer_id != twin.peer_id


async def test_known_peers_have_addresses_and_connected_ones_a_score(world: World) -> None:
    a, b = await world.pair()
    await until(lambda: b.peer_id in a.known_peers() and b.is_connected(a.peer_id))

    assert all("/tcp/" in address for address in a.known_peers()[b.peer_id])
    score = a.scores()[b.peer_id]
    assert score.total >= score.app_specific >= 0
    assert a.peer_id not in a.known_peers()


async def test_connections_are_measured_and_coordinates_told(world: World) -> None:
    a, b = await world.pair()
    await until(lambda: a.latency.of(b.peer_id) and a.latency.coordinate_of(b.peer_id))
    await until(lambda: b.latency.of(a.peer_id) and b.latency.coordinate_of(a.peer_id))

    trip = a.latency.table()[b.peer_id]
    assert trip == a.latency.of(b.peer_id)
    assert 0 < trip.minimum_us <= trip.smoothed_us < 10_000_000
    assert a.latency.estimate_us(a.peer_id, b.peer_id) == trip.smoothed_us
    assert a.latency.coordinate.is_sane
    assert a.latency.of(STRANGER) is None
    assert a.latency.coordinate_of(STRANGER) is None
    assert a.latency.estimate_us(b.peer_id, STRANGER) is None
