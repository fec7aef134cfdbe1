"""What a machine knows of one private network, and whether what it is told can be; pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

import msgspec

from dms.executor.protocol import Member
from dms.identity.ids import ActorID
from dms.network.addresses import parse_peer_id
from dms.node.errors import InvalidRequest
from dms.subnet.addresses import host_of, network_of, parse_network, private_prefix, to_ipv6
from dms.subnet.dns import clean_name
from dms.subnet.guests import HOST, ROUTER6
from dms.subnet.messages import (
    CreateRequest,
    parse_service,
)
from dms.subnet.plane import MTU
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, EnsembleID, PeerID

MAX_MEMBERS = 20_000
MAX_SERVICES = 1000
"""Of one name."""


class Membership(Wire):
    """What this machine knows of one private network; as on disk."""

    ensemble: EnsembleID
    orchestrator: ActorID
    cidr: str
    table: dict[str, PeerID]
    """Peers by address."""
    records: dict[str, str]
    """Addresses by name."""
    members: dict[AllocationID, str]
    """Addresses of the allocations that are here."""
    services: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Where names serve, such as ``tcp/80``."""
    own: str = ""
    """An address of the machine itself, if it takes part."""
    revision: int = 0
    by_stream: tuple[str, ...] = ()
    """Addresses to which no packets go, only streams."""


def checked(ensemble: EnsembleID, request: CreateRequest, sender: ActorID) -> Membership:
    """What is asked for, once it makes sense.

    :raises InvalidRequest: it contradicts itself, or is too much.
    """
    if request.subnet_id != ensemble:
        raise InvalidRequest("the private network of an ensemble has its id")
    wanted = Membership(
        ensemble=ensemble,
        orchestrator=sender,
        cidr=str(parse_network(request.cidr or network_of(request.routing_table))),
        table=request.routing_table,
        records=request.records,
        members=request.members,
        services=request.services,
        own=request.ip if request.revision else "",
        revision=request.revision,
        by_stream=request.by_stream,
    )
    check(wanted)
    return wanted


def check(wanted: Membership) -> None:
    """Whether it can be.

    :raises InvalidRequest: it contradicts itself, or is too much.
    """
    sizes = (wanted.table, wanted.records, wanted.members, wanted.services, wanted.by_stream)
    if max(len(part) for part in sizes) > MAX_MEMBERS:
        raise InvalidRequest(f"a private network has at most {MAX_MEMBERS} members")
    network = IPv4Network(wanted.cidr)
    for address, peer in wanted.table.items():
        host_of(network, address)
        parse_peer_id(peer)
    for address in wanted.by_stream:
        host_of(network, address)
    for name, address in wanted.records.items():
        clean_name(name)
        host_of(network, address)
    for name, services in wanted.services.items():
        clean_name(name)
        if len(services) > MAX_SERVICES:
            raise InvalidRequest(f"{name[:80]} has more than {MAX_SERVICES} services")
        for service in services:
            parse_service(service)
    for id_, address in wanted.members.items():
        if not id_.startswith(f"{wanted.ensemble}_") or address not in wanted.table:
            raise InvalidRequest(f"{id_[:80]} cannot be at {address[:40]}")
    if wanted.own and wanted.own not in wanted.table:
        raise InvalidRequest(f"this machine cannot be at {wanted.own[:40]}")


def member_at(ensemble: EnsembleID, network: IPv4Network, address: IPv4Address) -> Member:
    """What a guest is told of its place in a network."""
    prefix = private_prefix(ensemble)
    return Member(
        address=IPv4Interface((int(address), network.prefixlen)),
        ipv6=IPv6Interface((int(to_ipv6(prefix, address)), prefix.prefixlen)),
        gateway=network.network_address + 1,
        mtu=MTU,
        host=HOST,
        router6=ROUTER6,
    )
