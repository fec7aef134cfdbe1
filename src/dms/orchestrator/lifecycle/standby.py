"""Standby nodes: copies of a node that hold a place on other machines and wait (``spec/ensemble.md`` 2.8).

A node with ``redundancy: 2`` has the standbys ``<node>-standby-1`` and ``-2``. The ensemble does not name them; they exist in
the state of a deployment only. A standby has the allocations of its primary, is pinned nowhere, and never shares a machine
with its primary or another standby of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from dms.ensemble.config import EnsembleConfig, NodeConfig
from dms.ensemble.ids import standby_name
from dms.types.ids import PeerID

_STANDBY = re.compile(r"(.+)-standby-[1-9][0-9]*")


def primary_of(config: EnsembleConfig, node: str) -> str:
    """The node itself, or the one for which it stands by."""
    if node in config.v1.nodes:
        return node
    match = _STANDBY.fullmatch(node)
    return match[1] if match is not None else node


def is_standby(config: EnsembleConfig, node: str) -> bool:
    """Whether this is no node of the ensemble but a standby of one."""
    return node not in config.v1.nodes


def standbys_of(config: EnsembleConfig, node: str) -> tuple[str, ...]:
    """The standbys that a node shall have."""
    return tuple(standby_name(node, number) for number in range(1, config.v1.nodes[node].redundancy + 1))


def all_standbys(config: EnsembleConfig) -> Iterator[str]:
    """Those of all nodes."""
    for node, wanted in config.v1.nodes.items():
        if wanted.redundancy:
            yield from standbys_of(config, node)


def group_of(config: EnsembleConfig, node: str) -> tuple[str, ...]:
    """A node, or its primary, with all standbys: each on a machine of its own."""
    primary = primary_of(config, node)
    return (primary, *standbys_of(config, primary))


def node_of(config: EnsembleConfig, node: str) -> NodeConfig:
    """What a node needs; a standby what its primary does, on any machine."""
    wanted = config.v1.nodes[primary_of(config, node)]
    return msgspec.structs.replace(wanted, peer=PeerID(""), redundancy=0) if is_standby(config, node) else wanted


def narrowed(
    config: EnsembleConfig,
    node: str,
    names: Iterable[str],
    excluded: Iterable[PeerID] = (),
    *,
    only: PeerID | None = None,
) -> EnsembleConfig:
    """The ensemble as if it had this one node, with only these of its allocations; more peers are excluded, or all but
    ``only``."""
    kept = set(names)
    wanted = node_of(config, node)
    wanted = msgspec.structs.replace(
        wanted,
        allocations=tuple(name for name in wanted.allocations if name in kept),
        ports=tuple(port for port in wanted.ports if port.allocation in kept),
        peer=only or wanted.peer,
    )
    v1 = msgspec.structs.replace(
        config.v1,
        nodes={node: wanted},
        allocations={name: config.v1.allocations[name] for name in wanted.allocations},
        edges=(),
        supervisor=None,
        exclude_peers=tuple(dict.fromkeys((*config.v1.exclude_peers, *excluded))),
    )
    return EnsembleConfig(v1=v1)
