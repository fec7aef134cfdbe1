"""Private networks of a node over the twins of network and kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from random import Random

import dns.message
import dns.rcode
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dms.network import Network
from dms.subnet.addresses import private_prefix, to_ipv6
from dms.subnet.connecting import Wanted
from dms.subnet.errors import (
    FirewallRefused,
    InvalidIP,
    InvalidName,
    KernelRefused,
    NotActive,
    NotConnected,
    PortMapped,
    PortNotMapped,
    SubnetExists,
    SubnetNotFound,
)
from dms.subnet.packets import udp_packet
from dms.subnet.pipes import Pipe, TrioPipe
from dms.subnet.ports import PortMapping
from dms.subnet.subnet import CHECK_EVERY_S, LONGEST_PAUSE_S
from dms.subnet.subnets import Subnets
from dms.testing.network import VirtualNetwork
from dms.testing.subnet import MemoryDevice, MemoryKernel
from dms.types.ids import PeerID

OTHER = PeerID("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3")
CIDR = "10.1.2.0/24"
WEB = PortMapping("tcp", 18080, IPv4Address("10.1.2.3"), 80)


class Bench:
    """One node with its twins."""

    def __init__(self, network: Network, kernel: MemoryKernel) -> None:
        self.network, self.kernel = network, kernel
        self.own = network.peer_id
        self.subnets = Subnets(network, kernel, rng=Random(1), first_port=20000, last_port=20010)

    def table(self) -> dict[str, PeerID]:
        return {"10.1.2.2": self.own, "10.1.2.3": self.own, "10.1.2.4": OTHER}


@asynccontextmanager
async def bench(**options: object) -> AsyncIterator[Bench]:
    kernel = MemoryKernel(**options)  # type: ignore[arg-type]
    network = VirtualNetwork(seed=1).node(1)
    async with network.run():
        made = Bench(network, kernel)
        async with made.subnets.run():
            yield made
    assert not kernel.open_devices(), "no device is left"
    assert not kernel.rules, "no rule is left"


def namespace(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.touch()
    return path


async def test_the_errors_of_operations_have_the_texts_of_the_original() -> None:
    async with bench() as b:
        await b.subnets.create("id", CIDR, b.table())
        with pytest.raises(SubnetExists, match=r"^subnet with ID id already exists$"):
            await b.subnets.create("id", CIDR, {})
        with pytest.raises(SubnetNotFound, match=r"^subnet with ID none does not exist$"):
            await b.subnets.destroy("none")
        subnet = b.subnets.get("id")
        for wrong in ("nonsense", "10.9.9.9", "10.1.2.255"):
            with pytest.raises(InvalidIP, match=f"^invalid IP address {wrong}$"):
                await subnet.add_peer(OTHER, wrong)
        await subnet.map_port(WEB)
        with pytest.raises(PortMapped, match=r"^port 18080 is already mapped$"):
            await subnet.map_port(PortMapping("tcp", 18080, IPv4Address("10.1.2.2"), 80))
        with pytest.raises(PortNotMapped):
            await subnet.unmap_port(PortMapping("tcp", 1, IPv4Address("10.1.2.2"), 80))
        await b.subnets.destroy("id")
        assert b.subnets.ids() == ()
        await b.subnets.create("id", CIDR, b.table())


async def test_a_request_without_a_network_means_the_one_of_its_addresses() -> None:
    async with bench(in_use=["172.17.0.0/16"]) as b:
        subnet = await b.subnets.create("id", "", b.table())
        assert subnet.status().network == CIDR
        assert await b.subnets.networks_in_use() == (IPv4Network("172.17.0.0/16"), IPv4Network(CIDR))
        for cidr, table in (("", {}), ("", {"x": OTHER}), ("192.168.0.0/24", {}), ("10.3.3.0/24", b.table())):
            with pytest.raises(InvalidIP):
                await b.subnets.create("other", cidr, table)
        with pytest.raises(InvalidIP, match="invalid subnet ID"):
            await b.subnets.create("x" * 300, CIDR, b.table())
        assert b.subnets.ids() == ("id",)


async def test_before_its_start_there_are_no_networks() -> None:
    kernel, network = MemoryKernel(), VirtualNetwork(seed=1).node(1)
    with pytest.raises(NotActive):
        await Subnets(network, kernel, rng=Random(1)).create("id", CIDR, {})


async def test_the_start_removes_what_an_earlier_process_left_and_lives_without_a_firewall() -> None:
    async with bench() as b:
        assert b.kernel.removals == [""]
    network, kernel = VirtualNetwork(seed=1).node(1), MemoryKernel()
    kernel.failing["remove_rules"] = FirewallRefused()
    async with network.run(), Subnets(network, kernel, rng=Random(1)).run():
        pass


async def test_each_member_has_a_device_where_it_runs(tmp_path: Path) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        one, two = namespace(tmp_path, "one"), namespace(tmp_path, "two")
        await subnet.attach("10.1.2.2", one)
        await subnet.attach("10.1.2.3", two, ports=[("tcp", 18080, 80)])
        assert [(d.namespace, str(d.addresses[0]), d.addresses[1].version) for d in b.kernel.open_devices()] == [
            (one, "10.1.2.2/24", 6),
            (two, "10.1.2.3/24", 6),
        ]
        assert b.kernel.redirected == {two: (("tcp", 18080, 80),)}
        assert b.kernel.rules == {}, "nothing of the host is touched"
        first, second = b.kernel.open_devices()
        packet = udp_packet(ip_address("10.1.2.2").packed, 1, ip_address("10.1.2.3").packed, 2, b"hello")
        first.come(packet)
        await wait_all_tasks_blocked()
        assert second.written == [packet]
        for wrong in ("10.1.2.4", "10.1.2.9"):
            with pytest.raises(InvalidIP, match="not an address of this node"):
                await subnet.attach(wrong, one)


async def test_connections_with_members_without_packets_are_carried_as_streams(tmp_path: Path) -> None:
    reached: list[tuple[PeerID, Wanted]] = []
    async with bench() as b, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()

        async def reach(peer: PeerID, wanted: Wanted) -> Pipe:
            reached.append((peer, wanted))
            if wanted.port == 1:
                raise NotConnected
            return TrioPipe(ours)

        b.subnets.reach = reach
        subnet = await b.subnets.create("id", CIDR, b.table())
        one, two = namespace(tmp_path, "one"), namespace(tmp_path, "two")
        await subnet.attach("10.1.2.2", one)
        assert b.kernel.diverted == {}, "nothing is diverted as long as nobody needs it"
        await subnet.lead_by_stream(["10.1.2.4"])
        await subnet.attach("10.1.2.3", two)
        assert [diverted.addresses for diverted in b.kernel.diverted.values()] == [{IPv4Address("10.1.2.4")}] * 2
        program, inner = memory_stream_pair()
        b.kernel.diverted[one].come(TrioPipe(inner), "10.1.2.4", 80)
        await program.send_all(b"hello")
        assert await theirs.receive_some() == b"hello"
        assert reached == [(OTHER, Wanted("id", "10.1.2.4", 80))]
        for address, port in (("10.1.2.4", 1), ("10.1.2.3", 80), ("10.1.2.9", 80)):
            program, inner = memory_stream_pair()
            b.kernel.diverted[two].come(TrioPipe(inner), address, port)
            assert await program.receive_some() == b"", "refused"
        assert len(reached) == 2
        await subnet.lead_by_stream([])
        assert [diverted.addresses for diverted in b.kernel.diverted.values()] == [frozenset()] * 2
        nursery.cancel_scope.cancel()


async def test_so_are_those_of_a_guest_and_of_the_machine_itself(tmp_path: Path) -> None:
    reached: list[Wanted] = []

    async def reach(peer: PeerID, wanted: Wanted) -> Pipe:
        reached.append(wanted)
        raise NotConnected

    async with bench() as b:
        b.subnets.reach = reach
        subnet = await b.subnets.create("id", CIDR, b.table())
        guest = namespace(tmp_path, "guest")
        await subnet.attach("10.1.2.2", guest, guest="guest0")
        await subnet.attach("10.1.2.3")
        assert b.kernel.rules["id"].by_stream == ()
        await subnet.lead_by_stream(["10.1.2.4"])
        diverted = b.kernel.diverted[guest]
        assert diverted.guest == "guest0"
        assert diverted.addresses == {IPv4Address("10.1.2.4")}
        rules = b.kernel.rules["id"]
        assert (rules.by_stream, rules.streams_port) == ((IPv4Address("10.1.2.4"),), b.kernel.diverted[None].port)
        for one in (diverted, b.kernel.diverted[None]):
            program, inner = memory_stream_pair()
            one.come(TrioPipe(inner), "10.1.2.4", 80)
            assert await program.receive_some() == b""
        assert reached == [Wanted("id", "10.1.2.4", 80)] * 2
        await subnet.map_port(WEB)
        await subnet.detach("10.1.2.3")
        assert b.kernel.rules["id"].by_stream == (), "it is no member any more, and only a port leads in"


async def test_where_nothing_can_be_diverted_members_have_their_packets_all_the_same(tmp_path: Path) -> None:
    async with bench() as b:
        b.kernel.failing["divert"] = FirewallRefused("no iptables")
        subnet = await b.subnets.create("id", CIDR, b.table())
        await subnet.lead_by_stream(["10.1.2.4"])
        await subnet.attach("10.1.2.2", namespace(tmp_path, "one"))
        assert subnet.is_attached("10.1.2.2")
        with pytest.raises(InvalidIP):
            await subnet.lead_by_stream(["10.9.9.9"])


async def test_a_member_that_restarts_gets_a_new_device_and_one_that_failed_leaves_none(tmp_path: Path) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        one, two = namespace(tmp_path, "one"), namespace(tmp_path, "two")
        await subnet.attach("10.1.2.2", one)
        await subnet.attach("10.1.2.2", two)
        assert [d.namespace for d in b.kernel.open_devices()] == [two]
        b.kernel.failing["redirect"] = FirewallRefused()
        with pytest.raises(FirewallRefused):
            await subnet.attach("10.1.2.3", one, ports=[("tcp", 1, 2)])
        b.kernel.failing["open_device"] = KernelRefused()
        with pytest.raises(KernelRefused):
            await subnet.attach("10.1.2.3", one)
        assert subnet.status().attached == ("10.1.2.2",)
        assert len(b.kernel.open_devices()) == 1


async def test_the_device_of_a_container_that_ended_is_closed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        one = namespace(tmp_path, "one")
        await subnet.attach("10.1.2.2", one)
        await trio.sleep(3 * CHECK_EVERY_S)
        assert subnet.status().attached == ("10.1.2.2",)
        one.unlink()
        await trio.sleep(2 * CHECK_EVERY_S)
        assert subnet.status().attached == ()
        assert not b.kernel.open_devices()


async def test_members_without_a_namespace_share_the_device_of_the_machine_and_the_host_is_closed_to_it() -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        await subnet.attach("10.1.2.2")
        assert list(b.kernel.offered.values()) == [IPv4Address("10.1.2.1")]
        await subnet.attach("10.1.2.3")
        device = b.kernel.open_devices()[0]
        assert [str(each) for each in device.addresses[::2]] == ["10.1.2.2/24", "10.1.2.3/24"]
        assert b.kernel.rules["id"].device == device.name
        await subnet.detach("10.1.2.2")
        assert b.kernel.open_devices() == [device]
        await subnet.detach("10.1.2.3")
        assert b.kernel.open_devices() == []
        assert b.kernel.rules == {}


async def test_what_somebody_removed_from_the_machine_is_put_back(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        await subnet.attach("10.1.2.2")
        await subnet.lead_by_stream(["10.1.2.4"])
        (first,) = b.kernel.open_devices()
        first.close()
        await wait_all_tasks_blocked()
        while not subnet.is_attached("10.1.2.2"):  # noqa: ASYNC110  addresses are given in a thread, which is in no hurry
            await trio.sleep(CHECK_EVERY_S)
        await wait_all_tasks_blocked()
        (second,) = b.kernel.open_devices()
        assert (second.name, second.addresses) == (first.name, first.addresses)
        assert b.kernel.rules["id"].by_stream == (IPv4Address("10.1.2.4"),)
        b.kernel.failing["open_device"] = KernelRefused("no more of them")
        second.close()
        await trio.sleep(1000)
        assert [one.message for one in caplog.records].count("subnet_device_not_put_back") == 1
        b.kernel.failing.clear()
        while not subnet.is_attached("10.1.2.2"):  # noqa: ASYNC110
            await trio.sleep(LONGEST_PAUSE_S)
        await subnet.detach("10.1.2.2")
        await trio.sleep(1000)
        assert b.kernel.open_devices() == [], "nobody wants it any more"
        await subnet.map_port(WEB)
        b.kernel.open_devices()[0].close()
        await trio.sleep(2 * CHECK_EVERY_S)
        (again,) = b.kernel.open_devices()
        assert str(again.addresses[0]) == "10.1.2.1/24", "it carries a port"


async def test_without_a_firewall_the_machine_gets_no_device() -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        b.kernel.failing["set_rules"] = FirewallRefused()
        with pytest.raises(FirewallRefused):
            await subnet.attach("10.1.2.2")
        with pytest.raises(FirewallRefused):
            await subnet.map_port(WEB)
        await wait_all_tasks_blocked()
        assert not b.kernel.open_devices()
        assert subnet.status().ports == ()


async def test_the_address_of_a_guest_is_behind_its_device_and_its_ports_lead_to_it(tmp_path: Path) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        one = namespace(tmp_path, "one")
        await subnet.attach("10.1.2.2", one, ports=[("tcp", 18080, 80)], guest="guest0")
        (device,) = b.kernel.open_devices()
        assert isinstance(device, MemoryDevice)
        assert (device.namespace, device.guest) == (one, "guest0")
        assert (b.kernel.redirected[one], b.kernel.redirected_to[one]) == (
            (("tcp", 18080, 80),),
            (IPv4Address("10.1.2.2"), to_ipv6(private_prefix("id"), IPv4Address("10.1.2.2"))),
        )
        assert b.kernel.rules == {}, "its backend binds the ports of the machine"


async def test_ports_that_nobody_else_binds_lead_in_for_as_long_as_the_member_is_there(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        one, two = namespace(tmp_path, "one"), namespace(tmp_path, "two")
        await subnet.attach("10.1.2.2", one, ports=[("tcp", 18080, 80)], guest="guest0", published=())
        await subnet.attach("10.1.2.3", two, ports=[("udp", 19090, 90)], guest="guest0", published=())
        first = PortMapping("tcp", 18080, IPv4Address("10.1.2.2"), 80)
        second = PortMapping("udp", 19090, IPv4Address("10.1.2.3"), 90)
        assert set(b.kernel.rules["id"].mappings) == {first, second}
        await subnet.attach("10.1.2.2", one, ports=[("tcp", 18080, 80)], guest="guest0", published=())
        await wait_all_tasks_blocked()
        assert set(b.kernel.rules["id"].mappings) == {first, second}, "again, as after a restart"
        one.unlink()
        await trio.sleep(2 * CHECK_EVERY_S)
        assert b.kernel.rules["id"].mappings == (second,)
        await subnet.detach("10.1.2.3")
        await wait_all_tasks_blocked()
        assert b.kernel.rules == {}
        assert not b.kernel.open_devices(), "nothing leads to the machine's own device any more"


async def test_the_port_of_a_member_that_has_just_ended_is_free_for_the_next(tmp_path: Path) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        one, two = namespace(tmp_path, "one"), namespace(tmp_path, "two")
        await subnet.attach("10.1.2.2", one, ports=[("tcp", 18080, 80)], guest="guest0", published=())
        one.unlink()
        await subnet.attach("10.1.2.3", two, ports=[("tcp", 18080, 80)], guest="guest0", published=())
        await wait_all_tasks_blocked()
        assert b.kernel.rules["id"].mappings == (WEB,)
        assert subnet.status().attached == ("10.1.2.3",)


async def test_a_port_that_is_taken_does_not_keep_a_member_from_its_network(tmp_path: Path) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        await subnet.map_port(WEB)
        one = namespace(tmp_path, "one")
        with pytest.raises(PortMapped):
            await subnet.attach("10.1.2.2", one, ports=[("tcp", WEB.public, 80)], guest="guest0", published=())
        assert subnet.status().attached == ("10.1.2.2",)
        await subnet.detach("10.1.2.2")
        await wait_all_tasks_blocked()
        assert b.kernel.rules["id"].mappings == (WEB,)


async def test_who_is_asked_for_names_outside_may_change_while_networks_are_there(tmp_path: Path) -> None:
    question = dns.message.make_query("example.com", "A").to_wire()
    packet = udp_packet(ip_address("10.1.2.2").packed, 5353, ip_address("10.1.2.1").packed, 53, question)

    async def upstream(query: bytes) -> bytes:
        return dns.message.make_response(dns.message.from_wire(query)).to_wire()

    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        await subnet.attach("10.1.2.2", namespace(tmp_path, "one"))
        (device,) = b.kernel.open_devices()
        b.subnets.follow(upstream)
        device.come(packet)
        await wait_all_tasks_blocked()
        b.subnets.follow(None)
        device.come(packet)
        await wait_all_tasks_blocked()
        codes = [dns.message.from_wire(answer[28:]).rcode() for answer in device.written]
        assert codes == [dns.rcode.NOERROR, dns.rcode.REFUSED]


async def test_a_public_port_is_chosen_where_it_was_left_open_and_given_back() -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        subnet.add_names({"web": "10.1.2.3"})
        got = await subnet.map_port(PortMapping("tcp", 0, IPv4Address("10.1.2.3"), 80))
        assert 20000 <= got.public <= 20010
        assert list(b.kernel.rules["id"].mappings) == [got]
        assert b.kernel.rules["id"].source == IPv4Address("10.1.2.1")
        await subnet.unmap_port(got)
        assert not b.kernel.rules["id"].mappings
        with pytest.raises(InvalidIP):
            await subnet.map_port(PortMapping("tcp", 0, IPv4Address("10.1.2.4"), 80))


async def test_members_come_go_and_move_while_it_runs(tmp_path: Path) -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        await subnet.accept({"10.1.2.5": OTHER, "10.1.2.6": OTHER})
        await subnet.remove_peer(OTHER, "10.1.2.5")
        members = {member.peer: member.addresses for member in subnet.status().members}
        assert members == {b.own: ("10.1.2.2", "10.1.2.3"), OTHER: ("10.1.2.4", "10.1.2.6")}
        with pytest.raises(InvalidIP):
            await subnet.accept({"10.1.2.7": OTHER, "10.9.9.9": OTHER})
        await subnet.attach("10.1.2.2", namespace(tmp_path, "one"))
        await subnet.add_peer(OTHER, "10.1.2.2")  # its standby took over
        assert subnet.status().attached == ()
        await subnet.remove_peer(OTHER)
        assert [member.peer for member in subnet.status().members] == [b.own]
        await subnet.remove_peer(OTHER, "10.1.2.77")


async def test_names_are_told_by_member() -> None:
    async with bench() as b:
        subnet = await b.subnets.create("id", CIDR, b.table())
        subnet.add_names({"web.internal": "10.1.2.3", "db": "10.1.2.4"})
        assert subnet.lookup("WEB.") == IPv4Address("10.1.2.3")
        names = {member.peer: member.names for member in subnet.status().members}
        assert names == {b.own: ("web",), OTHER: ("db",)}
        subnet.remove_names(("db",))
        assert subnet.lookup("db.internal") is None
        with pytest.raises(InvalidName):
            subnet.add_names({"a b": "10.1.2.3"})


async def test_the_end_of_the_node_leaves_nothing_even_when_it_is_cancelled(tmp_path: Path) -> None:
    kernel, network = MemoryKernel(), VirtualNetwork(seed=1).node(1)
    with trio.CancelScope() as scope:
        async with network.run(), Subnets(network, kernel, rng=Random(1)).run():
            pass
        async with network.run():
            subnets = Subnets(network, kernel, rng=Random(1))
            async with subnets.run():
                subnet = await subnets.create("id", CIDR, {"10.1.2.2": network.peer_id, "10.1.2.3": network.peer_id})
                await subnet.attach("10.1.2.2", namespace(tmp_path, "one"))
                await subnet.map_port(WEB)
                scope.cancel()
                await trio.sleep_forever()
    assert not kernel.open_devices()
    assert not kernel.rules


async def test_a_member_that_is_connected_again_gets_packets_at_once(autojump_clock: MockClock, tmp_path: Path) -> None:
    world = VirtualNetwork(seed=1)
    here, there = world.node(1), world.node(2)
    table = {"10.1.2.2": here.peer_id, "10.1.2.3": there.peer_id}
    packet = udp_packet(ip_address("10.1.2.2").packed, 1, ip_address("10.1.2.3").packed, 2, b"hello")
    kernels = MemoryKernel(), MemoryKernel()
    ours, theirs = (Subnets(one, k, rng=Random(1)) for one, k in zip((here, there), kernels, strict=True))
    async with here.run(), ours.run():
        subnet = await ours.create("id", CIDR, table)
        await subnet.attach("10.1.2.2", namespace(tmp_path, "here"))
        for _ in range(200):  # until attempts are rare
            kernels[0].devices[0].come(packet)
            await trio.sleep(1)
        assert subnet.status().members[1].state == "broken"
        async with there.run(), theirs.run():
            await (await theirs.create("id", CIDR, table)).attach("10.1.2.3", namespace(tmp_path, "there"))
            await there.connect(here.listen_addresses[0])
            kernels[0].devices[0].come(packet)
            await trio.sleep(1)
            assert packet in kernels[1].devices[0].written
