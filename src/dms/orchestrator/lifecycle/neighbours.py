"""Nodes that stay where they are, beside those that are looked for a place for: so that the edges between them count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from dms.ensemble.config import EdgeConfig, EnsembleConfig, EnsembleConfigV1, NodeConfig
from dms.types.ids import PeerID
from dms.types.resources import Resources


def with_neighbours(
    part: EnsembleConfigV1, whole: EnsembleConfigV1, edges: Iterable[EdgeConfig], homes: Mapping[str, PeerID]
) -> EnsembleConfig:
    """The part, with these edges, and at their other ends nodes that are pinned to their homes and in need of nothing.

    They are asked for a bid, too: who has bid takes part in measuring.
    """
    edges = tuple(edges)
    nodes, allocations = dict(part.nodes), dict(part.allocations)
    pinned = dict.fromkeys(name for edge in edges for name in (edge.s, edge.t) if name in homes)
    for name in pinned:
        names = (nodes.get(name) or whole.nodes[name]).allocations
        nodes[name] = NodeConfig(allocations=names, peer=homes[name])
        for each in names:
            allocations[each] = msgspec.structs.replace(whole.allocations[each], resources=Resources())
    shunned = tuple(peer for peer in part.exclude_peers if peer not in {homes[name] for name in pinned})
    v1 = msgspec.structs.replace(part, nodes=nodes, allocations=allocations, edges=edges, exclude_peers=shunned)
    return EnsembleConfig(v1=v1)
