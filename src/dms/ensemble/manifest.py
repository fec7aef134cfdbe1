"""What became of an ensemble: who runs what, under which addresses (``spec/ensemble.md`` 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from dms.actor.handle import Handle
from dms.ensemble.config import ContractConfig, EnsembleConfig, HealthCheckManifest, SubnetConfig
from dms.ensemble.ids import allocation_id, allocation_key, standby_name
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, EnsembleID, PeerID
from dms.types.resources import Location

PRIMARY = "primary"
STANDBY = "standby"
ACTIVE = "active"
DNS_SUFFIX = ".internal"


class AllocationManifest(Wire):
    """One allocation; ``ports`` are public → private, the numbers as text."""

    id: AllocationID
    type: str
    node_id: str
    handle: Handle | None = None
    dns_name: str = ""
    priv_addr: str = ""
    ports: dict[str, int] = msgspec.field(default_factory=dict)
    healthcheck: HealthCheckManifest | None = None
    status: str = ""
    redundancy_group: str = ""
    is_standby: bool = False


class NodeManifest(Wire):
    """One node of the ensemble on its machine; ``allocations`` are keys of the manifest."""

    id: str
    peer: PeerID = PeerID("")
    handle: Handle | None = None
    pub_address: tuple[str, ...] = ()
    location: Location | None = None
    allocations: tuple[str, ...] = ()
    redundancy_role: str = ""
    primary_node: str = ""
    standby_nodes: tuple[str, ...] = ()
    standby_index: int = 0
    status: str = ""


class ContractManifest(Wire):
    """A contract under which the ensemble runs."""

    id: str
    did: str
    host: str
    provider: str = ""
    requestor: str = ""


class EnsembleManifest(Wire):
    """The whole; the keys of ``allocations`` are ``<node>.<allocation>``."""

    id: EnsembleID
    orchestrator: Handle
    allocations: dict[str, AllocationManifest]
    nodes: dict[str, NodeManifest]
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    subnet: SubnetConfig | None = None
    contracts: dict[str, ContractManifest] = msgspec.field(default_factory=dict)
    version: int = 0
    """Ours: which version of the ensemble of this deployment it is."""


@dataclass(frozen=True, slots=True)
class NodePlacement:
    """The machine that a node got."""

    peer: PeerID
    handle: Handle | None = None
    location: Location | None = None
    pub_address: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AllocationPlacement:
    """What is known of a running allocation; ``ports`` public → private, the numbers as text."""

    handle: Handle | None = None
    status: str = ""
    priv_addr: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    id: AllocationID | None = None
    """Where it is not that of its name: a standby that was promoted keeps its own."""


def build_manifest(
    config: EnsembleConfig,
    *,
    ensemble_id: EnsembleID,
    orchestrator: Handle,
    nodes: Mapping[str, NodePlacement],
    allocations: Mapping[str, AllocationPlacement],
    version: int = 0,
) -> EnsembleManifest:
    """The manifest as of now.

    ``nodes`` holds the placements made so far by node name, those of standby nodes by theirs (``<node>-standby-<n>``);
    ``allocations`` what is known by ``<node>.<allocation>``. What is not placed yet appears without an address; standby
    nodes appear once they are placed.
    """
    v1 = config.v1
    described: dict[str, NodeManifest] = {}
    members: dict[str, AllocationManifest] = {}
    for name, node in v1.nodes.items():
        standbys = tuple(s for n in range(1, node.redundancy + 1) if (s := standby_name(name, n)) in nodes)
        group = name if node.redundancy else ""
        for index, own in enumerate((name, *standbys)):
            keys = tuple(allocation_key(own, allocation) for allocation in node.allocations)
            described[own] = _node(own, name, index, nodes.get(own), keys, standbys)
            for key, allocation in zip(keys, node.allocations, strict=True):
                members[key] = _allocation(
                    config, ensemble_id, own, allocation, allocations.get(key), group=group, is_standby=index > 0
                )
    return EnsembleManifest(
        id=ensemble_id,
        orchestrator=orchestrator,
        allocations=members,
        nodes=described,
        version=version,
        metadata=v1.metadata,
        subnet=v1.subnet,
        contracts={name: _contract(name, contract) for name, contract in v1.contracts.items()},
    )


def _node(
    own: str, primary: str, index: int, placed: NodePlacement | None, keys: tuple[str, ...], standbys: tuple[str, ...]
) -> NodeManifest:
    is_standby = index > 0
    return NodeManifest(
        id=own,
        peer=placed.peer if placed else PeerID(""),
        handle=placed.handle if placed else None,
        pub_address=placed.pub_address if placed else (),
        location=placed.location if placed else None,
        allocations=keys,
        redundancy_role=STANDBY if is_standby else PRIMARY,
        primary_node=primary if is_standby else "",
        standby_nodes=() if is_standby else standbys,
        standby_index=_number(own) if is_standby else 0,
        status="" if placed is None else STANDBY if is_standby else ACTIVE,
    )


def _allocation(
    config: EnsembleConfig,
    ensemble_id: EnsembleID,
    node: str,
    name: str,
    placed: AllocationPlacement | None,
    *,
    group: str,
    is_standby: bool,
) -> AllocationManifest:
    wanted = config.v1.allocations[name]
    known = placed or AllocationPlacement()
    return AllocationManifest(
        id=known.id or allocation_id(ensemble_id, node, name),
        type=wanted.type,
        node_id=node,
        handle=known.handle,
        dns_name=(wanted.dns_name or name) + DNS_SUFFIX,
        priv_addr=known.priv_addr,
        ports=dict(known.ports),
        healthcheck=wanted.healthcheck,
        status=known.status,
        redundancy_group=group,
        is_standby=is_standby,
    )


def _contract(name: str, contract: ContractConfig) -> ContractManifest:
    return ContractManifest(
        id=name, did=contract.did, host=contract.host, provider=contract.provider, requestor=contract.requestor
    )


def _number(standby: str) -> int:
    return int(standby.rpartition("-")[2])
