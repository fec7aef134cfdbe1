"""What passed in the private networks of two nodes, as metrics see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import trio
from trio.testing import MockClock

from dms.network import Network
from dms.subnet.packets import udp_packet
from dms.subnet.subnets import Subnets
from dms.subnet.tally import Drop
from dms.subnet.totals import Totals, median
from dms.testing.network import VirtualNetwork
from dms.testing.subnet import MemoryDevice, MemoryKernel

ONE, TWO, NOBODY = "10.1.2.2", "10.1.2.3", "10.1.2.99"


class Node:
    def __init__(self, network: Network) -> None:
        self.network, self.kernel = network, MemoryKernel()
        self.subnets = Subnets(network, self.kernel, rng=Random(1))

    @property
    def device(self) -> MemoryDevice:
        found = self.kernel.open_devices()[-1]
        assert isinstance(found, MemoryDevice)
        return found


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes with a member each, in one network."""
    world = VirtualNetwork(seed=1)
    a, b = Node(world.node(1)), Node(world.node(2))
    async with a.network.run(), b.network.run(), a.subnets.run(), b.subnets.run():
        await a.network.connect(b.network.listen_addresses[0])
        for node, own in ((a, ONE), (b, TWO)):
            subnet = await node.subnets.create("id", "", {ONE: a.network.peer_id, TWO: b.network.peer_id})
            (tmp_path / own).touch()
            await subnet.attach(own, tmp_path / own)
        yield a, b


def packet(to: str, source: str = ONE) -> bytes:
    addresses = [bytes(map(int, ip.split("."))) for ip in (source, to)]
    return udp_packet(addresses[0], 7, addresses[1], 8, b"x" * 100)


async def test_packets_of_all_members_and_networks_are_counted_together_also_when_they_are_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with pair(tmp_path) as (a, b):
        assert a.subnets.totals() == Totals(networks=1, attached=1)
        for number in range(3):
            a.device.come(packet(TWO))
            await trio.sleep(number + 1)
        a.device.come(packet(NOBODY))
        a.device.come(packet(TWO, source=NOBODY))
        await trio.sleep(1)
        sent, got = a.subnets.totals(), b.subnets.totals()
        assert (sent.packets_out, sent.bytes_out) == (got.packets_in, got.bytes_in) == (3, 3 * len(packet(TWO)))
        assert sent.drops == {Drop.NO_ROUTE.value: 1, Drop.FORGED_SOURCE.value: 1}
        assert dict(sent.ways) == {"direct": 1}
        assert len(sent.rtts_s) == 1

        status = a.subnets.get("id").status()
        (member,) = [one for one in status.members if not one.is_own]
        assert (member.path, member.relay, member.mtu, member.packets_out) == ("direct", "", 1420, 3)

        await a.subnets.destroy("id")
        after = a.subnets.totals()
        assert (after.networks, after.attached, dict(after.ways), after.rtts_s) == (0, 0, {}, [])
        assert (after.packets_out, after.bytes_out, after.drops) == (sent.packets_out, sent.bytes_out, sent.drops)


async def test_networks_that_we_share_with_a_peer_share_what_its_relay_carries(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(seed=1).node(1)
    subnets = Subnets(network, MemoryKernel(), rng=Random(1))
    peer, other = (VirtualNetwork(seed=2).node(number).peer_id for number in (1, 2))
    shared = subnets._shared_with(peer)
    assert shared.budget.spend(1000, trio.current_time())
    assert subnets._shared_with(peer) is shared
    assert subnets._shared_with(other) is not shared
    await trio.sleep(301)
    subnets._shared_with(other)
    assert peer not in subnets._shared, "what is whole again is not kept"


def test_the_one_in_the_middle() -> None:
    assert median([]) is None
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([1.0, 2.0]) == 1.0
