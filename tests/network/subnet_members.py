"""Members of a private network on nodes of a world; their devices are lists in memory."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, ip_address
from random import Random

from tests.network.worlds import World, until

from dms.network import Network
from dms.subnet.addresses import private_prefix
from dms.subnet.datagrams import Datagrams
from dms.subnet.exchange import Exchange
from dms.subnet.packets import udp_packet
from dms.subnet.plane import Plane, Port
from dms.subnet.routing import RoutingTable
from dms.testing.subnet import MemoryDevice

ID = "3f2a"
NETWORK = IPv4Network("10.1.2.0/24")
PREFIX = private_prefix(ID)


def packed(text: str) -> bytes:
    return ip_address(text).packed


class Member:
    """One address on one node."""

    def __init__(self, node: Network, plane: Plane, exchange: Exchange, address: str) -> None:
        self.node, self.plane, self.exchange, self.address = node, plane, exchange, address
        self.device = MemoryDevice()
        self.port = Port(self.device)
        plane.attach(self.port, IPv4Address(address))

    def send(self, to: str, payload: bytes, *, source: str = "") -> bytes:
        packet = udp_packet(packed(source or self.address), 7, packed(to), 8, payload)
        self.device.come(packet)
        return packet

    async def got(self, count: int = 1) -> list[bytes]:
        await until(lambda: len(self.device.written) >= count)
        return self.device.written


async def members(world: World, count: int, *, datagrams: Callable[[Network], Datagrams] | None = None) -> list[Member]:
    """One on each of so many nodes, at 10.1.2.2 and following."""
    nodes = [await world.start() for _ in range(count)]
    for node in nodes[1:]:
        await node.connect(nodes[0].listen_addresses[0])
    made = []
    for number, node in enumerate(nodes, start=2):
        table = RoutingTable(NETWORK, PREFIX)
        table.add_all({f"10.1.2.{index}": other.peer_id for index, other in enumerate(nodes, start=2)})
        path = datagrams(node) if datagrams is not None else None
        if path is not None:
            await world.nursery.start(path.run)
        plane = Plane(ID, node.peer_id, table, node.streams, rng=Random(number), datagrams=path)
        exchange = Exchange(node.streams, path)
        exchange.open()
        exchange.add(ID, plane)
        member = Member(node, plane, exchange, f"10.1.2.{number}")
        await world.nursery.start(plane.run)
        world.nursery.start_soon(plane.serve, member.port)
        made.append(member)
    return made
