"""Private networks put into effect: packets flow between the members that run here and those elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Interface
from pathlib import Path

from dms.executor.protocol import PROTOCOLS
from dms.hardware.interfaces import read_interfaces
from dms.node.memberships import Membership
from dms.subnet.connecting import Reach
from dms.subnet.errors import SubnetError, SubnetNotFound
from dms.subnet.messages import MemberReport, NetworkReport, parse_service
from dms.subnet.status import MemberStatus
from dms.subnet.subnet import Subnet
from dms.subnet.subnets import Subnets
from dms.types.ids import AllocationID, EnsembleID, PeerID


class PacketEngine:
    """On top of :class:`~dms.subnet.subnets.Subnets`, which must run."""

    mode, lacks = "kernel", ""

    def __init__(self, subnets: Subnets) -> None:
        self._subnets = subnets
        self._applied: dict[EnsembleID, Membership] = {}

    async def apply(self, membership: Membership) -> str:
        """See :class:`~dms.node.private_networks.Engine`."""
        before = self._applied.get(membership.ensemble)
        if before is not None and before.cidr != membership.cidr:
            await self.remove(membership.ensemble)
            before = None
        try:
            subnet = self._subnets.get(membership.ensemble)
        except SubnetNotFound:
            subnet = await self._subnets.create(membership.ensemble, membership.cidr, membership.table)
        for address, peer in (before.table if before else {}).items():
            if address not in membership.table:
                await subnet.remove_peer(peer, address)
        await subnet.accept(membership.table)
        gone = tuple(name for name in (before.records if before else {}) if name not in membership.records)
        subnet.remove_names(gone)
        subnet.add_names(membership.records)
        subnet.set_services({name: map(parse_service, told) for name, told in membership.services.items()})
        await subnet.lead_by_stream(one for one in membership.by_stream if one in membership.table)
        self._applied[membership.ensemble] = membership
        if not membership.own or subnet.is_attached(membership.own):
            return ""
        try:
            await subnet.attach(membership.own)
        except SubnetError as exc:  # the members here do not suffer from that
            return exc.message
        return ""

    def reach_with(self, reach: Reach) -> None:
        """See :class:`~dms.node.private_networks.Engine`."""
        self._subnets.reach = reach

    async def remove(self, ensemble: EnsembleID) -> None:
        """See :class:`~dms.node.private_networks.Engine`."""
        self._applied.pop(ensemble, None)
        try:
            await self._subnets.destroy(ensemble)
        except SubnetNotFound:
            return

    async def join(
        self,
        ensemble: EnsembleID,
        allocation: AllocationID,
        namespace: Path,
        ports: Iterable[tuple[str, int, int]],
        *,
        behind: str = "",
        published: Collection[str] = PROTOCOLS,
    ) -> None:
        """See :class:`~dms.node.private_networks.Engine`."""
        membership = self._applied.get(ensemble)
        address = membership.members.get(allocation, "") if membership is not None else ""
        if not address:
            raise SubnetNotFound(f"{allocation} has no address")
        await self.subnet(ensemble).attach(address, namespace, ports=ports, guest=behind, published=published)

    def report(self, membership: Membership, own: PeerID) -> NetworkReport:
        """See :class:`~dms.node.private_networks.Engine`."""
        status = self.subnet(membership.ensemble).status()
        return NetworkReport(
            mode=self.mode,
            cidr=status.network,
            ipv6=status.ipv6,
            attached=status.attached,
            queries=dict(status.queries),
            drops=dict(status.drops),
            members=tuple(_member(one, is_own=one.peer == own) for one in status.members),
        )

    def subnet(self, ensemble: EnsembleID) -> Subnet:
        """The network itself.

        :raises SubnetNotFound: it is not here.
        """
        return self._subnets.get(ensemble)


def _member(status: MemberStatus, *, is_own: bool) -> MemberReport:
    return MemberReport(
        peer=status.peer,
        addresses=status.addresses,
        names=status.names,
        is_own=is_own,
        state=status.state,
        path=status.path,
        rtt_us=round((status.rtt_s or 0.0) * 1e6),
        error=status.error,
        relay=status.relay,
        mtu=status.mtu,
        packets_in=status.packets_in,
        bytes_in=status.bytes_in,
        packets_out=status.packets_out,
        bytes_out=status.bytes_out,
        drops=dict(status.drops or {}),
    )


def datagram_port(listen_addresses: Iterable[str]) -> int:
    """Of UDP, for packets that need no stream: the number at which the node listens, so that one hole in a firewall is enough."""
    ports = [int(one.split("/tcp/")[1].split("/")[0]) for one in listen_addresses if "/tcp/" in one]
    return ports[0] if ports else 0


def networks_here() -> tuple[str, ...]:
    """The IPv4 networks of this machine's interfaces."""
    addresses = [one for interface in read_interfaces(Path("/")) for one in interface.addresses if ":" not in one]
    return tuple(str(IPv4Interface(one).network) for one in addresses)
