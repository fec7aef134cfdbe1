"""Packets as datagrams: real sockets on the loopback, streams of either network."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.network.subnet_members import Member, members, packed
from tests.network.worlds import World, until

from dms.network import Network
from dms.subnet.datagrams import Datagrams, Outgoing, ips_of
from dms.subnet.packets import TCP, parse_header, pseudo_sum, udp_packet
from dms.subnet.probing import Address
from dms.subnet.sealing import PACKET, Sealer
from dms.subnet.segments import VNET_BYTES
from dms.subnet.tally import Drop
from dms.subnet.udp import Burst, bursts_of

LOOPBACK = ("127.0.0.1",)


@pytest.fixture(params=["libp2p", "memory"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(request.param, nursery)
        yield world
        world.end()
        nursery.cancel_scope.cancel()


def on_loopback(node: Network) -> Datagrams:
    return Datagrams(node.peer_id, port=0, own_ips=lambda: LOOPBACK, known_ips=lambda _peer: LOOPBACK)


class Kept(list[Datagrams]):
    """Those on the loopback, in the order in which the nodes were made."""

    def __call__(self, node: Network) -> Datagrams:
        self.append(on_loopback(node))
        return self[-1]


def nowhere(node: Network) -> Datagrams:
    """A node whose datagrams lead to an address where nobody is."""
    return Datagrams(node.peer_id, port=0, own_ips=lambda: ("192.0.2.1",), known_ips=lambda _peer: ())


async def datagram_path(a: Member, b: Member) -> None:
    """Wait until ``a`` reaches ``b`` so."""
    a.send(b.address, b"first")
    await until(lambda: a.plane.link_status(b.node.peer_id).path == "datagram")
    await b.got()
    b.device.written.clear()


async def test_packets_take_datagrams_once_a_probe_was_answered(world: World) -> None:
    a, b = await members(world, 2, datagrams=on_loopback)
    await datagram_path(a, b)
    status = a.plane.link_status(b.node.peer_id)
    assert status.rtt_s is not None
    sent = [a.send(b.address, bytes([number]) * 1300) for number in range(20)]
    assert sorted(await b.got(20)) == sorted(sent)
    sent = [a.send(b.address, b"x" * 4000)]
    assert (await b.got(21))[20:] == sent, "what is too large for a datagram takes the stream"
    assert not b.plane.tally_of(a.node.peer_id).drops


def large_tcp(a: Member, b: Member, payload: bytes) -> bytes:
    """As a kernel hands it over for cutting."""
    source, destination = packed(a.address), packed(b.address)
    base = bytearray(udp_packet(source, 5, destination, 6, bytes(12) + payload))
    base[9] = TCP
    header = parse_header(bytes(base))
    base[20 + 12], base[20 + 13] = 5 << 4, 0x10
    base[20 + 16 : 20 + 18] = pseudo_sum(header, len(base) - 20).to_bytes(2)
    base[20 + 4 : 20 + 8] = (7).to_bytes(4)
    raw = bytes([1, 1, 40, 0, 0, 5, 20, 0, 16, 0]) + bytes(base)
    assert len(raw) == VNET_BYTES + len(base)
    return raw


def outgoing_of(datagrams: Datagrams) -> Outgoing:
    return next(one for one in datagrams._sessions.values() if isinstance(one, Outgoing))


def trust(datagrams: Datagrams) -> None:
    """Nothing was ever lost."""
    losses = outgoing_of(datagrams)._losses
    losses.told(10**6, 10**6, probes=10**6)
    assert losses.are_rare


@pytest.mark.parametrize("is_proven", [False, True], ids=["in pieces", "in a bundle"])
async def test_a_large_packet_of_tcp_is_cut_for_the_way(world: World, *, is_proven: bool) -> None:
    """Sealed as one where it was proven that nothing is lost; otherwise each piece stands for itself."""
    made = Kept()
    a, b = await members(world, 2, datagrams=made)
    await datagram_path(a, b)
    if is_proven:
        trust(made[0])
    payload = bytes(range(256)) * 200
    a.device.come_raw(large_tcp(a, b, payload))
    await until(lambda: sum(len(packet) - 40 for packet in b.device.written) >= len(payload))
    got = b"".join(packet[40:] for packet in sorted(b.device.written, key=lambda one: one[24:28]))
    assert got == payload
    assert len(b.device.written) < 10, "and joined again for the device"
    for packet in b.device.written:
        (left,) = struct.unpack_from(">H", packet, 36)
        assert left == pseudo_sum(parse_header(packet), len(packet) - 20), "its kernel does the checksum"


async def test_while_datagrams_are_lost_one_that_is_costs_only_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dms.subnet.probing.KEEP_EVERY_S", 0.05)
    monkeypatch.setattr("dms.subnet.bundles.PROVEN", 60)
    made = Kept()
    a, b = await members(world, 2, datagrams=made)
    await datagram_path(a, b)
    outgoing, transmit = outgoing_of(made[0]), made[0].transmit

    def lossy(address: Address, bursts: Sequence[Burst]) -> tuple[int, list[Burst]]:
        """The first datagram of many is lost."""
        kept = [Burst(one.data[one.size_bytes :], one.size_bytes) if len(one.data) > 5000 else one for one in bursts]
        return transmit(address, kept)

    payload = bytes(range(256)) * 200
    for _ in range(2):
        a.device.come_raw(large_tcp(a, b, payload))
    await until(lambda: outgoing._losses.are_rare)
    b.device.written.clear()
    monkeypatch.setattr(made[0], "transmit", lossy)
    a.device.come_raw(large_tcp(a, b, payload))
    await until(lambda: not outgoing._losses.are_rare)
    await until(lambda: bool(b.plane.tally_of(a.node.peer_id).drops[Drop.INCOMPLETE]))
    assert not b.device.written, "it was sealed as one"
    a.device.come_raw(large_tcp(a, b, payload))
    await until(lambda: bool(b.device.written))
    got = b"".join(packet[40:] for packet in sorted(b.device.written, key=lambda one: one[24:28]))
    assert got == payload[-len(got) :]
    assert len(payload) - len(got) < 1500


async def test_with_older_nodes_each_datagram_is_sealed_on_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Kept()
    a, b = await members(world, 2, datagrams=made)
    offer = made[1].new_offer
    monkeypatch.setattr(
        made[1], "new_offer", lambda private: msgspec.structs.replace(offer(private), takes_bundles=False)
    )
    await datagram_path(a, b)
    trust(made[0])
    assert not outgoing_of(made[0])._takes_bundles
    payload = bytes(range(256)) * 200
    a.device.come_raw(large_tcp(a, b, payload))
    await until(lambda: sum(len(packet) - 40 for packet in b.device.written) >= len(payload))


async def test_several_small_packets_share_datagrams(world: World) -> None:
    made = Kept()
    a, b = await members(world, 2, datagrams=made)
    await datagram_path(a, b)
    trust(made[0])
    sealer = outgoing_of(made[0])._sealer
    assert sealer is not None
    before, sent = sealer._counter, []
    for number in range(20):
        sent.append(udp_packet(packed(a.address), 7, packed(b.address), 8, bytes([number]) * 20))
        a.plane._outbound(bytes(VNET_BYTES) + sent[-1], a.port)
    for link in a.plane._touched:
        link.push()
    assert await b.got(20) == sent
    assert sealer._counter - before <= 3


async def test_without_a_way_for_datagrams_packets_take_the_stream(world: World) -> None:
    a, b = await members(world, 2, datagrams=nowhere)
    a.send(b.address, b"one")
    await b.got()
    a.send(b.address, b"two")
    await b.got(2)
    assert a.plane.link_status(b.node.peer_id).path == "direct"


async def test_a_node_that_has_no_datagrams_is_spoken_to_on_its_stream(world: World) -> None:
    a, b = await members(world, 2, datagrams=on_loopback)
    b.exchange._datagrams = None
    a.send(b.address, b"one")
    a.send(b.address, b"two")
    await b.got(2)
    assert a.plane.link_status(b.node.peer_id).path == "direct"


async def test_what_is_forged_replayed_or_of_nobody_is_dropped_and_counted(world: World) -> None:
    made = Kept()
    a, b = await members(world, 2, datagrams=made)
    await datagram_path(a, b)
    target = ("127.0.0.1", made[1].port)
    session = next(iter(made[1]._sessions))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.sendto(session.to_bytes(8, "little") + bytes([255] * 6) + bytes(60), target)
        attacker.sendto(Sealer(bytes(32), session ^ 1).seal(PACKET, b"x"), target)
        attacker.sendto(b"short", target)
    tally = b.plane.tally_of(a.node.peer_id)
    await until(lambda: tally.drops[Drop.NOT_AUTHENTIC] and made[1].refused["no session"] == 2)

    outgoing = outgoing_of(made[0])
    sealer = outgoing._sealer
    assert sealer is not None
    packet = udp_packet(packed("10.1.2.99"), 1, packed(b.address), 2, b"forged source")
    datagram = sealer.seal(PACKET, packet)
    made[0].transmit(target, bursts_of([datagram, datagram]))
    await until(lambda: tally.drops[Drop.FORGED_SOURCE] and tally.drops[Drop.REPLAYED])
    assert not b.device.written


async def test_when_datagrams_stop_coming_through_packets_take_the_stream_again(world: World) -> None:
    made = Kept()
    a, b = await members(world, 2, datagrams=made)
    await datagram_path(a, b)
    made[1]._sessions.clear()  # as if a firewall dropped them all
    outgoing = outgoing_of(made[0])
    prober = outgoing.prober
    assert prober is not None
    prober._answered_s -= 100  # long ago
    prober._sent.clear()
    a.send(b.address, b"again")
    await b.got()
    assert a.plane.link_status(b.node.peer_id).path == "direct"


async def test_where_a_probe_came_from_is_tried_as_an_address_of_its_sender(world: World) -> None:
    first = True

    def one_sided(node: Network) -> Datagrams:
        """The first node is told where the second one is, but not the other way round."""
        nonlocal first
        mine, first = first, False
        ips = ("192.0.2.1",) if mine else LOOPBACK
        return Datagrams(node.peer_id, port=0, own_ips=lambda: ips, known_ips=lambda _peer: LOOPBACK if mine else ())

    a, b = await members(world, 2, datagrams=one_sided)
    b.send(a.address, b"nobody knows a way")
    await a.got()
    assert b.plane.link_status(a.node.peer_id).path == "direct"
    await datagram_path(a, b)
    await until(lambda: b.plane.link_status(a.node.peer_id).path == "datagram")


def test_addresses_of_relays_are_not_those_of_the_peer() -> None:
    assert ips_of(
        [
            "/ip4/192.0.2.1/tcp/9000/p2p/x",
            "/ip6/::1/tcp/1",
            "/ip4/192.0.2.9/tcp/1/p2p/r/p2p-circuit",
            "/dns4/a/tcp/1",
            "",
        ]
    ) == ("192.0.2.1", "::1")


def test_an_offer_has_an_id_of_its_own_each_time() -> None:
    datagrams = Datagrams("peer", port=9, own_ips=lambda: LOOPBACK * 40, known_ips=lambda _peer: ())  # type: ignore[arg-type]
    private = X25519PrivateKey.generate()
    one, other = datagrams.new_offer(private), datagrams.new_offer(private)
    assert one.id != other.id
    assert len(one.addresses) <= 16
