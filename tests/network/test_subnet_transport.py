"""Packets of a private network between nodes, over libp2p and in memory alike; devices are lists in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from random import Random

import dns.message
import pytest
import trio
from tests.network.subnet_members import ID, NETWORK, PREFIX, members, packed
from tests.network.worlds import WAIT_S, World, until

from dms.network import ByteStream, StreamEnded
from dms.subnet import frames
from dms.subnet.addresses import private_prefix, to_ipv6
from dms.subnet.dns import Outcome
from dms.subnet.links import LinkState
from dms.subnet.packets import parse_header, udp_packet, udp_ports
from dms.subnet.plane import Plane
from dms.subnet.routing import RoutingTable
from dms.subnet.segments import Parcel
from dms.subnet.tally import Drop


@pytest.fixture(params=["libp2p", "memory"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(request.param, nursery)
        yield world
        world.end()
        nursery.cancel_scope.cancel()


async def read_on(stream: ByteStream) -> None:
    """To the end of what the other side sends."""
    with trio.fail_after(WAIT_S):
        while await stream.read(1000):
            pass


async def test_packets_of_both_families_cross_and_are_counted(world: World) -> None:
    a, b = await members(world, 2)
    sent = [a.send(b.address, b"one"), a.send(b.address, b"two")]
    six = [str(to_ipv6(PREFIX, IPv4Address(each.address))) for each in (a, b)]
    sent.append(a.send(six[1], b"three", source=six[0]))
    assert await b.got(3) == sent
    back = b.send(a.address, b"back")
    assert await a.got() == [back]
    out, into = a.plane.tally_of(b.node.peer_id), b.plane.tally_of(a.node.peer_id)
    assert (out.packets_out, out.bytes_out) == (into.packets_in, into.bytes_in) == (3, sum(map(len, sent)))
    assert not out.drops
    assert not into.drops


async def test_the_way_tells_its_protocol_and_its_round_trip(world: World) -> None:
    a, b = await members(world, 2)
    assert a.plane.link_status(b.node.peer_id).state is LinkState.IDLE
    a.send(b.address, b"one")
    await b.got()
    await until(lambda: a.plane.link_status(b.node.peer_id).rtt_s is not None)
    status = a.plane.link_status(b.node.peer_id)
    assert (status.state, status.path, status.protocol, status.error) == (LinkState.OPEN, "direct", frames.OWN, "")


async def test_a_packet_of_64_kib_crosses_as_one(world: World) -> None:
    a, b = await members(world, 2)
    sent = a.send(b.address, b"x" * 65000)
    assert await b.got() == [sent]


async def test_a_forged_source_is_dropped_and_counted_where_it_leaves_and_where_it_arrives(world: World) -> None:
    a, b, c = await members(world, 3)
    a.send(b.address, b"forged", source=c.address)
    a.send(b.address, b"honest")
    assert [packet[-6:] for packet in await b.got()] == [b"honest"]
    assert a.port.tally.drops == {Drop.FORGED_SOURCE: 1}

    packet = udp_packet(packed(c.address), 1, packed(b.address), 2, b"forged")
    stream = await a.node.streams.open(b.node.peer_id, frames.OWN)
    await stream.write(frames.encode_hello(frames.Hello(ID)) + frames.encode_parcels([Parcel(packet)]))
    await until(lambda: b.plane.tally_of(a.node.peer_id).drops == {Drop.FORGED_SOURCE: 1})
    assert len(b.device.written) == 1


async def test_whoever_is_no_member_gets_a_reset_and_learns_nothing(world: World) -> None:
    a, b = await members(world, 2)
    stranger = await world.start()
    await stranger.connect(b.node.listen_addresses[0])
    for name, protocol in ((ID, frames.OWN), ("none", frames.OWN), (ID, frames.ORIGINAL), ("none", frames.ORIGINAL)):
        stream = await stranger.streams.open(b.node.peer_id, protocol)
        own = protocol == frames.OWN
        await stream.write(frames.encode_hello(frames.Hello(name)) if own else frames.encode_opening(name))
        with pytest.raises(StreamEnded):
            await read_on(stream)
    assert b.exchange.refused == {"not a member": 4}
    a.send(b.address, b"still fine")
    await b.got()


async def test_a_stream_that_speaks_something_else_is_reset_and_counted(world: World) -> None:
    a, b = await members(world, 2)
    for data in (
        b"\xff" * 20,
        frames.encode(frames.PING, b"12345678"),
        frames.encode_hello(frames.Hello(ID)) + b"\xff" * 9,
    ):
        stream = await a.node.streams.open(b.node.peer_id, frames.OWN)
        await stream.write(data)
        with pytest.raises(StreamEnded):
            await read_on(stream)
    assert b.exchange.refused == {"malformed": 3}


async def test_a_member_that_was_removed_is_cut_off_at_once(world: World) -> None:
    a, b = await members(world, 2)
    a.send(b.address, b"one")
    await b.got()
    b.plane.table.remove_peer(a.node.peer_id)
    b.exchange.drop(ID, a.node.peer_id)
    await until(lambda: a.plane.link_status(b.node.peer_id).state is not LinkState.OPEN)
    a.send(b.address, b"two")
    await until(lambda: b.exchange.refused["not a member"] or a.plane.tally_of(b.node.peer_id).drops)
    assert len(b.device.written) == 1


async def test_a_node_of_the_original_is_spoken_to_as_it_speaks(world: World) -> None:
    a, b = await members(world, 2)
    b.node.streams.unhandle(frames.OWN)  # as one that knows nothing of it
    sent = a.send(b.address, b"one")
    assert await b.got() == [sent]
    assert a.plane.link_status(b.node.peer_id).protocol == frames.ORIGINAL


async def test_a_node_of_version_05_that_repeats_its_opening_is_understood(world: World) -> None:
    a, b = await members(world, 2)
    packets = [udp_packet(packed(a.address), 1, packed(b.address), 2, text) for text in (b"one", b"two")]
    stream = await a.node.streams.open(b.node.peer_id, frames.ORIGINAL)
    for packet in packets:
        await stream.write(frames.encode_opening(ID) + frames.encode_packets([packet]))
    assert await b.got(2) == packets
    assert not b.plane.tally_of(a.node.peer_id).drops


async def test_names_are_answered_by_the_gateway_of_the_node_itself(world: World) -> None:
    a, _ = await members(world, 2)
    a.plane.zone.add({"web": "10.1.2.3"})
    for source, gateway in ((a.address, "10.1.2.1"), (str(to_ipv6(PREFIX, IPv4Address(a.address))), "")):
        to = gateway or str(to_ipv6(PREFIX, IPv4Address("10.1.2.1")))
        query = dns.message.make_query("web.internal", "A")
        a.device.come(udp_packet(packed(source), 5353, packed(to), 53, query.to_wire()))
        packet = (await a.got())[0]
        a.device.written.clear()
        header = parse_header(packet)
        assert (header.source, header.destination) == (packed(to), packed(source))
        source_port, destination_port, data = udp_ports(packet, header)
        assert (source_port, destination_port) == (53, 5353)
        assert dns.message.from_wire(data).answer[0][0].to_text() == "10.1.2.3"
    assert a.plane.queries[Outcome.ANSWERED] == 2


async def test_the_gateway_serves_nothing_else_and_other_drops_have_their_reason(world: World) -> None:
    a, b = await members(world, 2)
    a.send("10.1.2.1", b"no service")
    a.send("10.1.2.77", b"nobody")
    a.send("239.1.1.1", b"many")
    a.device.come(b"\x45nonsense")
    a.send(b.address, b"last")
    await b.got()
    assert a.port.tally.drops == {Drop.GATEWAY: 1, Drop.NO_ROUTE: 1, Drop.MULTICAST: 1, Drop.MALFORMED: 1}
    told = parse_header(a.device.written[0])
    assert (told.protocol, told.destination) == (1, packed(a.address)), "the sender is told that nobody is there"
    b.device.is_full = True
    a.send(b.address, b"too much")
    await until(lambda: b.port.tally.drops == {Drop.DEVICE_FULL: 1})


async def test_two_networks_of_the_same_nodes_do_not_meet(world: World) -> None:
    a, b = await members(world, 2)
    for each in (a, b):
        table = RoutingTable(NETWORK, private_prefix("other"))
        table.add_all({"10.1.2.2": a.node.peer_id, "10.1.2.3": b.node.peer_id})
        other = Plane("other", each.node.peer_id, table, each.node.streams, rng=Random(1))
        each.exchange.add("other", other)
        await world.nursery.start(other.run)
    a.send(b.address, b"mine")
    await b.got()
    b.exchange.remove("other")
    a.send(b.address, b"mine again")
    await b.got(2)


async def test_a_peer_that_is_away_is_tried_again(world: World) -> None:
    a, b = await members(world, 2)
    b.exchange.close()
    a.send(b.address, b"lost")
    await until(lambda: a.plane.link_status(b.node.peer_id).state is LinkState.BROKEN)
    assert a.plane.link_status(b.node.peer_id).error
    await until(lambda: a.plane.tally_of(b.node.peer_id).drops[Drop.UNREACHABLE] >= 1)
    b.exchange.open()

    async def keep_sending() -> None:
        while not b.device.written:
            a.send(b.address, b"again")
            await trio.sleep(0.05)

    with trio.fail_after(WAIT_S):
        await keep_sending()
