"""Nodes with a ``count``: one entry of an ensemble that stands for many equal nodes.

A node ``worker`` with ``count: 1250`` is a *group*. It stays one entry while an ensemble is written, checked, sent and
kept; :func:`expanded` makes the members when they are wanted, and they share all that they have in common. What a member
is called, and what the rest of an ensemble may say of a group:

* Members are ``worker-0001`` … ``worker-1250``; with the node each of its allocations is numbered, and so is the first
  label of its DNS name. Numbers do not change when the count does.
* ``depends_on`` and ``ports`` inside a group hold member by member; who depends on a group from outside depends on all of
  its members, or on those that it names.
* An edge that names a group holds for its members, as ``shape`` says: ``all`` (each with each), ``paired`` (the first with
  the first, the second with the second …) or ``ring`` (each with the next one, inside one group).
* Edges and supervisors may name single members; a supervisor that names an allocation of a group means all of them.
* A member learns who it is from its environment: :data:`INDEX`, :data:`COUNT` and :data:`GROUP`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, overload

from msgspec.structs import replace

from dms.ensemble.config import (
    AllocationConfig,
    Dependency,
    EdgeConfig,
    EnsembleConfig,
    EnsembleConfigV1,
    NodeConfig,
    SupervisorConfig,
)

MAX_COUNT: Final = 20_000
"""Members of one group."""
MAX_NODES: Final = 50_000
"""Nodes of an ensemble, and its allocations, all members counted."""
MAX_EDGES: Final = 100_000
"""Edges of an ensemble, those between members counted."""

ALL: Final = "all"
PAIRED: Final = "paired"
RING: Final = "ring"
SHAPES: Final = (ALL, PAIRED, RING)

INDEX: Final = "NUNET_INDEX"
"""Environment variable of a member: 0 for the first one."""
COUNT: Final = "NUNET_COUNT"
"""How many members its group has."""
GROUP: Final = "NUNET_GROUP"
"""The name of the group's node."""

_MEMBER = re.compile(r"(.+)-(\d{4,5})")
_WITHOUT_ENVIRONMENT = ("null",)


@dataclass(frozen=True, slots=True)
class MemberNames(Sequence[str]):
    """The names of a group's members, made when they are asked for."""

    name: str
    size: int

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        numbers = range(1, self.size + 1)
        if isinstance(index, slice):
            return tuple(member_name(self.name, number) for number in numbers[index])
        return member_name(self.name, numbers[index])

    def __contains__(self, name: object) -> bool:
        found = split_member(name) if isinstance(name, str) else None
        return found is not None and found[0] == self.name and 1 <= found[1] <= self.size


def member_name(name: str, number: int) -> str:
    """``worker-0001``: the member with that number, from 1."""
    return f"{name}-{number:04d}"


def member_dns_name(dns_name: str, number: int) -> str:
    """``db-0001.store`` of ``db.store``."""
    label, dot, rest = dns_name.partition(".")
    return f"{member_name(label, number)}{dot}{rest}"


def split_member(name: str) -> tuple[str, int] | None:
    """Group and number of what is spelled like a member; the group need not exist."""
    match = _MEMBER.fullmatch(name)
    if match is None or member_name(match[1], int(match[2])) != name:
        return None
    return match[1], int(match[2])


def node_names(config: EnsembleConfig) -> Iterator[str]:
    """The names of all nodes, members in place of their groups."""
    for name, node in config.v1.nodes.items():
        yield from MemberNames(name, node.count) if node.count else (name,)


def edge_count(shape: str, source: int, target: int, *, is_same: bool) -> int:
    """How many edges between members one edge stands for; ``source`` and ``target`` are the sizes of its ends."""
    if shape == RING:
        return source if source > 2 else source - 1
    if shape == PAIRED:
        return source
    return source * (source - 1) // 2 if is_same else source * target


def expanded(config: EnsembleConfig) -> EnsembleConfig:
    """The same ensemble without groups: each member a node of its own. A valid ensemble stays valid.

    What has no group is returned as it is.
    """
    v1 = config.v1
    counts = {name: node.count for name, node in v1.nodes.items() if node.count}
    if not counts:
        return config
    homes = {allocation: name for name in counts for allocation in v1.nodes[name].allocations}
    allocations: dict[str, AllocationConfig] = {}
    for name, allocation in v1.allocations.items():
        group = homes.get(name, "")
        outside = tuple(_needs(allocation, homes, counts, group)) if allocation.depends_on else ()
        if not group:
            allocations[name] = replace(allocation, depends_on=outside) if outside else allocation
            continue
        inside = tuple(need for need in allocation.depends_on if homes.get(_named(need)) == group)
        for number in range(1, counts[group] + 1):
            member = _allocation(name, allocation, group, counts[group], number)
            needs = (*(_renamed(need, member_name(_named(need), number)) for need in inside), *outside)
            allocations[member_name(name, number)] = replace(member, depends_on=needs) if needs else member
    nodes: dict[str, NodeConfig] = {}
    for name, node in v1.nodes.items():
        if not node.count:
            nodes[name] = node
        for number in range(1, node.count + 1):
            nodes[member_name(name, number)] = _node(node, number)
    edges = tuple(each for edge in v1.edges for each in _edges(edge, counts))
    supervisor = _supervisor(v1.supervisor, {name: counts[home] for name, home in homes.items()})
    return EnsembleConfig(v1=_with(v1, allocations=allocations, nodes=nodes, edges=edges, supervisor=supervisor))


def _with(v1: EnsembleConfigV1, **changes: Any) -> EnsembleConfigV1:  # members of a struct
    return replace(v1, **changes)


def _allocation(name: str, whole: AllocationConfig, group: str, count: int, number: int) -> AllocationConfig:
    execution = whole.execution
    if execution.type not in _WITHOUT_ENVIRONMENT:
        given = execution.params.get("environment")
        own = list(given) if isinstance(given, list | tuple) else []
        known = {str(each).partition("=")[0] for each in own}
        says = {INDEX: str(number - 1), COUNT: str(count), GROUP: group}
        own += [f"{key}={value}" for key, value in says.items() if key not in known]
        execution = replace(execution, params={**execution.params, "environment": own})
    return replace(
        whole,
        execution=execution,
        dns_name=member_dns_name(whole.dns_name or name, number),
    )


def _needs(
    allocation: AllocationConfig, homes: Mapping[str, str], counts: Mapping[str, int], group: str
) -> Iterator[str | Dependency]:
    """What it needs outside of its own group, members in place of groups."""
    for need in allocation.depends_on:
        home = homes.get(_named(need), "")
        if not home:
            yield need
        elif home != group:
            yield from (_renamed(need, name) for name in MemberNames(_named(need), counts[home]))


def _named(need: str | Dependency) -> str:
    return need if isinstance(need, str) else need.allocation


def _renamed(need: str | Dependency, name: str) -> str | Dependency:
    return name if isinstance(need, str) else replace(need, allocation=name)


def _node(node: NodeConfig, number: int) -> NodeConfig:
    return replace(
        node,
        allocations=tuple(member_name(name, number) for name in node.allocations),
        ports=tuple(replace(port, allocation=member_name(port.allocation, number)) for port in node.ports),
        count=0,
    )


def _edges(edge: EdgeConfig, counts: Mapping[str, int]) -> Iterator[EdgeConfig]:
    for source, target in _pairs(edge, counts):
        yield replace(edge, s=source, t=target, shape="")


def _pairs(edge: EdgeConfig, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    sources, targets = _ends(edge.s, counts), _ends(edge.t, counts)
    if edge.shape == RING:
        size = len(sources)
        last = size if size > 2 else size - 1
        yield from ((sources[i], sources[(i + 1) % size]) for i in range(last))
    elif edge.shape == PAIRED:
        yield from zip(sources, targets, strict=True)
    elif edge.s == edge.t:
        yield from ((one, other) for i, one in enumerate(sources) for other in sources[i + 1 :])
    else:
        yield from ((one, other) for one in sources for other in targets)


def _ends(name: str, counts: Mapping[str, int]) -> Sequence[str]:
    return tuple(MemberNames(name, counts[name])) if name in counts else (name,)


def _supervisor(supervisor: SupervisorConfig | None, counts: Mapping[str, int]) -> SupervisorConfig | None:
    if supervisor is None:
        return None
    names = tuple(member for name in supervisor.allocations for member in _ends(name, counts))
    children = tuple(child for each in supervisor.children if (child := _supervisor(each, counts)) is not None)
    return replace(supervisor, allocations=names, children=children)
