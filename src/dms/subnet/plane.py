"""Carries the packets of one network on one node: between its members here, to and from peers, and to the gateway.

The gateway's address exists on every node and never leaves it: it answers names and pings, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from random import Random
from typing import Protocol

import trio

from dms.network.byte_streams import ByteStreams
from dms.subnet.addresses import private_prefix, to_ipv6
from dms.subnet.datagrams import Datagrams
from dms.subnet.dns import PORT as DNS_PORT
from dms.subnet.dns import Outcome, Zone
from dms.subnet.errors import BadPacket
from dms.subnet.forwarding import Forwarder, ToPeer, ToPort
from dms.subnet.joining import joined
from dms.subnet.links import Link, LinkState, LinkStatus
from dms.subnet.name_streams import Asker, NameStreams, Taken
from dms.subnet.packets import Header, echo_reply, parse_header, udp_packet, udp_ports, unreachable
from dms.subnet.resolver import Resolver, Upstream
from dms.subnet.routing import RoutingTable
from dms.subnet.segments import Parcel, check, from_device, offloads_of
from dms.subnet.sharing import Shared
from dms.subnet.tally import Drop, Tally
from dms.types.ids import PeerID

MTU = 1420


class Device(Protocol):
    """Where packets of members come from and go to: a TUN device, as a rule."""

    async def read(self) -> list[bytes]:
        """What is there, at least one; each packet behind its header of offloads."""
        ...

    def write(self, offloads: bytes, packet: bytes) -> bool:
        """Hand one over behind its header of offloads; whether there was room for it."""
        ...


@dataclass(eq=False)
class Port:
    """A device on this node, and the addresses that whoever is behind it may use."""

    device: Device
    allowed: frozenset[bytes] = frozenset()
    tally: Tally = field(default_factory=Tally)


class Plane:
    """Of one network."""

    def __init__(
        self,
        subnet_id: str,
        own: PeerID,
        table: RoutingTable,
        streams: ByteStreams,
        *,
        rng: Random,
        upstream: Upstream | None = None,
        datagrams: Datagrams | None = None,
        shared_with: Callable[[PeerID], Shared] = lambda _peer: Shared(),
        mtu: int = MTU,
    ) -> None:
        self.table, self.mtu = table, mtu
        self.prefix = private_prefix(subnet_id)
        self.gateway = table.network.network_address + 1
        self.zone = Zone(table.network, self.prefix, forwards=upstream is not None)
        self.tally = Tally()
        self._resolver = Resolver(self.zone, upstream)
        self.queries = self._resolver.queries
        self._name_streams = NameStreams(mtu)
        self._subnet_id, self._own, self._streams = subnet_id, own, streams
        self._rng, self._datagrams, self._shared_with = rng, datagrams, shared_with
        self._gateways = (self.gateway.packed, to_ipv6(self.prefix, self.gateway).packed)
        self._forwarder: Forwarder[Port] = Forwarder(own, table, self._gateways)
        self._links: dict[PeerID, tuple[Link, trio.CancelScope]] = {}
        self._touched: dict[Link, None] = {}
        self._tallies: dict[PeerID, Tally] = {}
        self.host: Port | None = None
        """The device of this machine itself, which has the gateway's address where ports lead in."""
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the ways to peers, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None
                self._links.clear()

    # members -------------------------------------------------------------------------------------------------------

    def is_member(self, peer: PeerID) -> bool:
        """Whether a peer has an address here."""
        return peer in self.table

    def attach(self, port: Port, address: IPv4Address) -> None:
        """Give what is behind a port one address more, of either family."""
        both = self._both(address)
        port.allowed |= frozenset(both)
        self._forwarder.attach(both, port)

    def detach(self, port: Port, address: IPv4Address) -> None:
        """Take it back."""
        both = self._both(address)
        port.allowed -= frozenset(both)
        self._forwarder.detach(both)

    def allow_gateway(self, port: Port) -> None:
        """What comes in by ports of this machine has the gateway's address as its source."""
        self.host = port
        port.allowed |= frozenset(self._gateways)

    def forget_peer(self, peer: PeerID) -> None:
        """It is no member any more: end the way to it."""
        self._forwarder.forget_peer(peer)
        link = self._links.pop(peer, None)
        if link is not None:
            link[1].cancel()

    def follow(self, upstream: Upstream | None) -> None:
        """Ask for names outside there from now on, or nowhere."""
        self._resolver.follow(upstream)

    def peer_came(self, peer: PeerID) -> None:
        """A peer is connected again, perhaps a member that could not be reached before."""
        link = self._links.get(peer)
        if link is not None:
            link[0].came()

    def tally_of(self, peer: PeerID) -> Tally:
        """What went to and came from a peer."""
        return self._tallies.setdefault(peer, Tally())

    def tallies(self) -> Iterable[Tally]:
        """Of all peers, those that are no members any more included."""
        return self._tallies.values()

    def links(self) -> Iterator[LinkStatus]:
        """How the ways to peers stand, those that were used."""
        return (link.status() for link, _ in self._links.values())

    def link_status(self, peer: PeerID) -> LinkStatus:
        """How the way to a peer stands."""
        link = self._links.get(peer)
        return link[0].status() if link is not None else LinkStatus(LinkState.IDLE, "", "", None, "")

    # packets -------------------------------------------------------------------------------------------------------

    async def serve(self, port: Port) -> None:
        """Carry what comes from a device, until cancelled."""
        while True:
            for raw in await port.device.read():
                self._outbound(raw, port)
            touched, self._touched = self._touched, {}
            for link in touched:
                link.push()

    async def receive(self, sender: PeerID, parcels: list[Parcel]) -> None:
        """Hand over what a peer sent, if it may send that, and to whom."""
        tally = self.tally_of(sender)
        tally.took(len(parcels), sum(len(parcel.data) for parcel in parcels))
        ready: dict[Port, list[tuple[Parcel, Header]]] = {}
        for parcel in parcels:
            try:
                header = parse_header(parcel.data)
                check(parcel, header)
            except BadPacket:
                tally.drop(Drop.MALFORMED)
                continue
            decision = self._forwarder.inbound(header, sender)
            if isinstance(decision, Drop):
                tally.drop(decision)
            else:
                ready.setdefault(decision.port, []).append((parcel, header))
        for port, packets in ready.items():
            for parcel, header in joined(packets) if len(packets) > 1 else packets:
                self._hand_over(parcel, header, port)

    def _outbound(self, raw: bytes, port: Port) -> None:
        try:
            parcel, header = from_device(raw)
        except BadPacket:
            port.tally.drop(Drop.MALFORMED)
            return
        port.tally.gave(1, len(parcel.data))
        decision = self._forwarder.outbound(header, port.allowed)
        if isinstance(decision, ToPeer):
            self._send(parcel, decision.peer)
        elif isinstance(decision, ToPort):
            self._hand_over(parcel, header, decision.port)
        elif isinstance(decision, Drop):
            port.tally.drop(decision)
            told = unreachable(parcel.data, header, self._own_gateway(header)) if decision is Drop.NO_ROUTE else None
            if told is not None:
                self._tell(told, port)
        else:
            self._at_gateway(parcel, header, port)

    def _hand_over(self, parcel: Parcel, header: Header, port: Port) -> None:
        if port.device.write(offloads_of(parcel, header), parcel.data):
            port.tally.took(1, len(parcel.data))
        else:
            port.tally.drop(Drop.DEVICE_FULL)

    def _tell(self, packet: bytes, port: Port) -> None:
        """A packet of our own."""
        self._hand_over(Parcel(packet), parse_header(packet), port)

    def _send(self, parcel: Parcel, peer: PeerID) -> None:
        found = self._links.get(peer)
        if found is None:
            if self._nursery is None:
                self.tally.drop(Drop.UNREACHABLE)
                return
            link = Link(
                self._streams,
                self._subnet_id,
                peer,
                self.tally_of(peer),
                mtu=self.mtu,
                rng=self._rng,
                shared=self._shared_with(peer),
                datagrams=self._datagrams,
            )
            found = self._links[peer] = (link, trio.CancelScope())
            self._nursery.start_soon(self._keep, *found)
        found[0].put(parcel)
        self._touched[found[0]] = None

    async def _keep(self, link: Link, scope: trio.CancelScope) -> None:
        with scope:
            await link.run()

    # the gateway ---------------------------------------------------------------------------------------------------

    def _at_gateway(self, parcel: Parcel, header: Header, port: Port) -> None:
        query = _query(parcel.data, header)
        if query is None:
            taken = self._name_streams.take(parcel.data, header)
            if taken is None:
                self._at_host(parcel, header, port)
            else:
                self._converse(taken, port)
            return
        source_port, question = query
        reply = self._resolver.answer(question)
        if reply.outcome is Outcome.FORWARD and self._nursery is not None:
            self._nursery.start_soon(self._ask_upstream, question, header, source_port, port)
        elif reply.data:
            self._tell(_answer(header, source_port, reply.data), port)

    def _converse(self, taken: Taken, port: Port) -> None:
        """A packet of somebody who asks for names by TCP."""
        self._tell_all(taken.replies, port)
        for query in taken.queries:
            reply = self._resolver.answer(query, is_stream=True)
            if reply.outcome is Outcome.FORWARD and self._nursery is not None:
                self._nursery.start_soon(self._ask_upstream_at_length, query, taken.asker, port)
            else:
                self._tell_all(self._name_streams.answer(taken.asker, reply.data), port)

    async def _ask_upstream_at_length(self, query: bytes, asker: Asker, port: Port) -> None:
        data = await self._resolver.ask(query, is_stream=True)
        self._tell_all(self._name_streams.answer(asker, data), port)

    def _tell_all(self, parcels: list[Parcel], port: Port) -> None:
        for parcel in parcels:
            self._hand_over(parcel, parse_header(parcel.data), port)

    def _at_host(self, parcel: Parcel, header: Header, port: Port) -> None:
        """A ping, or an answer to what came in by a mapped port; the firewall lets nothing else into the host."""
        pong = echo_reply(parcel.data, header)
        if pong is not None:
            self._tell(pong, port)
        elif self.host is not None and header.destination in self.host.allowed:
            self._hand_over(parcel, header, self.host)
        else:
            port.tally.drop(Drop.GATEWAY)

    async def _ask_upstream(self, query: bytes, header: Header, source_port: int, port: Port) -> None:
        data = await self._resolver.ask(query)
        if data:
            self._tell(_answer(header, source_port, data), port)

    def _own_gateway(self, header: Header) -> bytes:
        return self._gateways[0 if header.version == 4 else 1]

    def _both(self, address: IPv4Address) -> tuple[bytes, bytes]:
        return address.packed, to_ipv6(self.prefix, address).packed


def _query(packet: bytes, header: Header) -> tuple[int, bytes] | None:
    """The source port and the question, if it is one for the gateway's name server."""
    try:
        source_port, destination_port, question = udp_ports(packet, header)
    except BadPacket:
        return None
    return (source_port, question) if destination_port == DNS_PORT else None


def _answer(header: Header, source_port: int, data: bytes) -> bytes:
    return udp_packet(header.destination, DNS_PORT, header.source, source_port, data)
