"""What an ensemble asks of the network: its nodes, those that want the same asked for together.

Nodes whose requests differ in nothing but their names are of one *kind*. A kind is asked for once, under the name of its
first node; whoever bids for it bids for any of them, as often as it has room.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec

from dms.ensemble.config import EnsembleConfig, EnsembleConfigV1, LocationConstraints
from dms.ensemble.groups import split_member
from dms.ensemble.requirements import (
    node_capability,
    node_executors,
    node_needs_privilege,
    node_parts,
    node_ports,
    node_resources,
)
from dms.orchestrator.bidding.bid import PriceBid
from dms.orchestrator.bidding.node_names import compact
from dms.orchestrator.matching import Edge, Wanted
from dms.orchestrator.messages import GeneralRequirements, NodeRequest, PublicPorts, VersionedNodeRequest
from dms.types import gojson
from dms.types.ids import PeerID

MAX_REQUEST_BYTES = 64 * 1024
"""Of one request; more kinds are asked for by several. A broadcast has room for twice that."""
MAX_RECENT = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """Nodes that want the same. ``request`` is that of the first one, without the names of the others."""

    name: str
    nodes: tuple[str, ...]
    pinned: PeerID | None
    request: NodeRequest

    @property
    def price_limits(self) -> tuple[PriceBid, ...]:
        """The most that a node of this kind may cost."""
        wanted = self.request.capability
        prices = wanted.price if wanted is not None else ()
        return tuple(
            PriceBid(currency=p.currency, per_hour=p.currency_per_hour, per_result=p.total_per_job) for p in prices
        )


class Wishes:
    """All that an ensemble asks for."""

    def __init__(self, config: EnsembleConfig) -> None:
        self._config = config

    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """Every kind by its name."""
        requests: dict[bytes, NodeRequest] = {}
        members: dict[bytes, list[str]] = {}
        seen: dict[Hashable, bytes] = {}
        for node in sorted(self._config.v1.nodes):
            shape = _shape(self._config.v1, node)
            key = seen.get(shape)
            if key is None:
                request = node_request(self._config, node)
                key = seen[shape] = _essence(request, self._config.v1.nodes[node].peer)
                requests.setdefault(key, request)
            members.setdefault(key, []).append(node)
        return {
            request.node_id: Kind(
                request.node_id,
                tuple(members[key]),
                self._config.v1.nodes[request.node_id].peer or None,
                request,
            )
            for key, request in requests.items()
        }

    @cached_property
    def wanted(self) -> tuple[Wanted, ...]:
        """The nodes, for the matching."""
        kind_of = {node: kind for kind in self.kinds.values() for node in kind.nodes}
        return tuple(
            Wanted(
                node,
                kind.request.resources,
                kind.pinned,
                asked_as=kind.name if kind.name != node else "",
                location=kind.request.location,
                currencies=tuple(limit.currency for limit in kind.price_limits),
                gpu_groups=tuple(part.gpus for part in (kind.request.allocations or {}).values() if part.gpus),
            )
            for node, kind in sorted(kind_of.items())
        )

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """The bounds between nodes."""
        return tuple(Edge(e.s, e.t, float(e.rtt), float(e.bw)) for e in self._config.v1.edges)


def node_request(config: EnsembleConfig, node: str) -> NodeRequest:
    """What one node asks for by itself."""
    static, dynamic = node_ports(config, node)
    return NodeRequest(
        node_id=node,
        executors=node_executors(config, node),
        resources=node_resources(config, node),
        location=config.v1.nodes[node].location or LocationConstraints(),
        public_ports=PublicPorts(static=static, dynamic=dynamic),
        general=GeneralRequirements(privileged_docker=node_needs_privilege(config, node)),
        allocations=node_parts(config, node),
        capability=node_capability(config, node),
        needs_network=config.v1.subnet is not None and config.v1.subnet.required,
    )


def requests_for(kinds: Iterable[Kind]) -> Iterator[tuple[VersionedNodeRequest, ...]]:
    """The node requests of these kinds, in portions that fit into a message."""
    portion: list[VersionedNodeRequest] = []
    size = 0
    for kind in kinds:
        others = compact(kind.nodes[1:])
        entry = VersionedNodeRequest(v1=msgspec.structs.replace(kind.request, nodes=others))
        length = len(gojson.encode(entry))
        if portion and size + length > MAX_REQUEST_BYTES:
            yield tuple(portion)
            portion, size = [], 0
        portion.append(entry)
        size += length
    if portion:
        yield tuple(portion)


def member_part(request: NodeRequest, allocation: str, node: str) -> str:
    """The allocation of ``node``, of the kind of ``request``, that corresponds to one of the kind's first node."""
    return _renamed(allocation, request.node_id, node)


def _shape(config: EnsembleConfigV1, name: str) -> Hashable:
    """What is the same only for nodes of one kind, and found at a glance: members of a group share what they have in
    common."""
    node = config.nodes[name]
    allocations = [config.allocations[one] for one in node.allocations]
    has_parts = any(one.resources.gpus for one in allocations) and len(allocations) > 1
    return (
        tuple((id(a.resources), a.executor, a.execution.params.get("privileged") is True) for a in allocations),
        tuple(_renamed(one, name, "") for one in node.allocations) if has_parts else (),
        tuple(port.public for port in node.ports),
        id(node.location),
        id(node.requires),
        node.peer,
    )


def _essence(request: NodeRequest, pinned: PeerID) -> bytes:
    """What nodes of one kind have in common. Where allocations are told apart their names must follow from the node's."""
    parts = request.allocations or {}
    named = [(_renamed(name, request.node_id, ""), part) for name, part in parts.items()]
    if len(parts) == 1:
        named = [("", part) for _, part in named]
    bare = msgspec.structs.replace(request, node_id="", allocations={})
    return b"\0".join(
        [gojson.encode(bare), pinned.encode(), *(name.encode() + gojson.encode(part) for name, part in named)]
    )


def _renamed(name: str, example: str, node: str) -> str:
    """The allocation of ``node`` that corresponds to ``name`` of ``example``: members of groups are numbered alike."""
    mine, theirs = split_member(example), split_member(name)
    if mine is None or theirs is None or mine[1] != theirs[1]:
        return name
    if not node:
        return f"{theirs[0]}-*"
    other = split_member(node)
    return name if other is None else f"{theirs[0]}-{other[1]:04d}"


_recent: list[tuple[EnsembleConfig, Wishes]] = []


def wishes_of(config: EnsembleConfig) -> Wishes:
    """What this ensemble asks for; worked out once for the ensembles in hand, as thousands of nodes take a while."""
    for known, wishes in _recent:
        if known is config:
            return wishes
    wishes = Wishes(config)
    _recent.insert(0, (config, wishes))
    del _recent[MAX_RECENT:]
    return wishes
