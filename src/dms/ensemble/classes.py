"""Which nodes of an ensemble ask for the same, so that one request and one answer can serve them all.

Ten thousand equal nodes are one class: bids are asked for once, and a matching may treat its members alike. Nodes that
were written one by one fall into classes as well as the members of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dms.ensemble.config import EnsembleConfig, NodeConfig
from dms.ensemble.groups import MemberNames
from dms.types import gojson


@dataclass(frozen=True, slots=True)
class NodeClass:
    """Nodes whose requests differ in their names only."""

    node: str
    """The node of the configuration whose request it is: the first one, or a group."""
    names: Sequence[str]
    """All of them, in the order of the ensemble; those of a lone group are made when they are asked for."""

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.names)


def node_classes(config: EnsembleConfig) -> tuple[NodeClass, ...]:
    """The classes, in the order of their first nodes; works on ensembles with groups and on expanded ones.

    Two nodes are of one class when machines cannot tell their requests apart: same allocations in kind, executor,
    resources and volumes, same ports and location, and neither is pinned to another peer.
    """
    seen = _Numbers()
    found: dict[tuple[object, ...], list[str]] = {}
    for name, node in config.v1.nodes.items():
        found.setdefault(_key(config, node, seen), []).append(name)
    return tuple(NodeClass(names[0], _names(config, names)) for names in found.values())


def _names(config: EnsembleConfig, names: list[str]) -> Sequence[str]:
    nodes = config.v1.nodes
    if len(names) == 1 and nodes[names[0]].count:
        return MemberNames(names[0], nodes[names[0]].count)
    members = (MemberNames(name, nodes[name].count) if nodes[name].count else (name,) for name in names)
    return tuple(member for part in members for member in part)


class _Numbers:
    """A small number for each value; equal values get the same. Values that are shared are encoded once."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[object, int]] = {}
        self._by_bytes: dict[bytes, int] = {}

    def of(self, value: object) -> int:
        known = self._by_id.get(id(value))
        if known is not None:
            return known[1]
        number = self._by_bytes.setdefault(gojson.encode(value), len(self._by_bytes))
        self._by_id[id(value)] = (value, number)  # the value is kept, so that its id stays its own
        return number


def _key(config: EnsembleConfig, node: NodeConfig, seen: _Numbers) -> tuple[object, ...]:
    allocations = [config.v1.allocations[name] for name in node.allocations]
    return (
        *(
            (a.type, a.executor, seen.of(a.resources), seen.of(a.volume), a.execution.params.get("privileged") is True)
            for a in allocations
        ),
        tuple((p.public, p.private, p.protocol, node.allocations.index(p.allocation)) for p in node.ports),
        seen.of(node.location),
        node.peer,
        node.redundancy,
        seen.of(node.requires),
    )
