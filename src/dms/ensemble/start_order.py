"""In which order the allocations of an ensemble start: its dependencies, with what each of them waits for.

Everything here takes a valid configuration without groups: :func:`~dms.ensemble.groups.expanded`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dms.ensemble.config import HEALTHY, STARTED, EnsembleConfig


@dataclass(frozen=True, slots=True)
class Need:
    """What must be true before an allocation starts: a condition, as :data:`~dms.ensemble.config.CONDITIONS` has them, of
    another one."""

    name: str
    condition: str


def needs_of(config: EnsembleConfig, name: str) -> tuple[Need, ...]:
    """What one allocation waits for, each once. Where only a name is given the other one must run, and be well if it has a
    health check."""
    needs: dict[str, Need] = {}
    for given in config.v1.allocations[name].depends_on:
        other, condition = (given, "") if isinstance(given, str) else (given.allocation, given.condition)
        target = config.v1.allocations.get(other)
        if not condition:
            has_check = target is not None and target.healthcheck is not None and bool(target.healthcheck.type)
            condition = HEALTHY if has_check else STARTED
        needs.setdefault(other, Need(other, condition))
    return tuple(needs.values())


def homes_of(config: EnsembleConfig) -> dict[str, str]:
    """The node of each allocation."""
    return {name: node for node, wanted in config.v1.nodes.items() for name in wanted.allocations}


def start_layers(config: EnsembleConfig, names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """These allocations in layers: each layer starts once the ones before it run; inside a layer their order here holds.

    A cycle, which validation refuses, ends up in the last layer, so that this ends for any input.
    """
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    missing: dict[str, int] = {}
    dependents: dict[str, list[str]] = {}
    for name in order:
        needs = [need.name for need in needs_of(config, name) if need.name in order]
        missing[name] = len(needs)
        for need in needs:
            dependents.setdefault(need, []).append(name)
    layers: list[tuple[str, ...]] = []
    ready = [name for name in order if not missing[name]]
    while ready:
        layers.append(tuple(ready))
        following: list[str] = []
        for name in ready:
            del missing[name]
            for dependent in dependents.get(name, ()):
                missing[dependent] -= 1
                if not missing[dependent]:
                    following.append(dependent)
        ready = sorted(following, key=order.__getitem__)
    if missing:
        layers.append(tuple(missing))
    return tuple(layers)


def independent_parts(config: EnsembleConfig, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The same allocations in parts of which none waits for another."""
    order = tuple(dict.fromkeys(names))
    chosen = {name: name for name in order}

    def root(name: str) -> str:
        while chosen[name] != name:
            chosen[name] = chosen[chosen[name]]
            name = chosen[name]
        return name

    for name in order:
        for need in needs_of(config, name):
            if need.name in chosen:
                chosen[root(name)] = root(need.name)
    parts: dict[str, list[str]] = {}
    for name in order:
        parts.setdefault(root(name), []).append(name)
    yield from map(tuple, parts.values())
