"""What is told of one network: to users as its status, to metrics as its totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from dms.subnet.plane import Plane, Port
from dms.subnet.ports import PortMapping
from dms.subnet.status import MemberStatus, SubnetStatus
from dms.subnet.totals import Totals
from dms.types.ids import PeerID


class Told(NamedTuple):
    """A network, the addresses that members here have, and their devices."""

    id: str
    plane: Plane
    attached: tuple[str, ...]
    ports: tuple[Port, ...]


def status_of(told: Told, own: PeerID, mappings: tuple[PortMapping, ...]) -> SubnetStatus:
    """All that is known here; ``own`` is this node."""
    plane = told.plane
    names: dict[str, list[str]] = {}
    for name, address in plane.zone.records().items():
        names.setdefault(address, []).append(name)
    return SubnetStatus(
        id=told.id,
        network=str(plane.table.network),
        ipv6=str(plane.prefix),
        gateway=str(plane.gateway),
        attached=told.attached,
        members=tuple(_member(plane, peer, names, is_own=peer == own) for peer in plane.table.peers()),
        ports=mappings,
        queries={outcome.value: count for outcome, count in plane.queries.items() if count},
        drops=_drops(told),
    )


def totals_of(told: Told) -> Totals:
    """What passed, and how packets get to other machines now."""
    plane = told.plane
    found = Totals(networks=1, attached=len(told.attached), drops=Counter(_drops(told)))
    found.queries.update({outcome.value: count for outcome, count in plane.queries.items()})
    for tally in plane.tallies():
        found.packets_in += tally.packets_in
        found.packets_out += tally.packets_out
        found.bytes_in += tally.bytes_in
        found.bytes_out += tally.bytes_out
        found.drops.update(tally.dropped())
    for link in plane.links():
        if link.path:
            found.ways[link.path] += 1
        if link.rtt_s is not None:
            found.rtts_s.append(link.rtt_s)
    return found


def _drops(told: Told) -> dict[str, int]:
    """Of packets from members here."""
    drops = Counter(told.plane.tally.drops)
    for port in told.ports:
        drops.update(port.tally.drops)
    return {reason.value: count for reason, count in drops.items()}


def _member(plane: Plane, peer: PeerID, names: Mapping[str, list[str]], *, is_own: bool) -> MemberStatus:
    addresses = tuple(str(address) for address in plane.table.addresses_of(peer))
    own_names = tuple(name for address in addresses for name in names.get(address, ()))
    if is_own:
        return MemberStatus(peer, is_own=True, addresses=addresses, names=own_names)
    link, tally = plane.link_status(peer), plane.tally_of(peer)
    return MemberStatus(
        peer,
        is_own=False,
        addresses=addresses,
        names=own_names,
        state=link.state.value,
        path=link.path,
        protocol=link.protocol,
        rtt_s=link.rtt_s,
        error=link.error,
        relay=link.relay,
        mtu=link.mtu,
        packets_in=tally.packets_in,
        bytes_in=tally.bytes_in,
        packets_out=tally.packets_out,
        bytes_out=tally.bytes_out,
        drops=tally.dropped(),
    )
