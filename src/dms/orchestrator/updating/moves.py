"""Which nodes come, go, or are replaced when an ensemble becomes another version of itself; pure.

A node is replaced as a whole if what runs on it is to be other than it is. What only says where it may be, how many
standbys it has, or what is done when it fails, is taken over without touching it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dms.ensemble.changes import changes_between, update_problems
from dms.ensemble.config import AllocationConfig, EnsembleConfig, EnsembleConfigV1
from dms.ensemble.groups import split_member
from dms.ensemble.problem import ROOT, Problem, path_part
from dms.orchestrator.updating.state import Moves
from dms.types.ids import PeerID

DATA = "its data is on that machine, where two cannot write it at once"
PORT = "its port on that machine is taken by what it replaces"
MAX_NAMED = 3


def moves_between(old: EnsembleConfig, new: EnsembleConfig, homes: Mapping[str, PeerID]) -> Moves:
    """What becomes of every node; both are expanded. ``homes``: where those of ``old`` are."""
    before, after = old.v1, new.v1
    changes = changes_between(old, new)
    altered = {*changes.allocations.added, *changes.allocations.changed, *_scripted(before, after)}
    unwanted = set(after.exclude_peers) - set(before.exclude_peers)
    replaced = tuple(
        name
        for name in after.nodes
        if name in before.nodes
        and (
            not altered.isdisjoint(after.nodes[name].allocations)
            or _shape(before, name) != _shape(after, name)
            or homes.get(name) in unwanted
        )
    )
    return Moves(
        added=tuple(name for name in after.nodes if name not in before.nodes),
        replaced=replaced,
        removed=tuple(name for name in before.nodes if name not in after.nodes),
        stops={name: why for name in replaced if (why := _why_stops(before, after, name))},
        settings=changes.settings,
    )


def problems_between(old: EnsembleConfig, new: EnsembleConfig) -> tuple[Problem, ...]:
    """What of the change cannot be made while ``old`` runs."""
    return (*update_problems(old, new), *_moved(old.v1, new.v1))


def describe(moves: Moves) -> str:
    """What a version changes, in a line for people."""
    parts = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (("added", moves.added), ("replaced", moves.replaced), ("removed", moves.removed))
        if names
    ]
    if moves.settings:
        parts.append(f"settings: {', '.join(moves.settings)}")
    return "; ".join(parts) or "nothing that runs"


def has_data(v1: EnsembleConfigV1, node: str) -> bool:
    """Whether what is on it writes to a place of its machine that outlives it."""
    return any(_writes(v1.allocations[name]) for name in v1.nodes[node].allocations)


def _moved(old: EnsembleConfigV1, new: EnsembleConfigV1) -> Iterator[Problem]:
    homes = {name: node for node, wanted in old.nodes.items() for name in wanted.allocations}
    for node, wanted in new.nodes.items():
        for name in wanted.allocations:
            if name in homes and homes[name] != node:
                path = f"{ROOT}.nodes.{path_part(node)}.allocations"
                yield Problem(
                    path, f"{name!r} runs on {homes[name]!r} and cannot move", "give the new one another name"
                )


def _shape(v1: EnsembleConfigV1, name: str) -> object:
    node = v1.nodes[name]
    return frozenset(node.allocations), frozenset(node.ports), node.requires


def _scripted(old: EnsembleConfigV1, new: EnsembleConfigV1) -> Iterator[str]:
    """The allocations whose scripts have other content."""
    changed = {name for name, script in new.scripts.items() if old.scripts.get(name, script) != script}
    return (name for name, each in new.allocations.items() if changed and not changed.isdisjoint(each.provision))


def _why_stops(old: EnsembleConfigV1, new: EnsembleConfigV1, name: str) -> str:
    if has_data(old, name) and has_data(new, name):
        return DATA
    before, after = ({port.public for port in v1.nodes[name].ports if port.public} for v1 in (old, new))
    return PORT if new.nodes[name].peer and before & after else ""


def _writes(allocation: AllocationConfig) -> bool:
    return any(volume.type == "local" and not volume.read_only for volume in allocation.volume)


def _listed(names: tuple[str, ...]) -> str:
    groups: dict[str, None] = {}
    for name in names:
        member = split_member(name)
        groups[f"{member[0]}-*" if member else name] = None
    shown = list(groups)
    more = f" and {len(shown) - MAX_NAMED} more" if len(shown) > MAX_NAMED else ""
    return ", ".join(shown[:MAX_NAMED]) + more
