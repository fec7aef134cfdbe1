"""Once a heartbeat: whom to take into the mesh of a topic, and whom to drop."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Collection
from dataclasses import dataclass

from dms.network.gossip.parameters import MeshParameters
from dms.types.ids import PeerID


@dataclass(slots=True)
class Plan:
    """Disjoint sets of peers, in the order of the decisions."""

    graft: list[PeerID]
    prune: list[PeerID]
    evict: list[PeerID]
    """To be pruned because they are bad: such are offered no others."""


def plan(
    members: Collection[PeerID],
    candidates: Callable[[], Collection[PeerID]],
    *,
    score: Callable[[PeerID], float],
    is_outbound: Callable[[PeerID], bool],
    parameters: MeshParameters,
    rng: random.Random,
    better_than: float | None = None,
) -> Plan:
    """Keep a mesh between its bounds, with enough peers that we dialled, without those of negative score.

    :param candidates: yields subscribers that may be grafted now; those with a negative score are left out here. Asked only
        when somebody is missing, which is rare.
    :param better_than: when the median score of the mesh is below, take in some that are above the median.
    """
    p = parameters
    evicted = sorted(peer for peer in members if score(peer) < 0)
    mesh = sorted(set(members) - set(evicted))
    made = Plan([], [], evicted)

    def pool() -> list[PeerID]:
        found = sorted(peer for peer in set(candidates()) - set(members) if score(peer) >= 0)
        rng.shuffle(found)
        return found

    if len(mesh) < p.degree_low:
        made.graft += pool()[: p.degree - len(mesh)]
        return made
    if len(mesh) > p.degree_high:
        kept = _cut_back(mesh, score, is_outbound, p, rng)
        made.prune += [peer for peer in mesh if peer not in kept]
        mesh = sorted(kept)
    missing = p.degree_out - sum(map(is_outbound, mesh))
    if missing > 0:
        made.graft += [peer for peer in pool() if is_outbound(peer)][:missing]
    if better_than is not None and len(mesh) > 1:
        median = statistics.median(map(score, mesh))
        if median < better_than:
            better = [peer for peer in pool() if score(peer) > median and peer not in made.graft]
            made.graft += better[: p.opportunistic_peers]
    return made


def _cut_back(
    mesh: list[PeerID],
    score: Callable[[PeerID], float],
    is_outbound: Callable[[PeerID], bool],
    p: MeshParameters,
    rng: random.Random,
) -> set[PeerID]:
    """The best few, some at random, and among them enough that we dialled."""
    shuffled = list(mesh)
    rng.shuffle(shuffled)
    shuffled.sort(key=score, reverse=True)
    best, rest = shuffled[: p.degree_score], shuffled[p.degree_score :]
    rng.shuffle(rest)
    missing = p.degree_out - sum(map(is_outbound, best))
    dialled = [peer for peer in rest if is_outbound(peer)][: max(0, missing)]
    others = [peer for peer in rest if peer not in dialled]
    return {*best, *(dialled + others)[: p.degree - len(best)]}
