"""The ensemble that is in force while two versions of it run; pure.

Every node is of one version, the old one until its turn comes. What is about to replace a node runs beside it under a name
of its own, as its allocations do, and gets the true names when it takes over: ``web`` and ``app`` are ``web-g3`` and
``app-g3`` until then, where 3 is the serial number of the update. What is new has its true name from the beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from dms.ensemble.config import AllocationConfig, EdgeConfig, EnsembleConfig, EnsembleConfigV1, NodeConfig
from dms.ensemble.groups import member_name, split_member
from dms.orchestrator.updating.moves import has_data
from dms.orchestrator.updating.state import Update
from dms.types.ids import PeerID
from dms.types.resources import Resources

MAX_NAME_CHARS = 63


def alias(name: str, serial: int) -> str:
    """What a node or an allocation is called until it takes over; members of groups stay such."""
    member = split_member(name)
    if member is not None:
        return member_name(_fitting(member[0], f"-g{serial}", 5), member[1])
    return _fitting(name, f"-g{serial}", 0)


def plain(name: str, serial: int) -> str:
    """What it is called once it has taken over; but for very long names, of which the end was lost."""
    member = split_member(name)
    if member is not None:
        return member_name(member[0].removesuffix(f"-g{serial}"), member[1])
    return name.removesuffix(f"-g{serial}")


def placed_names(update: Update) -> dict[str, str]:
    """The nodes of the batch, by the names under which they are placed."""
    replaced = set(update.moves.replaced)
    return {alias(node, update.serial) if node in replaced else node: node for node in update.batch}


def in_force(old: EnsembleConfig, new: EnsembleConfig, update: Update) -> EnsembleConfig:
    """Both versions in one, as far as each of them runs or is about to."""
    switched, goal = set(update.switched), old if update.is_back else new
    renamed = {name: f"{name}-g{update.serial}" for name in _other_scripts(old.v1, new.v1)}
    nodes: dict[str, NodeConfig] = {}
    allocations: dict[str, AllocationConfig] = {}

    def take(name: str, source: EnsembleConfigV1) -> None:
        nodes[name] = source.nodes[name]
        for each in source.nodes[name].allocations:
            allocations[each] = _taken(source.allocations[each], renamed if source is new.v1 else {})

    for name in old.v1.nodes:
        take(name, new.v1 if name in switched else old.v1)
    for name in update.switched:
        if name not in old.v1.nodes:
            take(name, new.v1)
    for own, name in placed_names(update).items():
        if own == name:
            take(name, goal.v1)
            continue
        node = goal.v1.nodes[name]
        aliases = {each: alias(each, update.serial) for each in node.allocations}
        nodes[own] = _under(node, aliases, update.stopped.get(name) if has_data(goal.v1, name) else None)
        for each, other in aliases.items():
            taken = _taken(goal.v1.allocations[each], renamed if goal is new else {})
            allocations[other] = _with(taken, depends_on=tuple(_mapped(need, aliases) for need in taken.depends_on))
    scripts = old.v1.scripts | {renamed.get(name, name): script for name, script in new.v1.scripts.items()}
    edges = tuple(edge for edge in _edges(old.v1, new.v1, update) if edge.s in nodes and edge.t in nodes)
    return EnsembleConfig(v1=_with(old.v1, nodes=nodes, allocations=allocations, scripts=scripts, edges=edges))


def _edges(old: EnsembleConfigV1, new: EnsembleConfigV1, update: Update) -> Iterator[EdgeConfig]:
    """Those of each version among its own nodes; where both meet, those of the one that comes. What is about to replace a
    node has its edges already: whoever is placed meanwhile must be near enough to both."""
    switched, goes_new, own = set(update.switched), not update.is_back, _own_names(update)
    added = {name for name, placed in own.items() if name == placed}
    for version, is_new in ((old, False), (new, True)):
        for edge in version.edges:
            ends = {edge.s in switched, edge.t in switched}
            if not added.isdisjoint((edge.s, edge.t)):
                continue
            if is_new == goes_new if len(ends) > 1 else ends == {is_new}:
                yield edge
    for edge in (new if goes_new else old).edges:
        if edge.s in own or edge.t in own:
            yield _with_edge(edge, own)


def part_placed(config: EnsembleConfig, update: Update) -> EnsembleConfig:
    """What is in force narrowed to the batch."""
    names = placed_names(update)
    nodes = {own: config.v1.nodes[own] for own in names}
    return EnsembleConfig(v1=_with(config.v1, nodes=nodes, allocations=_used(config, nodes), edges=(), supervisor=None))


def part_asked(
    config: EnsembleConfig,
    goal: EnsembleConfig,
    update: Update,
    homes: Mapping[str, PeerID],
    excluded: tuple[PeerID, ...],
) -> EnsembleConfig:
    """The batch, and those that stay where they are and are bound to it by edges: pinned there, and in need of nothing."""
    own = _own_names(update)
    edges, bound = [], dict[str, None]()
    for edge in goal.v1.edges:
        ends = (edge.s, edge.t)
        if not any(end in own for end in ends) or not all(end in own or end in homes for end in ends):
            continue
        edges.append(_with_edge(edge, own))
        bound |= dict.fromkeys(end for end in ends if end not in own)
    part = part_placed(config, update).v1
    nodes, allocations = dict(part.nodes), dict(part.allocations)
    for name in bound:
        node = config.v1.nodes[name]
        nodes[name] = NodeConfig(allocations=node.allocations, peer=homes[name])
        for each in node.allocations:
            allocations[each] = _with(config.v1.allocations[each], resources=Resources())
    excludes = tuple(dict.fromkeys((*goal.v1.exclude_peers, *excluded)))
    kept = tuple(peer for peer in excludes if peer not in {homes[name] for name in bound})
    return EnsembleConfig(v1=_with(part, nodes=nodes, allocations=allocations, edges=tuple(edges), exclude_peers=kept))


def _own_names(update: Update) -> dict[str, str]:
    return {name: placed for placed, name in placed_names(update).items()}


def _with_edge(edge: EdgeConfig, own: Mapping[str, str]) -> EdgeConfig:
    return replace(edge, s=own.get(edge.s, edge.s), t=own.get(edge.t, edge.t))


def _under(node: NodeConfig, aliases: Mapping[str, str], home: PeerID | None) -> NodeConfig:
    return replace(
        node,
        allocations=tuple(aliases.values()),
        ports=tuple(replace(port, allocation=aliases.get(port.allocation, port.allocation)) for port in node.ports),
        peer=home or node.peer,
        redundancy=0,
    )


def _taken(allocation: AllocationConfig, renamed: Mapping[str, str]) -> Any:  # an allocation
    if not renamed or not allocation.provision:
        return allocation
    return _with(allocation, provision=tuple(renamed.get(name, name) for name in allocation.provision))


def _mapped(need: Any, aliases: Mapping[str, str]) -> Any:  # a name, or a name with a condition
    if isinstance(need, str):
        return aliases.get(need, need)
    return replace(need, allocation=aliases.get(need.allocation, need.allocation))


def _other_scripts(old: EnsembleConfigV1, new: EnsembleConfigV1) -> list[str]:
    return [name for name, script in new.scripts.items() if old.scripts.get(name, script) != script]


def _used(config: EnsembleConfig, nodes: Mapping[str, NodeConfig]) -> dict[str, AllocationConfig]:
    return {name: config.v1.allocations[name] for node in nodes.values() for name in node.allocations}


def _fitting(name: str, suffix: str, room: int) -> str:
    """``name`` with the suffix; one that would be too long is cut, and told from others by a digest."""
    most = MAX_NAME_CHARS - len(suffix) - room
    if len(name) <= most:
        return name + suffix
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: most - len(digest) - 1]}-{digest}{suffix}"


def _with(value: Any, **changes: Any) -> Any:  # members of a struct
    return replace(value, **changes)
