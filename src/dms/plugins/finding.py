"""The plugins that are installed. One that cannot be used is named, with the reason, and does no harm to the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from dms.plugins.contract import (
    DOTTED_NAME,
    EVENTS,
    EXECUTORS,
    GROUPS,
    HARDWARE,
    NAME,
    STORAGE,
    Listen,
    MakeGPUSource,
    MakeProvider,
    OpenExecutor,
)

EntryPoints = Callable[[str], Iterable[metadata.EntryPoint]]
"""The entry points of one group."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point: who brings it, and why it is not used, if it is not."""

    group: str
    name: str
    package: str
    version: str
    problem: str = ""
    is_disabled: bool = False


@dataclass(frozen=True, slots=True)
class Plugins:
    """All that were found, and those that can be used, by name."""

    all: tuple[Plugin, ...] = ()
    executors: Mapping[str, OpenExecutor] = field(default_factory=dict)
    storage: Mapping[str, MakeProvider] = field(default_factory=dict)
    hardware: Mapping[str, MakeGPUSource] = field(default_factory=dict)
    events: Mapping[str, Listen] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[Plugin, ...]:
        """Those that were meant to be used and cannot be."""
        return tuple(plugin for plugin in self.all if plugin.problem)


def installed(group: str) -> Iterable[metadata.EntryPoint]:
    """The entry points of this environment."""
    return metadata.entry_points(group=group)


def find_plugins(disabled: Collection[str] = (), *, entry_points: EntryPoints = installed) -> Plugins:
    """Import every plugin but those whose name or package is ``disabled``. Raises nothing on account of a plugin.

    Of two with one name neither is used: nobody could say which one a job gets.
    """
    found: list[Plugin] = []
    usable: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for group in GROUPS:
        points = sorted(entry_points(group), key=lambda point: (point.name, _package(point)))
        names = [point.name for point in points]
        for point in points:
            package, version = _package(point), point.dist.version if point.dist else ""
            if point.name in disabled or package in disabled:
                found.append(Plugin(group, point.name, package, version, is_disabled=True))
                continue
            problem, part = _loaded(point, is_double=names.count(point.name) > 1)
            if not problem:
                usable[group][point.name] = part
            found.append(Plugin(group, point.name, package, version, problem))
    return Plugins(tuple(found), usable[EXECUTORS], usable[STORAGE], usable[HARDWARE], usable[EVENTS])


def _loaded(point: metadata.EntryPoint, *, is_double: bool) -> tuple[str, object]:
    wanted, example = (NAME, "mine") if point.group in (HARDWARE, EVENTS) else (DOTTED_NAME, "mine.echo")
    if not wanted.fullmatch(point.name) and not (wanted is NAME and DOTTED_NAME.fullmatch(point.name)):
        return f"the name must be written like {example}", None
    if is_double:
        return "another package brings one of the same name; disable one of the two", None
    try:
        part = point.load()
    except (Exception, SystemExit) as exc:  # noqa: BLE001  whatever a package does when it is imported
        return f"it cannot be imported: {type(exc).__name__}: {' '.join(str(exc).split())[:200]}", None
    return ("", part) if callable(part) else (f"{point.value} cannot be called", None)


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "?"
