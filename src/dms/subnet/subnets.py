"""All private networks of one node (``spec/network.md`` 7.2): made and destroyed by orchestrators, found by their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from random import Random

import trio

from dms.network import Network, PeerChange, PeerEvent
from dms.observe.log import get_logger
from dms.subnet.addresses import network_of, parse_network, private_prefix
from dms.subnet.connecting import Reach, Wanted, dial
from dms.subnet.datagrams import Datagrams, ips_of
from dms.subnet.errors import FirewallRefused, InvalidIP, NotActive, SubnetExists, SubnetNotFound, TooManySubnets
from dms.subnet.exchange import Exchange
from dms.subnet.frames import MAX_ID_BYTES
from dms.subnet.kernel import Kernel
from dms.subnet.pipes import Pipe
from dms.subnet.plane import Plane
from dms.subnet.ports import PortPlan
from dms.subnet.resolver import Upstream
from dms.subnet.routing import RoutingTable
from dms.subnet.sharing import Shared
from dms.subnet.subnet import Subnet
from dms.subnet.totals import Totals
from dms.types.ids import PeerID

log = get_logger(__name__)

MAX_SUBNETS = 256
MAX_MEMBERS = 65536
MAX_OBSERVED = 2
"""Addresses at which others see this node that are offered for datagrams, the likeliest first."""


class Subnets:
    """Runs as a context; everything ends with it, and nothing stays behind."""

    def __init__(
        self,
        network: Network,
        kernel: Kernel,
        *,
        rng: Random,
        first_port: int = 16384,
        last_port: int = 32768,
        upstream: Upstream | None = None,
        datagram_port: int | None = None,
    ) -> None:
        """``datagram_port``: of UDP, 0 for any that is free; without one packets take streams only."""
        self._network, self._kernel, self._rng, self._upstream = network, kernel, rng, upstream
        self._ports = PortPlan(rng, first=first_port, last=last_port)
        self._datagrams = (
            Datagrams(network.peer_id, port=datagram_port, own_ips=self._own_ips, known_ips=self._known_ips)
            if datagram_port is not None
            else None
        )
        self._exchange = Exchange(network.streams, self._datagrams)
        self._subnets: dict[str, tuple[Subnet, trio.CancelScope, IPv4Network]] = {}
        self._nursery: trio.Nursery | None = None
        self._shared: dict[PeerID, Shared] = {}
        self._gone = Totals()
        self.reach: Reach = partial(dial, network.streams)
        """How connections are made that are diverted from members here."""

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Take part; what an earlier process of this node left is removed first."""
        if not self._kernel.missing():
            try:
                await self._kernel.remove_rules()
            except FirewallRefused as error:
                log.warning("subnet_firewall_missing", reason=error.message)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self._datagrams is not None:
                await nursery.start(self._datagrams.run)
            self._exchange.open()
            stop_listening = self._network.listen(self._on_peer)
            try:
                yield
            finally:
                stop_listening()
                self._exchange.close()
                for subnet_id in tuple(self._subnets):
                    with trio.CancelScope(shield=True):
                        await self.destroy(subnet_id)
                self._nursery = None
                nursery.cancel_scope.cancel()

    async def create(self, subnet_id: str, cidr: str, table: Mapping[str, PeerID]) -> Subnet:
        """Begin a network whose members are known; without a CIDR, the /24 of its addresses.

        :raises SubnetExists: it is here already.
        :raises InvalidIP: the CIDR or an address is none.
        :raises TooManySubnets: there are too many, or too many members.
        :raises NotActive: private networks are not running.
        """
        if subnet_id in self._subnets:
            raise SubnetExists(f"subnet with ID {subnet_id} already exists")
        if self._nursery is None:
            raise NotActive
        if len(self._subnets) >= MAX_SUBNETS or len(table) > MAX_MEMBERS:
            raise TooManySubnets
        if not 0 < len(subnet_id.encode()) <= MAX_ID_BYTES:
            raise InvalidIP("invalid subnet ID", hint=f"at most {MAX_ID_BYTES} bytes")
        network = parse_network(cidr or network_of(table))
        routes = RoutingTable(network, private_prefix(subnet_id))
        routes.add_all(table)
        own = self._network.peer_id
        plane = Plane(
            subnet_id,
            own,
            routes,
            self._network.streams,
            rng=self._rng,
            upstream=self._upstream,
            datagrams=self._datagrams,
            shared_with=self._shared_with,
        )
        subnet = Subnet(
            subnet_id, own, str(own), plane, self._exchange, self._kernel, self._ports, self._nursery, self._connect
        )
        scope = trio.CancelScope()
        self._subnets[subnet_id] = (subnet, scope, network)
        self._exchange.add(subnet_id, plane)
        await self._nursery.start(partial(_keep, plane, subnet, scope))
        return subnet

    async def _connect(self, peer: PeerID, wanted: Wanted) -> Pipe:
        return await self.reach(peer, wanted)

    def get(self, subnet_id: str) -> Subnet:
        """A network that is here.

        :raises SubnetNotFound: it is not.
        """
        found = self._subnets.get(subnet_id)
        if found is None:
            raise SubnetNotFound(f"subnet with ID {subnet_id} does not exist")
        return found[0]

    async def destroy(self, subnet_id: str) -> None:
        """End a network: its streams, devices, rules, ports and names.

        :raises SubnetNotFound: it is not here.
        """
        subnet = self.get(subnet_id)
        _, scope, _ = self._subnets.pop(subnet_id)
        await subnet.destroy()
        self._gone.add(subnet.totals(), is_over=True)
        scope.cancel()

    def follow(self, upstream: Upstream | None) -> None:
        """Have members' questions for names outside asked there from now on, or nowhere."""
        self._upstream = upstream
        for subnet, _, _ in self._subnets.values():
            subnet.follow(upstream)

    def ids(self) -> tuple[str, ...]:
        """Of all that are here."""
        return tuple(self._subnets)

    def missing(self) -> str:
        """Why members cannot run here; empty when they can."""
        return self._kernel.missing()

    async def networks_in_use(self) -> tuple[IPv4Network, ...]:
        """What a new network must not overlap: the machine's, and the private ones that are here."""
        return (*await self._kernel.networks_in_use(), *(network for _, _, network in self._subnets.values()))

    def _on_peer(self, event: PeerEvent) -> None:
        if event.change is not PeerChange.DISCONNECTED:
            for subnet, _, _ in self._subnets.values():
                subnet.peer_came(event.peer)

    def _own_ips(self) -> tuple[str, ...]:
        """Where this node is seen and listens, but for the private networks themselves.

        As others see it is where a router may let datagrams in for which it let some out: two nodes behind routers, whose
        connection only a relay makes, reach each other so.
        """
        report = self._network.reachability.report()
        seen = (one.ip for one in report.observed[:MAX_OBSERVED])
        return self._outside(dict.fromkeys((*seen, *ips_of((*self._network.listen_addresses, *report.announced)))))

    def _known_ips(self, peer: PeerID) -> tuple[str, ...]:
        """Where a peer is connected from or to."""
        return self._outside(ips_of(a for info in self._network.peers() if info.peer == peer for a in info.addresses))

    def _outside(self, ips: Iterable[str]) -> tuple[str, ...]:
        """A packet of a private network that is carried by itself would go around for ever."""
        inside = [network for _, _, network in self._subnets.values()]
        return tuple(ip for ip in ips if ":" in ip or not any(IPv4Address(ip) in network for network in inside))

    def _shared_with(self, peer: PeerID) -> Shared:
        now_s = trio.current_time()
        self._shared = {one: kept for one, kept in self._shared.items() if one == peer or not kept.is_unused(now_s)}
        return self._shared.setdefault(peer, Shared())

    def refused(self) -> Mapping[str, int]:
        """Streams that were reset, and datagrams that were nobody's, by reason."""
        return dict(self._exchange.refused + (self._datagrams.refused if self._datagrams is not None else Counter()))

    def totals(self) -> Totals:
        """Of all networks together, those that are over included."""
        found = Totals()
        found.add(self._gone)
        for subnet, _, _ in self._subnets.values():
            found.add(subnet.totals())
        found.refused = Counter(self.refused())
        return found


async def _keep(plane: Plane, subnet: Subnet, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subnet.watch)
            await nursery.start(plane.run)
            task_status.started()
