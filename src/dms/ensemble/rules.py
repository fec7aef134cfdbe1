"""What the parts of an ensemble demand of each other (``spec/ensemble.md`` 7).

The rules take the canonical form as parsed JSON, in which parts that have problems of their own are missing; they look
at what is there, note problems by path, and never raise. They are the same for a user's file and for what arrives at a
node.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from dms.ensemble.dependencies import apply_dependency_rules
from dms.ensemble.group_rules import apply_group_rules, is_member
from dms.ensemble.groups import split_member
from dms.ensemble.ids import standby_name
from dms.ensemble.problem import ROOT, path_part, shorten
from dms.ensemble.reading import Reader, did_you_mean
from dms.executor.wasm_params import is_component

_STANDBY = re.compile(r"(.+)-standby-(\d{1,3})")


def apply_rules(v1: dict[str, Any], r: Reader) -> None:
    """Note every breach."""
    allocations: dict[str, dict[str, Any]] = v1.get("allocations") or {}
    nodes: dict[str, dict[str, Any]] = v1.get("nodes") or {}
    _unique(allocations, f"{ROOT}.allocations", r)
    _unique(nodes, f"{ROOT}.nodes", r)
    _dns_names(allocations, r)
    for name, allocation in allocations.items():
        _allocation(allocation, f"{ROOT}.allocations.{path_part(name)}", v1.get("scripts") or {}, r)
    homes = _homes(nodes, allocations, r)
    for name, node in nodes.items():
        _ports(node, f"{ROOT}.nodes.{path_part(name)}", allocations, r)
        _architecture(node, f"{ROOT}.nodes.{path_part(name)}", allocations, r)
    if (v1.get("subnet") or {}).get("required"):
        _addresses(nodes, allocations, r)
    counts = {name: node["count"] for name, node in nodes.items() if node.get("count")}
    sizes = {name: counts[home] for name, home in homes.items() if home in counts}
    apply_dependency_rules(allocations, homes, sizes, r)
    apply_group_rules(v1, counts, sizes, r)
    _standbys(nodes, counts, r)
    for index, edge in enumerate(v1.get("edges") or ()):
        _edge(edge, f"{ROOT}.edges[{index}]", nodes, counts, r)
    if v1.get("supervisor"):
        _supervisor(v1["supervisor"], f"{ROOT}.supervisor", allocations, sizes, r)


def with_defaults(v1: dict[str, Any]) -> dict[str, Any]:
    """The canonical form with what is taken when nothing is said."""
    for name, allocation in (v1.get("allocations") or {}).items():
        allocation.setdefault("dns_name", name)
        allocation.setdefault("failure_recovery", "stay_down")
    for node in (v1.get("nodes") or {}).values():
        node.setdefault("failure_recovery", "stay_down")
    return v1


def _unique(names: dict[str, Any], path: str, r: Reader) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            r.fail_at(
                f"{path}.{path_part(name)}",
                f"differs from {other!r} in case only; names of hosts ignore case",
                value=name,
            )


def _dns_names(allocations: dict[str, dict[str, Any]], r: Reader) -> None:
    seen: dict[str, str] = {}
    for name, allocation in allocations.items():
        dns_name = allocation.get("dns_name", name)
        other = seen.setdefault(dns_name.lower(), name)
        if other != name and other.lower() != name.lower():
            path = f"{ROOT}.allocations.{path_part(name)}" + (".dns_name" if "dns_name" in allocation else "")
            r.fail_at(path, f"the DNS name {dns_name!r} belongs to {other!r} already", value=dns_name)


def _allocation(allocation: dict[str, Any], path: str, scripts: dict[str, Any], r: Reader) -> None:
    executor, type_ = allocation.get("executor"), (allocation.get("execution") or {}).get("type")
    if executor and type_ and executor != type_:
        reason = f"the executor is {executor!r}, but execution.type is {type_!r}"
        r.fail_at(f"{path}.executor", reason, hint="both must be the same", value=executor)
    for index, script in enumerate(allocation.get("provision") or ()):
        if script not in scripts:
            hint = did_you_mean(script, scripts) or "define it under scripts"
            r.fail_at(f"{path}.provision[{index}]", f"referenced script {script!r} not found", hint=hint, value=script)
    if executor != "wasm":
        return
    if allocation.get("provision"):
        hint = "prepare the input with files, or use docker"
        r.fail_at(f"{path}.provision", "WebAssembly programs cannot be provisioned by scripts", hint=hint)
    if allocation.get("keys"):
        r.fail_at(f"{path}.keys", "WebAssembly programs cannot be given keys", hint="prepare the input with files")
    if (allocation.get("healthcheck") or {}).get("type") == "command":
        reason = "no command can run inside a WebAssembly program"
        r.fail_at(f"{path}.healthcheck", reason, hint="leave the health check out")


def _homes(nodes: dict[str, dict[str, Any]], allocations: dict[str, Any], r: Reader) -> dict[str, str]:
    """The node of each allocation."""
    homes: dict[str, str] = {}
    for node, config in nodes.items():
        for index, name in enumerate(config.get("allocations") or ()):
            path = f"{ROOT}.nodes.{path_part(node)}.allocations[{index}]"
            if name not in allocations:
                if not r.is_wrong(f"{ROOT}.allocations") and not r.is_broken(f"{ROOT}.allocations.{path_part(name)}"):
                    reason = f"there is no allocation {name!r}"
                    r.fail_at(path, reason, hint=did_you_mean(name, allocations), value=name)
            elif name in homes:
                where = "this node" if homes[name] == node else f"node {homes[name]!r}"
                r.fail_at(path, f"the allocation {name!r} is in {where} already", value=name)
            else:
                homes[name] = node
    if not nodes:
        return homes
    for name in allocations:
        if name not in homes and not any(p.path.startswith(f"{ROOT}.nodes") for p in r.problems):
            hint = "add its name to the allocations of a node"
            r.fail_at(f"{ROOT}.allocations.{path_part(name)}", "belongs to no node", hint=hint)
    return homes


def _ports(node: dict[str, Any], path: str, allocations: dict[str, dict[str, Any]], r: Reader) -> None:
    seen: dict[int, int] = {}
    members = node.get("allocations") or ()
    for index, port in enumerate(node.get("ports") or ()):
        where, public, name = f"{path}.ports[{index}]", port.get("public", 0), port.get("allocation")
        if public and seen.setdefault(public, index) != index:
            reason = f"the public port {public} is used by ports[{seen[public]}] already"
            r.fail_at(f"{where}.public", reason, hint="write public: 0 to let the provider choose", value=public)
        if name is None or r.is_broken(f"{path}.allocations"):
            continue
        if name not in members:
            reason = f"the allocation {name!r} is not in this node"
            r.fail_at(f"{where}.allocation", reason, hint=did_you_mean(name, members), value=name)
        elif (allocations.get(name) or {}).get("executor") != "wasm":
            continue
        elif port.get("protocol") == "udp":
            reason = "WebAssembly programs cannot listen by UDP"
            r.fail_at(f"{where}.protocol", reason, hint="use docker for that", value="udp")
        elif _is_component(allocations[name]):
            reason = f"the program of {name!r} is a component of WASI 0.2, which cannot listen on ports"
            r.fail_at(f"{where}.allocation", reason, hint="compile it to wasm32-wasip1", value=name)


def _addresses(nodes: dict[str, dict[str, Any]], allocations: dict[str, dict[str, Any]], r: Reader) -> None:
    """Whether each allocation can have one; it is demanded."""
    served = {port.get("allocation") for node in nodes.values() for port in node.get("ports") or ()}
    for name, allocation in allocations.items():
        if allocation.get("executor") == "wasm" and name not in served:
            reason = "a WebAssembly program without ports gets no private address, which subnet.required demands"
            path = f"{ROOT}.allocations.{path_part(name)}.executor"
            r.fail_at(path, reason, hint="give it a port, use docker, or leave subnet.required out", value="wasm")


def _is_component(allocation: dict[str, Any]) -> bool:
    """Whether its program is here, and one."""
    module = ((allocation.get("execution") or {}).get("params") or {}).get("module")
    return isinstance(module, str) and is_component(base64.b64decode(module[:12]))


def _architecture(node: dict[str, Any], path: str, allocations: dict[str, dict[str, Any]], r: Reader) -> None:
    wanted: dict[str, str] = {}
    for name in node.get("allocations") or ():
        architecture = ((allocations.get(name) or {}).get("resources") or {}).get("cpu", {}).get("architecture")
        if architecture:
            wanted.setdefault(architecture, name)
    if len(wanted) > 1:
        what = " and ".join(f"{name!r} wants {architecture}" for architecture, name in list(wanted.items())[:2])
        r.fail_at(path, f"no machine has two architectures: {what}", hint="put them into different nodes")


def _standbys(nodes: dict[str, Any], counts: dict[str, int], r: Reader) -> None:
    for standby in nodes:
        match = _STANDBY.fullmatch(standby)
        name = match[1] if match else ""
        member = split_member(name)
        group = member[0] if member and 1 <= member[1] <= counts.get(member[0], 0) else ""
        node = nodes.get(name) or nodes.get(group)
        if match and node and standby == standby_name(name, int(match[2])):
            if not 1 <= int(match[2]) <= node.get("redundancy", 0) or (name in counts and not group):
                continue
            path = f"{ROOT}.nodes.{path_part(standby)}"
            r.fail_at(path, f"this is the name of a standby of {name!r}", hint="choose another name")


def _edge(edge: dict[str, Any], path: str, nodes: dict[str, Any], counts: dict[str, int], r: Reader) -> None:
    source, target = edge.get("s"), edge.get("t")
    if source is not None and source == target and source not in counts:
        r.fail_at(path, "an edge needs two different nodes", value=source)
    for key, name in (("s", source), ("t", target)):
        if name is None or name in nodes or is_member(name, counts):
            continue
        if not r.is_broken(f"{ROOT}.nodes.{path_part(name)}"):
            reason = f"there is no node {shorten(name)!r}"
            r.fail_at(f"{path}.{key}", reason, hint=did_you_mean(name, nodes), value=name)


def _supervisor(
    supervisor: dict[str, Any], path: str, allocations: dict[str, Any], sizes: dict[str, int], r: Reader
) -> None:
    for index, name in enumerate(supervisor.get("allocations") or ()):
        if name in allocations or is_member(name, sizes):
            continue
        if not r.is_broken(f"{ROOT}.allocations.{path_part(name)}"):
            reason = f"there is no allocation {name!r}"
            r.fail_at(f"{path}.allocations[{index}]", reason, hint=did_you_mean(name, allocations), value=name)
    for index, child in enumerate(supervisor.get("children") or ()):
        _supervisor(child, f"{path}.children[{index}]", allocations, sizes, r)
