"""Who has which address in the private network of an ensemble, and what each machine must know of it. Pure.

An allocation keeps its address when it is placed anew: only the machine behind it changes. A standby that is promoted, and what
replaces an allocation in an update, has an address of its own, to which the name moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

import msgspec

from dms.actor.handle import Handle
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.manifest import DNS_SUFFIX
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState, Network
from dms.orchestrator.updating.merging import placed_names
from dms.subnet.addresses import AddressPlan, choose_network
from dms.subnet.errors import NoAddressLeft
from dms.subnet.messages import CreateRequest
from dms.types.ids import EnsembleID, PeerID

ORCHESTRATOR = "orchestrator"
"""The name of the orchestrator's own machine, where it takes part."""
LEAST_ROOM = 250
"""Members for which a network has room at least: a deployment may grow."""


def choose(rng: Random, state: DeploymentState, in_use: Iterable[str] = ()) -> str:
    """A network for a deployment, with room to grow to twice its size; nothing where there is none.

    :param in_use: networks that this machine has already.
    """
    try:
        return str(choose_network(rng, in_use, members=max(LEAST_ROOM, 2 * len(state.allocations))))
    except NoAddressLeft:
        return ""


def addressed(state: DeploymentState, config: EnsembleConfig) -> DeploymentState:
    """The same deployment with an address for each allocation that has none, and without those of allocations that are gone.

    Whoever finds no room has none, and is reached at its public ports only.
    """
    network = state.network
    if network is None:
        return state
    wanted = {str(record.id) for record in state.allocations.values() if not record.is_standby}
    if config.v1.subnet is not None and config.v1.subnet.join:
        wanted.add(ORCHESTRATOR)
    if wanted == network.addresses.keys():
        return state
    kept = {member: address for member, address in network.addresses.items() if member in wanted}
    plan = AddressPlan(network.cidr, kept)
    for member in sorted(wanted - kept.keys()):
        try:
            kept[member] = str(plan.assign(member))
        except NoAddressLeft:
            break
    if kept == network.addresses:
        return state
    return msgspec.structs.replace(state, network=Network(cidr=network.cidr, addresses=kept))


def gateway_of(network: Network) -> str:
    """Where the machines of a network answer for names."""
    return str(AddressPlan(network.cidr).gateway)


@dataclass(frozen=True, slots=True)
class View:
    """What one machine must know: its handle, what it is told, and which of its allocations it is about."""

    handle: Handle
    request: CreateRequest
    members: tuple[AllocationRecord, ...]


def views(
    ensemble: EnsembleID,
    state: DeploymentState,
    config: EnsembleConfig,
    own: Handle | None = None,
    by_stream: Mapping[PeerID, Iterable[str]] = MappingProxyType({}),
) -> dict[PeerID, View]:
    """What every machine with a member must know, by peer.

    :param own: the orchestrator's own machine, for an ensemble whose network it joins.
    :param by_stream: the addresses of each machine to which only streams lead, as it says.
    """
    network = state.network
    if network is None:
        return {}
    members = [
        record
        for _key, record in sorted(state.allocations.items())
        if record.handle is not None and record.id in network.addresses and not record.is_over
    ]
    table = {network.addresses[record.id]: record.peer for record in members}
    records = {
        _name(config, record) + DNS_SUFFIX: network.addresses[record.id]
        for record in sorted(members, key=lambda record: not _is_beside(state, record))
    }
    here: dict[PeerID, list[AllocationRecord]] = {}
    handles: dict[PeerID, Handle] = {}
    for record in members:
        bid = state.assignment.get(record.node_id)
        if bid is not None and bid.peer == record.peer:
            here.setdefault(record.peer, []).append(record)
            handles[record.peer] = bid.handle
    if own is not None and ORCHESTRATOR in network.addresses:
        address = network.addresses[ORCHESTRATOR]
        table[address] = own.addr.host
        records.setdefault(ORCHESTRATOR + DNS_SUFFIX, address)
        here.setdefault(own.addr.host, [])
        handles.setdefault(own.addr.host, own)
    whole = CreateRequest(
        subnet_id=ensemble,
        cidr=network.cidr,
        routing_table=table,
        records=records,
        services=_services(config, members),
    )
    streams = sorted({ip for peer, addresses in by_stream.items() for ip in addresses if table.get(ip) == peer})
    return {
        peer: View(
            handles[peer],
            msgspec.structs.replace(
                whole,
                ip=network.addresses.get(ORCHESTRATOR, "") if own is not None and peer == own.addr.host else "",
                members={record.id: network.addresses[record.id] for record in local},
                by_stream=tuple(ip for ip in streams if table[ip] != peer),  # its own it knows
            ),
            tuple(local),
        )
        for peer, local in here.items()
    }


def _is_beside(state: DeploymentState, record: AllocationRecord) -> bool:
    """Whether it is about to replace another one, which has the name until then."""
    return state.update is not None and placed_names(state.update).get(record.node_id, record.node_id) != record.node_id


def _services(config: EnsembleConfig, members: Iterable[AllocationRecord]) -> dict[str, tuple[str, ...]]:
    """Where names serve: the ports inside that the ensemble opens, whichever node has them."""
    found: dict[str, tuple[str, ...]] = {}
    for record in members:
        node = config.v1.nodes.get(record.standby_for or record.node_id)
        ports = [port for port in node.ports if port.allocation == record.name] if node is not None else []
        if ports:
            told = {f"{port.protocol or 'tcp'}/{port.private}" for port in ports}
            found[_name(config, record) + DNS_SUFFIX] = tuple(sorted(told))
    return found


def _name(config: EnsembleConfig, record: AllocationRecord) -> str:
    allocation = config.v1.allocations.get(record.name)
    return ((allocation.dns_name if allocation is not None else "") or record.name).lower()
