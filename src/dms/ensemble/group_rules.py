"""What groups (:mod:`~dms.ensemble.groups`) demand: no name twice once they are expanded, and no endless expansion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dms.ensemble.groups import (
    ALL,
    MAX_EDGES,
    MAX_NODES,
    PAIRED,
    RING,
    edge_count,
    member_dns_name,
    member_name,
    split_member,
)
from dms.ensemble.problem import ROOT, path_part
from dms.ensemble.reading import Reader

MAX_LABEL_CHARS = 63


def apply_group_rules(v1: dict[str, Any], counts: Mapping[str, int], sizes: Mapping[str, int], r: Reader) -> None:
    """Note every breach; ``counts`` are the sizes of groups by node, ``sizes`` by allocation."""
    if counts:
        nodes, allocations = v1.get("nodes") or {}, v1.get("allocations") or {}
        _groups(nodes, counts, r)
        _names(nodes, counts, f"{ROOT}.nodes", r)
        _names(allocations, sizes, f"{ROOT}.allocations", r)
        _dns_names(allocations, sizes, r)
        _totals(nodes, counts, r)
    _shapes(v1.get("edges") or (), counts, r)


def is_member(name: str, counts: Mapping[str, int]) -> bool:
    """Whether this is a member of one of the groups."""
    found = split_member(name)
    return found is not None and 1 <= found[1] <= counts.get(found[0], 0)


def _groups(nodes: dict[str, Any], counts: Mapping[str, int], r: Reader) -> None:
    for name, count in counts.items():
        path = f"{ROOT}.nodes.{path_part(name)}"
        if count > 1 and nodes[name].get("peer"):
            hint = "leave peer out, or write a node for each machine"
            r.fail_at(f"{path}.peer", f"one machine cannot be {count} nodes", hint=hint, value=nodes[name]["peer"])


def _names(whole: dict[str, Any], counts: Mapping[str, int], path: str, r: Reader) -> None:
    folded = {name.lower(): name for name in counts}
    for name in whole:
        found = split_member(name)
        group = folded.get(found[0].lower()) if found else None
        if found and group is not None and 1 <= found[1] <= counts[group]:
            reason = f"this is the name of a member of {group!r}, which has a count"
            r.fail_at(f"{path}.{path_part(name)}", reason, hint="choose another name", value=name)
    for name, count in counts.items():
        if len(member_name(name, count)) > MAX_LABEL_CHARS:
            reason = (
                f"too long for its members: {member_name(name, count)!r} has more than {MAX_LABEL_CHARS} characters"
            )
            r.fail_at(f"{path}.{path_part(name)}", reason, value=name)


def _dns_names(allocations: dict[str, Any], sizes: Mapping[str, int], r: Reader) -> None:
    groups: dict[str, str] = {}
    for name, size in sizes.items():
        dns_name = (allocations.get(name) or {}).get("dns_name") or name
        groups[dns_name.lower()] = name
        label = member_dns_name(dns_name, size).partition(".")[0]
        if len(label) > MAX_LABEL_CHARS and dns_name != name:
            path = f"{ROOT}.allocations.{path_part(name)}.dns_name"
            r.fail_at(path, f"too long for the members of the group: {label!r}", value=dns_name)
    for name, allocation in allocations.items():
        dns_name = (allocation.get("dns_name") or name).lower()
        label, dot, rest = dns_name.partition(".")
        found = split_member(label)
        group = groups.get(f"{found[0]}{dot}{rest}") if found else None
        if found and group is not None and group != name and 1 <= found[1] <= sizes[group] and dns_name != name.lower():
            path = f"{ROOT}.allocations.{path_part(name)}.dns_name"
            r.fail_at(path, f"a member of {group!r} has this DNS name", value=dns_name)


def _totals(nodes: dict[str, Any], counts: Mapping[str, int], r: Reader) -> None:
    total = allocations = 0
    for name, node in nodes.items():
        total += counts.get(name, 1)
        allocations += counts.get(name, 1) * len(node.get("allocations") or ())
    for what, number in (("nodes", total), ("allocations", allocations)):
        if number > MAX_NODES:
            reason = f"with all members there are {number} {what}; {MAX_NODES} are allowed"
            r.fail_at(f"{ROOT}.nodes", reason, hint="deploy several ensembles")


def _shapes(edges: Any, counts: Mapping[str, int], r: Reader) -> None:  # parsed JSON
    total = 0
    for index, edge in enumerate(edges):
        source, target, shape = edge.get("s"), edge.get("t"), edge.get("shape", ALL)
        if source is None or target is None:
            continue
        path = f"{ROOT}.edges[{index}]"
        is_same, sizes = source == target, (counts.get(source, 1), counts.get(target, 1))
        if is_same and source in counts and (sizes[0] < 2 or shape == PAIRED):
            hint = "write shape: ring, or leave it out for each with each" if sizes[0] > 1 else "leave the edge out"
            r.fail_at(path, f"no two members of {source!r} are meant", hint=hint, value=source)
        elif shape == RING and not is_same:
            r.fail_at(f"{path}.shape", "a ring lies inside one group", hint="name the same group twice", value=shape)
        elif shape == PAIRED and sizes[0] != sizes[1]:
            reason = f"{source!r} has {sizes[0]} members and {target!r} has {sizes[1]}"
            r.fail_at(f"{path}.shape", reason, hint="pairs need groups of one size", value=shape)
        elif edge.get("shape") and source not in counts and target not in counts:
            r.fail_at(f"{path}.shape", "means nothing between single nodes", hint="leave it out", value=shape)
        else:
            total += edge_count(shape, *sizes, is_same=is_same)
            if total > MAX_EDGES:
                reason = f"between all members there are more than {MAX_EDGES} edges"
                hint = "write shape: ring or paired, or name single members, such as NAME-0001"
                r.fail_at(path, reason, hint=hint)
                return
