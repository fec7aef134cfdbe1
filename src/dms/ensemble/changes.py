"""What a new version of an ensemble changes, and what a deployment that runs may not change (``spec/ensemble.md`` 7.1).

Nodes and allocations are told apart by name. Both versions are compared with their groups expanded, so that another
``count`` adds or removes members and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from dms.ensemble.config import AllocationConfig, EnsembleConfig, EnsembleConfigV1, LocationConstraints, NodeConfig
from dms.ensemble.groups import COUNT, expanded
from dms.ensemble.problem import ROOT, Problem, path_part


@dataclass(frozen=True, slots=True)
class Difference:
    """Names that were added, removed, or stand for something else now; each in the order of its version."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new version changes; ``settings`` are names of other members of the root."""

    nodes: Difference
    allocations: Difference
    settings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.nodes or self.allocations or self.settings)


def changes_between(old: EnsembleConfig, new: EnsembleConfig) -> Changes:
    """What ``new`` does that ``old`` did not. How many members a group has does not change those that stay."""
    before, after = expanded(old).v1, expanded(new).v1
    settings = tuple(
        name
        for name in EnsembleConfigV1.__struct_fields__
        if name not in ("nodes", "allocations") and getattr(before, name) != getattr(after, name)
    )
    allocations = _difference(
        {name: _lasting(allocation) for name, allocation in before.allocations.items()},
        {name: _lasting(allocation) for name, allocation in after.allocations.items()},
    )
    return Changes(_difference(before.nodes, after.nodes), allocations, settings)


def update_problems(old: EnsembleConfig, new: EnsembleConfig) -> tuple[Problem, ...]:
    """What of the change from ``old``, which runs, is refused; both are valid by themselves."""
    return tuple(_problems(expanded(old).v1, expanded(new).v1))


def _problems(old: EnsembleConfigV1, new: EnsembleConfigV1) -> Iterator[Problem]:
    deploy = "deploy it anew"
    if old.supervisor is not None and new.supervisor is None:
        yield Problem(f"{ROOT}.supervisor", "the supervisor of a running deployment cannot be removed", deploy)
    if old.escalation_strategy != new.escalation_strategy:
        yield Problem(
            f"{ROOT}.escalation_strategy", "cannot change while it runs", f"write {old.escalation_strategy!r}"
        )
    for name, node in new.nodes.items():
        before = old.nodes.get(name)
        if before is not None:
            yield from _node_problems(f"{ROOT}.nodes.{path_part(name)}", before, node, old)
    for name, allocation in new.allocations.items():
        known = old.allocations.get(name)
        if known is not None and known.failure_recovery != allocation.failure_recovery:
            path = f"{ROOT}.allocations.{path_part(name)}.failure_recovery"
            yield Problem(path, "cannot change while it runs", f"write {known.failure_recovery!r}")
    edges = {frozenset((edge.s, edge.t)) for edge in old.edges}
    for index, edge in enumerate(new.edges):
        if edge.s in old.nodes and edge.t in old.nodes and frozenset((edge.s, edge.t)) not in edges:
            reason = f"{edge.s!r} and {edge.t!r} run already; a new bound between them cannot be kept"
            yield Problem(f"{ROOT}.edges[{index}]", reason, deploy)


def _node_problems(path: str, old: NodeConfig, new: NodeConfig, whole: EnsembleConfigV1) -> Iterator[Problem]:
    if old.peer != new.peer:
        yield Problem(f"{path}.peer", "the machine of a running node cannot change", "add a node and remove this one")
    if old.failure_recovery != new.failure_recovery:
        yield Problem(f"{path}.failure_recovery", "cannot change while it runs", f"write {old.failure_recovery!r}")
    if _is_narrower(old.location, new.location):
        reason = "a running node can be allowed more places, not fewer"
        yield Problem(f"{path}.location", reason, "add a node and remove this one")
    for name in old.allocations:
        if name not in new.allocations or name not in whole.allocations:
            continue
        before = {port for port in old.ports if port.allocation == name}
        if before != {port for port in new.ports if port.allocation == name}:
            yield Problem(
                f"{path}.ports", f"the ports of {name!r}, which runs, cannot change", "add an allocation for it"
            )


def _is_narrower(old: LocationConstraints | None, new: LocationConstraints | None) -> bool:
    before, after = old or LocationConstraints(), new or LocationConstraints()
    if after.accept and not (before.accept and set(before.accept) <= set(after.accept)):
        return True
    return not set(after.reject) <= set(before.reject)


def _difference(old: Mapping[str, object], new: Mapping[str, object]) -> Difference:
    return Difference(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in new if name in old and old[name] != new[name]),
    )


def _lasting(allocation: AllocationConfig) -> AllocationConfig:
    """Without the size of its group, which a member learns when it starts."""
    given = allocation.execution.params.get("environment")
    if not isinstance(given, list | tuple):
        return allocation
    environment = [item for item in given if not str(item).startswith(f"{COUNT}=")]
    execution = replace(allocation.execution, params={**allocation.execution.params, "environment": environment})
    return replace(allocation, execution=execution)
