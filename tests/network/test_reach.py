"""How others reach real nodes: relays, and what peers tell; loopback sockets, where every address counts as public."""

from __future__ import annotations

import socket

import pytest
from tests.network.waiting import until

from dms.network.errors import PeerUnreachable
from dms.network.libp2p import Libp2pNetwork
from dms.network.libp2p.reach.ledger import RelayLimits
from dms.network.libp2p.reach.options import ReachOptions, When
from dms.network.reachability import Reach
from dms.types.ids import PeerID

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
ROOT = "actor/root/messages/0.0.1"


def node(
    number: int,
    *bootstrap: str,
    listen: tuple[str, ...] = LOOPBACK,
    service: When = When.OFF,
    client: When = When.OFF,
    relay_limits: RelayLimits | None = None,
    announce: tuple[str, ...] = (),
    punching: bool = False,
) -> Libp2pNetwork:
    options = ReachOptions(
        announce=announce,
        relay_service=service,
        relay_client=client,
        relay_limits=relay_limits or RelayLimits(),
        hole_punching=punching,
        is_public=lambda _ip: True,
        first_ask_s=0.05,
        boot_delay_s=0.05,
    )
    seed = (number + (1 << 120)).to_bytes(32, "big")
    return Libp2pNetwork(seed=seed, listen=listen, bootstrap=bootstrap, explore=False, reach=options)


def relayed(one: Libp2pNetwork) -> list[str]:
    return [address for address in one.reachability.report().announced if "/p2p-circuit/" in address]


class Received:
    def __init__(self, network: Libp2pNetwork) -> None:
        self.messages: list[tuple[PeerID, bytes]] = []
        network.handle(ROOT, self._take)

    async def _take(self, sender: PeerID, data: bytes) -> None:
        self.messages.append((sender, data))


async def test_a_node_that_nobody_can_dial_is_reached_through_a_relay_that_it_chose_itself() -> None:
    relay = node(1, service=When.ON)
    async with relay.run():
        hidden = node(2, *relay.listen_addresses, listen=(), client=When.ON)
        other = node(3)
        at_hidden, at_other = Received(hidden), Received(other)
        async with hidden.run(), other.run():
            await until(lambda: relayed(hidden))
            (address,) = relayed(hidden)
            assert address == f"{relay.listen_addresses[0]}/p2p-circuit/p2p/{hidden.peer_id}"

            await other.connect(address)
            await other.send(hidden.peer_id, ROOT, b"hello" * 1000)
            await until(lambda: at_hidden.messages)
            assert at_hidden.messages == [(other.peer_id, b"hello" * 1000)]
            await hidden.send(other.peer_id, ROOT, b"hello back")
            await until(lambda: at_other.messages)

            (seen,) = [info for info in other.peers() if info.peer == hidden.peer_id]
            assert seen.is_relayed
            assert seen.transport == "tcp"
            (seen,) = [info for info in hidden.peers() if info.peer == other.peer_id]
            assert seen.is_relayed
            assert seen.inbound
            assert await other.ping(hidden.peer_id, timeout_s=5) > 0
            report = relay.reachability.report()
            assert report.has_relay_service
            assert report.circuits == 1
            (reservation,) = hidden.reachability.report().relays
            assert reservation.relay == relay.peer_id
            assert reservation.limit_bytes == 1 << 21
            assert reservation.limit_s == 300

            await other.disconnect(hidden.peer_id)
            await until(lambda: not hidden.is_connected(other.peer_id))
            await until(lambda: relay.reachability.report().circuits == 0)


async def test_who_came_through_a_relay_is_dialled_directly_when_that_is_possible() -> None:
    relay = node(31, service=When.ON)
    async with relay.run():
        hidden = node(32, *relay.listen_addresses, listen=(), client=When.ON, punching=True)
        other = node(33, punching=True)
        async with hidden.run(), other.run():
            await until(lambda: relayed(hidden))
            await other.connect(relayed(hidden)[0])
            await until(lambda: [info.is_relayed for info in other.peers() if info.peer == hidden.peer_id] == [False])
            await until(lambda: hidden.counters().get("holes punched"))
            assert hidden.counters().get("hole punches tried", 0) == 0
            assert hidden.reachability.report().punched == 1


async def test_a_relays_limit_of_bytes_ends_the_connection_with_a_reason_and_the_next_one_works() -> None:
    relay = node(4, service=When.ON, relay_limits=RelayLimits(connection_bytes=64 * 1024))
    async with relay.run():
        hidden = node(5, *relay.listen_addresses, listen=(), client=When.ON)
        other = node(6)
        received = Received(hidden)
        async with hidden.run(), other.run():
            await until(lambda: relayed(hidden))
            await other.connect(relayed(hidden)[0])
            with pytest.raises(PeerUnreachable, match="relay that lets only"):
                await other.send(hidden.peer_id, ROOT, bytes(100_000))
            for _ in range(4):
                await other.send(hidden.peer_id, ROOT, bytes(30_000))
            await until(lambda: len(received.messages) == 4)


async def test_a_relays_limit_of_time_ends_the_connection() -> None:
    relay = node(7, service=When.ON, relay_limits=RelayLimits(connection_s=1))
    async with relay.run():
        hidden = node(8, *relay.listen_addresses, listen=(), client=When.ON)
        other = node(9)
        async with hidden.run(), other.run():
            await until(lambda: relayed(hidden))
            await other.connect(relayed(hidden)[0])
            await until(lambda: not other.is_connected(hidden.peer_id) and not hidden.is_connected(other.peer_id))
            assert relay.counters()["relayed connections ended: time"] == 1


async def test_a_relay_forwards_to_those_only_who_reserved() -> None:
    relay = node(10, service=When.ON)
    async with relay.run():
        bystander = node(11, *relay.listen_addresses, listen=())
        other = node(12)
        async with bystander.run(), other.run():
            await until(lambda: relay.is_connected(bystander.peer_id))
            address = f"{relay.listen_addresses[0]}/p2p-circuit/p2p/{bystander.peer_id}"
            with pytest.raises(PeerUnreachable, match="no reservation"):
                await other.connect(address)


async def test_the_addresses_through_a_relay_end_with_the_relay() -> None:
    relay = node(13, service=When.ON)
    hidden = node(14, listen=(), client=When.ON)
    async with hidden.run():
        async with relay.run():
            await hidden.connect(relay.listen_addresses[0])
            await until(lambda: relayed(hidden))
        await until(lambda: not relayed(hidden))


async def test_others_hear_of_new_addresses_at_once() -> None:
    relay = node(15, service=When.ON)
    hidden, friend = node(16, client=When.ON), node(17)
    async with relay.run(), hidden.run(), friend.run():
        await friend.connect(hidden.listen_addresses[0])
        await hidden.connect(relay.listen_addresses[0])
        await until(lambda: relayed(hidden))
        await until(lambda: any("/p2p-circuit" in one for one in friend.known_peers()[hidden.peer_id]))


async def test_a_node_that_others_can_dial_learns_that_it_is_public_and_offers_to_relay() -> None:
    public = node(18, service=When.AUTO, client=When.AUTO)
    async with public.run():
        others = [node(number, *public.listen_addresses) for number in (19, 20, 21)]
        async with others[0].run(), others[1].run(), others[2].run():
            await until(lambda: public.reachability.report().status is Reach.PUBLIC)
            await until(lambda: public.reachability.report().has_relay_service)
            report = await public.reachability.probe()
            assert report.confidence == 3
            (check,) = [check for check in report.checks if check.reached_by]
            assert f"{check.address}/p2p/{public.peer_id}" in public.listen_addresses
            assert not report.relays
            assert "reached it" in report.why


async def test_a_node_behind_a_wall_learns_that_it_is_private_and_finds_relays() -> None:
    first, second = node(22, service=When.ON), node(23, service=When.ON)
    # nothing listens at the address that it announces: as with a router that forwards nothing
    walled = node(24, listen=(), client=When.AUTO, announce=("/ip4/127.0.0.1/tcp/9",))
    async with first.run(), second.run(), walled.run():
        await walled.connect(first.listen_addresses[0])
        await walled.connect(second.listen_addresses[0])
        await until(lambda: walled.reachability.report().status is Reach.PRIVATE)
        await until(lambda: len(walled.reachability.report().relays) == 2)
        report = walled.reachability.report()
        assert {one.relay for one in report.relays} == {first.peer_id, second.peer_id}
        assert any(check.failed_for for check in report.checks)


async def test_three_peers_tell_a_node_its_address() -> None:
    seen = node(25)
    async with seen.run():
        others = [node(number) for number in (26, 27, 28)]
        async with others[0].run(), others[1].run(), others[2].run():
            for one in others[:2]:
                await seen.connect(one.listen_addresses[0])
            await until(lambda: seen.reachability.report().observed)
            assert not any(one.is_accepted for one in seen.reachability.report().observed)
            await seen.connect(others[2].listen_addresses[0])
            await until(lambda: any(one.is_accepted for one in seen.reachability.report().observed))
            (observed,) = seen.reachability.report().observed
            assert observed.ip == "127.0.0.1"
            assert set(observed.reporters) == {one.peer_id for one in others}
            assert seen.reachability.public_ip() == "127.0.0.1"


async def test_who_wants_another_address_dialled_than_his_own_pays_more_than_the_dial_costs() -> None:
    server = node(29)
    elsewhere = "/ip4/127.0.0.2/tcp/9"
    asker = node(30, announce=(elsewhere,), listen=())
    async with server.run(), asker.run():
        await asker.connect(server.listen_addresses[0])
        await until(lambda: asker.reachability.report().status is Reach.PRIVATE)
        (check,) = asker.reachability.report().checks
        assert (check.address, check.failed_for) == (elsewhere, (server.peer_id,))
        assert server.counters()["dials back"] >= 1
        assert server.counters()["toll bytes taken"] >= 30_000 * server.counters()["dials back"]


async def test_what_others_see_is_told_over_ipv6_as_well() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 on loopback")
    seen = node(34, listen=("/ip6/::1/tcp/0",))
    async with seen.run():
        others = [node(number, *seen.listen_addresses, listen=("/ip6/::1/tcp/0",)) for number in (35, 36)]
        async with others[0].run(), others[1].run():
            await until(lambda: seen.reachability.report().status is Reach.PUBLIC)
            assert any(check.address.startswith("/ip6/::1/") for check in seen.reachability.report().checks)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
