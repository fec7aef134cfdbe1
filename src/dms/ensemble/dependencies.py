"""What starts after what: how a person writes ``depends_on``, and what it demands (``spec/ensemble.md`` 2.2, 10).

A name says that the other one must run before, and be well if it has a health check. Instead, a *condition* may be named,
as Compose has them. The two may live in different nodes. Between groups: inside one group it holds member by member; from
outside, the name of a group's allocation means all its members, and a single member may be named as well.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from typing import Any

from dms.ensemble.config import COMPLETED, CONDITIONS, HEALTHY, STARTED
from dms.ensemble.containers import ListOf, Member, Object
from dms.ensemble.groups import split_member
from dms.ensemble.kinds import JSON, Kind, Text
from dms.ensemble.problem import ROOT, path_part, shorten
from dms.ensemble.reading import INVALID, Reader, did_you_mean
from dms.ensemble.tree import Entry, Mapping, Scalar, Tree, is_null

MAX_DEPENDENCIES = 100_000
"""Of an ensemble, those between members of groups counted."""
_SHORT = {"started": STARTED, "healthy": HEALTHY, "completed": COMPLETED}

CONDITION = Text(
    choices=CONDITIONS, what="a condition", fold=lambda text: _SHORT.get(text.strip().lower(), text.strip().lower())
)


@dataclass(frozen=True)
class DependsOn(Kind):
    """A list of names, or of ``{allocation, condition}``; also a map from names to conditions, as in Compose."""

    name: Text

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The list: a name where no condition is given, an object where one is."""
        if isinstance(tree, Mapping):
            items = [self._of_entry(*each, path, index, r) for index, each in enumerate(tree.entries.items())]
        else:
            read = ListOf(_OneOf(self.name, self._object()), what="name").read(tree, path, r)
            if read is INVALID:
                return INVALID
            items = read
        found: dict[str, JSON] = {}
        for item in items:
            name = item if isinstance(item, str) else INVALID if item is INVALID else item.get("allocation", INVALID)
            if name is INVALID:
                continue
            if found.setdefault(name, item) != item:
                r.fail(
                    tree, path, f"{shorten(name)!r} is named with two conditions", hint="keep one of them", value=name
                )
        return [i if isinstance(i, str) or "condition" in i else i["allocation"] for i in found.values()]

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An array, or an object."""
        condition = CONDITION.schema(defs)
        only = {"type": "object", "properties": {"condition": condition}, "additionalProperties": False}
        as_map = {
            "type": "object",
            "additionalProperties": {"anyOf": [condition, only, {"type": "null"}]},
            "propertyNames": {"pattern": r"\S"},
        }
        return {"anyOf": [ListOf(_OneOf(self.name, self._object())).schema(defs), as_map]}

    def write(self, value: JSON) -> JSON:
        """The list."""
        return [self.name.write(item) if isinstance(item, str) else self._object().write(item) for item in value]

    def _object(self) -> Object:
        return Object(
            {
                "allocation": Member(self.name, "which one", required=True),
                "condition": Member(CONDITION, f"one of {', '.join(CONDITIONS)}"),
            }
        )

    def _of_entry(self, key: str, entry: Entry, whole: str, index: int, r: Reader) -> JSON:
        path = f"{whole}.{path_part(key)}"
        if entry.mark:
            r.marks[path] = r.marks[f"{whole}[{index}]"] = entry.mark
        name = self.name.read(Scalar(key, key, entry.mark), path, r)
        value = entry.value
        if isinstance(value, Mapping):
            inner = Object({"condition": Member(CONDITION, "what must be true of it")}).read(value, path, r)
        elif is_null(value):
            inner = {}
        else:
            condition = CONDITION.read(value, path, r)
            inner = INVALID if condition is INVALID else {"condition": condition}
        if name is INVALID or inner is INVALID:
            return INVALID
        return {"allocation": name} | inner if inner else name


@dataclass(frozen=True)
class _OneOf(Kind):
    """A name, or an object."""

    name: Text
    kind: Object

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """As whatever it is."""
        return (self.kind if isinstance(tree, Mapping) else self.name).read(tree, path, r)

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """Either."""
        return {"anyOf": [self.name.schema(defs), self.kind.schema(defs)]}


# rules ---------------------------------------------------------------------------------------------------------------


def apply_dependency_rules(
    allocations: dict[str, dict[str, Any]], homes: MappingABC[str, str], sizes: MappingABC[str, int], r: Reader
) -> None:
    """Note every breach; ``homes`` are the nodes of allocations, ``sizes`` how many members those in groups have."""
    edges: dict[str, list[str]] = {}
    total = 0
    for name, allocation in allocations.items():
        for index, given in enumerate(allocation.get("depends_on") or ()):
            path = f"{ROOT}.allocations.{path_part(name)}.depends_on[{index}]"
            other, condition = (given, "") if isinstance(given, str) else (given["allocation"], given["condition"])
            target = _target(name, other, path, allocations, homes, sizes, r)
            if target is None:
                continue
            edges.setdefault(name, []).append(target)
            _condition(target, condition, path, allocations[target], r)
            is_inside = name in sizes and homes.get(name) == homes.get(target)
            total += sizes.get(name, 1) * (1 if is_inside or target != other else sizes.get(target, 1))
    if total > MAX_DEPENDENCIES:
        reason = f"between all members there are {total} dependencies; {MAX_DEPENDENCIES} are allowed"
        r.fail_at(f"{ROOT}.allocations", reason, hint="name single members, such as NAME-0001")
    cycle = _cycle(edges)
    if cycle:
        reason = f"cyclic dependencies detected in allocations: {' → '.join(cycle)}"
        r.fail_at(f"{ROOT}.allocations.{path_part(cycle[0])}.depends_on", reason)


def _target(
    name: str,
    other: str,
    path: str,
    allocations: MappingABC[str, Any],
    homes: MappingABC[str, str],
    sizes: MappingABC[str, int],
    r: Reader,
) -> str | None:
    """The entry under which the other one stands: that of its group, where it is a member."""
    if other == name:
        r.fail_at(path, "an allocation cannot depend on itself", value=other)
        return None
    if other in allocations:
        return other
    member = split_member(other)
    if member is not None and 1 <= member[1] <= sizes.get(member[0], 0):
        if homes.get(name) != homes.get(member[0]):
            return member[0]
        hint = f"write {member[0]!r}: it holds member by member"
        r.fail_at(path, f"{other!r} is a member of the same group", hint=hint, value=other)
    elif not r.is_broken(f"{ROOT}.allocations.{path_part(other)}"):
        r.fail_at(path, f"there is no allocation {other!r}", hint=did_you_mean(other, allocations), value=other)
    return None


def _condition(name: str, condition: str, path: str, target: MappingABC[str, Any], r: Reader) -> None:
    where = f"{ROOT}.allocations.{path_part(name)}"
    if condition == HEALTHY and not target.get("healthcheck") and not r.is_wrong(f"{where}.healthcheck"):
        reason = f"{name!r} has no health check"
        r.fail_at(path, reason, hint=f"give it one, or wait for {STARTED}", value=condition)
    if condition == COMPLETED and target.get("type") == "service":
        reason = f"{name!r} is a service, which never completes"
        r.fail_at(path, reason, hint=f"make it a task, or wait for {STARTED}", value=condition)


def _cycle(edges: dict[str, list[str]]) -> list[str]:
    """Some cycle, its first member repeated at the end; nothing when there is none."""
    done: set[str] = set()
    for start in edges:
        trail: dict[str, None] = {}
        ahead = [iter((start,))]
        while ahead:
            name = next(ahead[-1], None)
            if name is None:
                ahead.pop()
                if trail:
                    done.add(trail.popitem()[0])
                continue
            if name in trail:
                path = list(trail)
                return [*path[path.index(name) :], name]
            if name not in done:
                trail[name] = None
                ahead.append(iter(edges.get(name, ())))
    return []
