"""The private network of one ensemble on one node: its members, their devices, names and ports.

Every member has a device of its own where it runs. That of a container is made inside the container's network
namespace and read by this process, so that its packets pass nothing of the host: no bridge, no forwarding, no rules, and
nothing stays when either ends. Members without a namespace share one device of the machine, which is also where public
ports lead in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

import trio

from dms.executor.protocol import PROTOCOLS
from dms.observe.log import get_logger
from dms.subnet.addresses import host_of, to_ipv6
from dms.subnet.attachments import Attachment, inode_of
from dms.subnet.connecting import Reach, Wanted
from dms.subnet.describing import Told, status_of, totals_of
from dms.subnet.diverting import Diverted, carry
from dms.subnet.errors import DeviceGone, FirewallRefused, InvalidIP, NotConnected, SubnetError
from dms.subnet.exchange import Exchange
from dms.subnet.firewall import Rules
from dms.subnet.kernel import Kernel
from dms.subnet.pipes import Pipe
from dms.subnet.plane import Plane, Port
from dms.subnet.ports import PortMapping, PortPlan
from dms.subnet.resolver import Upstream
from dms.subnet.status import SubnetStatus
from dms.subnet.totals import Totals
from dms.types.ids import PeerID

log = get_logger(__name__)

CHECK_EVERY_S = 2.0
LONGEST_PAUSE_S = 60.0
"""Between attempts to put back a device of the machine that somebody removed."""
INSIDE_DEVICE = "nunet0"
"""What a container calls its device; it is a member of one network only."""


class Subnet:
    """Made by :class:`~dms.subnet.subnets.Subnets`, in whose nursery its tasks run."""

    def __init__(
        self,
        subnet_id: str,
        own: PeerID,
        owner: str,
        plane: Plane,
        exchange: Exchange,
        kernel: Kernel,
        ports: PortPlan,
        nursery: trio.Nursery,
        reach: Reach,
    ) -> None:
        self._reach = reach
        self.id, self._own, self._owner = subnet_id, own, owner
        self._plane, self._exchange, self._kernel, self._ports, self._nursery = plane, exchange, kernel, ports, nursery
        self._attached: dict[IPv4Address, Attachment] = {}
        self._host: Attachment | None = None
        self._changing = trio.Lock()
        self._has_rules = self._is_over = False
        self._by_stream: frozenset[IPv4Address] = frozenset()
        self._at_host: set[IPv4Address] = set()
        """Addresses that the machine itself shall have."""
        self._pause_s, self._next_s = 0.0, 0.0

    # members -------------------------------------------------------------------------------------------------------

    async def add_peer(self, peer: PeerID, address: str) -> None:
        """An address belongs to a peer, from now on and whoever had it before.

        :raises InvalidIP: it is no address of the network.
        """
        await self.accept({address: peer})

    async def accept(self, table: Mapping[str, PeerID]) -> None:
        """Addresses belong to peers; none, if one of them is wrong.

        :raises InvalidIP: one is no address of the network.
        """
        for address in table:
            host_of(self._plane.table.network, address)
        for address, peer in table.items():
            before = self._plane.table.add(address, peer)
            if before is not None:
                await self._lost(before, IPv4Address(address))

    async def remove_peer(self, peer: PeerID, address: str = "") -> None:
        """An address of a peer, or all that it has, belongs to nobody now; what is not there is ignored.

        :raises InvalidIP: it is no address of the network.
        """
        table = self._plane.table
        gone = table.remove_peer(peer) if not address else ()
        if address and table.remove(address, peer):
            gone = (IPv4Address(address),)
        for one in gone:
            await self._lost(peer, one)

    def peer_came(self, peer: PeerID) -> None:
        """A peer is connected again: whoever is a member and could not be reached is tried at once."""
        self._plane.peer_came(peer)

    async def _lost(self, peer: PeerID, address: IPv4Address) -> None:
        if peer == self._own:
            await self.detach(str(address))
        elif not self._plane.is_member(peer):
            self._plane.forget_peer(peer)
            self._exchange.drop(self.id, peer)

    # devices -------------------------------------------------------------------------------------------------------

    async def attach(
        self,
        address: str,
        namespace: Path | None = None,
        *,
        ports: Iterable[tuple[str, int, int]] = (),
        guest: str = "",
        published: Collection[str] = PROTOCOLS,
    ) -> None:
        """Give an address of this node to who runs in a namespace, to the guest behind a device in it, or to the machine
        itself; again after a restart.

        ``ports`` (protocol, public, private): other members reach the private port at the public one, too. But for
        protocols of ``published``, the public ones of this machine lead in as well from now on; where that cannot be, it is
        a member all the same.

        :raises InvalidIP: it is not an address of this node.
        :raises KernelRefused: no device can be made.
        :raises NamespaceGone: there is no such namespace.
        :raises FirewallRefused: the ports cannot be led, or the host not be closed.
        :raises PortMapped: a public port of this machine leads elsewhere.
        """
        own = host_of(self._plane.table.network, address)
        if self._plane.table.peer_of(own) != self._own:
            raise InvalidIP(f"{own} is not an address of this node", hint="add it with this node as its peer first")
        async with self._changing:
            self._end_gone()  # what they held may be wanted now
            await self._detach(own)
            if namespace is None:
                await self._attach_to_host(own)
                return
            made = await self._open(INSIDE_DEVICE, [own], namespace, guest)
            redirected = tuple(ports)
            try:
                await self._divert(made)
                if redirected:
                    both = own, to_ipv6(self._plane.prefix, own)
                    await self._kernel.redirect(namespace, INSIDE_DEVICE, redirected, both)
            except BaseException:
                self._end(made)
                raise
            self._join(made, own)
            for protocol, public, private in redirected:
                if protocol in published:
                    continue
                made.published.append(await self._map(PortMapping(protocol, public, own, private)))

    async def lead_by_stream(self, addresses: Iterable[str]) -> None:
        """To these addresses go no packets, only streams: connections of the members here to them are diverted from now on.

        :raises InvalidIP: one is no address of the network.
        """
        wanted = frozenset(host_of(self._plane.table.network, address) for address in addresses)
        async with self._changing:
            if wanted == self._by_stream:
                return
            self._by_stream = self._plane.zone.by_stream = wanted
            for attachment in set(self._attached.values()):
                await self._divert(attachment)

    async def _divert(self, attachment: Attachment) -> None:
        """Where that cannot be, such connections fail; the others do not."""
        namespace, guest, wanted = attachment.namespace, attachment.guest, self._wanted_by_stream(attachment)
        if not (wanted or attachment.diverted):
            return
        try:
            if attachment.diverted is None:
                attachment.diverted = await self._kernel.listen(namespace, guest)
                self._nursery.start_soon(self._carry, attachment, attachment.diverted)
            if namespace is None:
                await self._set_rules()
            else:
                await self._kernel.divert(namespace, wanted, attachment.diverted.port, guest)
        except (SubnetError, OSError) as error:
            log.warning("subnet_streams_not_diverted", subnet=self.id, namespace=str(namespace), reason=str(error))

    def _wanted_by_stream(self, attachment: Attachment) -> frozenset[IPv4Address]:
        is_idle = attachment is self._host and not attachment.addresses
        return frozenset() if is_idle else self._by_stream - attachment.addresses

    async def _carry(self, attachment: Attachment, diverted: Diverted) -> None:
        async def reach(address: IPv4Address, port: int) -> Pipe:
            peer = self._plane.table.peer_of(address)
            if peer is None or address not in self._by_stream:
                raise NotConnected(f"{address} is nobody's")
            return await self._reach(peer, Wanted(self.id, str(address), port))

        with attachment.streams:
            await carry(diverted, reach)

    def is_attached(self, address: str) -> bool:
        """Whether somebody here has it."""
        return IPv4Address(address) in self._attached

    async def detach(self, address: str) -> None:
        """Take the address from who runs here; one that nobody has is ignored."""
        async with self._changing:
            await self._detach(IPv4Address(address))

    async def _attach_to_host(self, address: IPv4Address) -> None:
        host = await self._ensure_host([address])
        await trio.to_thread.run_sync(host.device.add_addresses, self._interfaces([address]))
        self._at_host.add(address)
        self._join(host, address)
        await self._divert(host)
        await self._kernel.offer_names(host.device.name, self._plane.gateway)

    async def _ensure_host(self, addresses: list[IPv4Address]) -> Attachment:
        """The device of the machine; the firewall closes the host to it before it carries anything."""
        if self._host is None:
            made = await self._open(self._host_device, addresses, None)
            self._host = made
            try:
                await self._set_rules()
            except BaseException:
                self._host = None
                self._end(made)
                raise
        return self._host

    async def _open(
        self, name: str, addresses: list[IPv4Address], namespace: Path | None, guest: str = ""
    ) -> Attachment:
        device = await self._kernel.open_device(
            name,
            self._interfaces(addresses),
            mtu=self._plane.mtu,
            alias=f"nunet {self.id}",
            namespace=namespace,
            guest=guest,
        )
        attachment = Attachment(device, Port(device), namespace, inode_of(namespace), guest=guest)
        self._nursery.start_soon(self._serve, attachment)
        return attachment

    def _join(self, attachment: Attachment, address: IPv4Address) -> None:
        attachment.addresses.add(address)
        self._attached[address] = attachment
        self._plane.attach(attachment.port, address)

    async def _detach(self, address: IPv4Address) -> None:
        self._at_host.discard(address)
        attachment = self._attached.pop(address, None)
        if attachment is None:
            return
        attachment.addresses.discard(address)
        self._plane.detach(attachment.port, address)
        if attachment is not self._host:
            self._end(attachment)
            return
        await self._divert(attachment)
        await self._close_idle_host()

    async def _close_idle_host(self) -> None:
        """The device of the machine goes once it has neither an address nor a port to carry."""
        host = self._host
        if host is not None and not host.addresses and not self._ports.mappings(self.id):
            self._host = None
            self._end(host)
            await self._remove_rules()

    async def _serve(self, attachment: Attachment) -> None:
        try:
            with attachment.scope:
                await self._plane.serve(attachment.port)
        except DeviceGone:
            if not self._is_over:
                log.info("subnet_device_gone", subnet=self.id, device=attachment.device.name)
        finally:
            for address in [one for one, other in self._attached.items() if other is attachment]:
                del self._attached[address]
                self._plane.detach(attachment.port, address)
            if self._host is attachment:
                self._host = None
            attachment.device.close()
            attachment.streams.cancel()
            self._plane.tally.drops.update(attachment.port.tally.drops)
            self._give_back(attachment)

    async def watch(self) -> None:
        """End the devices whose namespaces have ended, and put back that of the machine when it was removed by somebody else,
        until cancelled."""
        while True:
            await trio.sleep(CHECK_EVERY_S)
            self._end_gone()
            if self._is_missing and trio.current_time() >= self._next_s:
                await self._put_back()

    @property
    def _is_missing(self) -> bool:
        """Whether the machine has not what it was given."""
        is_wanted = self._host is None and bool(self._ports.mappings(self.id))
        return is_wanted or not self._at_host <= self._attached.keys()

    async def _put_back(self) -> None:
        async with self._changing:
            if not self._is_missing:
                return
            try:
                host = await self._ensure_host(sorted(self._at_host) or [self._plane.gateway])
                if self._ports.mappings(self.id):
                    self._plane.allow_gateway(host.port)
                for address in sorted(self._at_host):
                    await self._attach_to_host(address)
            except (SubnetError, OSError) as error:
                if not self._pause_s:
                    log.warning("subnet_device_not_put_back", subnet=self.id, reason=str(error))
                self._pause_s = min(max(2 * self._pause_s, CHECK_EVERY_S), LONGEST_PAUSE_S)
                self._next_s = trio.current_time() + self._pause_s
                return
            self._pause_s = 0.0
            log.info("subnet_device_put_back", subnet=self.id, device=self._host_device)

    def _end_gone(self) -> None:
        for attachment in set(self._attached.values()):
            if attachment.namespace is not None and inode_of(attachment.namespace) != attachment.inode:
                log.info("subnet_member_gone", subnet=self.id, namespace=str(attachment.namespace))
                self._end(attachment)

    def _end(self, attachment: Attachment) -> None:
        """At once: whoever asks the kernel next does not find it, and its ports are free."""
        attachment.scope.cancel()
        attachment.streams.cancel()
        attachment.device.close()
        self._give_back(attachment)

    def _give_back(self, attachment: Attachment) -> None:
        published, attachment.published = attachment.published, []
        if not published or self._is_over:
            return
        for mapping in published:
            self._ports.unmap(self.id, mapping)
        self._nursery.start_soon(self._settle_rules)

    @property
    def _host_device(self) -> str:
        return "dms-" + hashlib.sha256(f"{self._owner}\n{self.id}".encode()).hexdigest()[:8]

    def _interfaces(self, addresses: list[IPv4Address]) -> list[IPv4Interface | IPv6Interface]:
        plane = self._plane
        found: list[IPv4Interface | IPv6Interface] = []
        for address in addresses:
            found.append(IPv4Interface((int(address), plane.table.network.prefixlen)))
            found.append(IPv6Interface((int(to_ipv6(plane.prefix, address)), plane.prefix.prefixlen)))
        return found

    # names and ports -----------------------------------------------------------------------------------------------

    def add_names(self, records: Mapping[str, str]) -> None:
        """Names of members; all that the ensemble has are known on each of its nodes.

        :raises InvalidName: DNS cannot carry one.
        :raises InvalidIP: an address is none.
        """
        self._plane.zone.add(records)

    def set_services(self, services: Mapping[str, Iterable[tuple[str, int]]]) -> None:
        """At which ports (protocol, number) names serve: all that are known from now on.

        :raises InvalidName: DNS cannot carry one.
        """
        self._plane.zone.set_ports(services)

    def follow(self, upstream: Upstream | None) -> None:
        """Ask for names outside there from now on, or nowhere."""
        self._plane.follow(upstream)

    def remove_names(self, names: tuple[str, ...]) -> None:
        """Names that are no more.

        :raises InvalidName: DNS cannot carry one.
        """
        self._plane.zone.remove(names)

    def lookup(self, name: str) -> IPv4Address | None:
        """The address of a name."""
        return self._plane.zone.lookup(name)

    async def map_port(self, mapping: PortMapping) -> PortMapping:
        """A port of this machine leads to a member here; the public one is filled in where it was 0.

        :raises InvalidIP: the address is not one of this node.
        :raises PortMapped: the public port leads elsewhere.
        :raises NoAddressLeft: no port is free.
        :raises KernelRefused: there can be no device to lead it to.
        :raises FirewallRefused: the firewall takes no rules.
        """
        if self._plane.table.peer_of(mapping.address) != self._own:
            raise InvalidIP(f"{mapping.address} is not an address of this node")
        async with self._changing:
            return await self._map(mapping)

    async def unmap_port(self, mapping: PortMapping) -> None:
        """It leads nowhere any more.

        :raises PortNotMapped: it does not.
        :raises FirewallRefused: the firewall takes no rules.
        """
        async with self._changing:
            if self._ports.unmap(self.id, mapping) and self._host is not None:
                await self._set_rules()

    async def _map(self, mapping: PortMapping) -> PortMapping:
        taken = self._ports.map(self.id, mapping)
        try:
            host = await self._ensure_host([self._plane.gateway])
            self._plane.allow_gateway(host.port)
            await self._set_rules()
        except BaseException:
            self._ports.unmap(self.id, taken)
            raise
        return taken

    async def _settle_rules(self) -> None:
        """After ports were given back by a member that ended."""
        async with self._changing:
            try:
                await self._close_idle_host()
                if self._host is not None and not self._is_over:
                    await self._set_rules()
            except SubnetError as error:
                log.warning("subnet_rules_not_set", subnet=self.id, reason=error.message)

    def _rules(self) -> Rules:
        assert self._host is not None
        host, mappings = self._host, self._ports.mappings(self.id)
        own = next(iter(host.addresses), self._plane.gateway)
        rules = Rules(self._owner, self.id, self._host_device, own, mappings)
        if host.diverted is None:
            return rules
        return replace(rules, by_stream=tuple(sorted(self._wanted_by_stream(host))), streams_port=host.diverted.port)

    async def _set_rules(self) -> None:
        self._has_rules = True  # perhaps in part, when it fails
        await self._kernel.set_rules(self._rules())

    async def _remove_rules(self) -> None:
        try:
            await self._kernel.remove_rules(self.id)
            self._has_rules = False
        except FirewallRefused as error:
            log.warning("subnet_rules_not_removed", subnet=self.id, reason=error.message)

    # the whole -----------------------------------------------------------------------------------------------------

    async def destroy(self) -> None:
        """Leave nothing."""
        async with self._changing:
            self._is_over = True
            self._exchange.remove(self.id)
            for attachment in {*self._attached.values(), *([self._host] if self._host else [])}:
                self._end(attachment)
            for peer in self._plane.table.peers():
                self._plane.forget_peer(peer)
            self._ports.forget(self.id)
            if self._has_rules:
                with trio.CancelScope(shield=True), suppress(SubnetError):
                    await self._remove_rules()

    def status(self) -> SubnetStatus:
        """All that is known here."""
        return status_of(self._told, self._own, self._ports.mappings(self.id))

    def totals(self) -> Totals:
        """What passed, and how packets get to other machines now."""
        return totals_of(self._told)

    @property
    def _told(self) -> Told:
        ports = tuple(attachment.port for attachment in set(self._attached.values()))
        return Told(self.id, self._plane, tuple(map(str, self._attached)), ports)
