"""What is to be done when an allocation fails: the rungs of recovery, one after another (``spec/orchestration.md`` 9).

Each rung may be used :data:`MAX_TRIES` times; after that the next one's turn has come. From the bottom:

1. the allocation's own ``failure_recovery`` or, where that is ``stay_down``, the strategy of the supervisor that names it;
2. the supervisors above, each with its own strategy, for which what is below them failed as a whole;
3. the ``failure_recovery`` of its node;
4. the ``escalation_strategy`` of the ensemble.

A rung that was not needed for :data:`WINDOW_S` is as new. The time until a restart doubles with every try.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from dms.ensemble.config import EnsembleConfig, SupervisorConfig
from dms.ensemble.ids import allocation_key, split_allocation_key
from dms.ensemble.start_order import start_layers
from dms.orchestrator.lifecycle.standby import is_standby
from dms.orchestrator.lifecycle.state import Tries

MAX_TRIES = 3
WINDOW_S = 600.0
"""After so long without a failure all tries are forgiven."""
BASE_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
MAX_DOUBLINGS = 16
NS_PER_S = 10**9

STAY_DOWN = "stay_down"
_STRATEGIES = {"OneForOne": "one_for_one", "AllForOne": "one_for_all", "RestForOne": "rest_for_one"}


class Remedy(Enum):
    """What a rung does."""

    RESTART = "restart"
    """Restart its allocations where they are."""
    REPLACE = "replace"
    """Place the node on another machine."""
    REDEPLOY = "redeploy"
    """End everything and deploy the ensemble anew."""
    TEARDOWN = "teardown"
    """End everything."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of recovery; ``name`` is that under which its tries are counted, ``keys`` in the order of their start."""

    name: str
    remedy: Remedy
    keys: tuple[str, ...] = ()


def ladder(config: EnsembleConfig, key: str) -> tuple[Rung, ...]:
    """The rungs for the allocation ``<node>.<allocation>``; none for a standby, which nobody restarts."""
    node, name = split_allocation_key(key)
    if is_standby(config, node):
        return ()
    rungs: list[Rung] = []
    path = _path(config.v1.supervisor, name)
    own = config.v1.allocations[name].failure_recovery or STAY_DOWN
    siblings: list[tuple[str, ...]] = _units(path[-1]) if path else [(each,) for each in _started(config, node)]
    if own == STAY_DOWN and path:
        own = _STRATEGIES.get(path[-1].strategy, STAY_DOWN)
    if own != STAY_DOWN:
        rungs.append(_restart(config, f"allocation {key}", own, siblings, name, node))
    for depth in range(len(path) - 2, -1, -1):
        strategy = _STRATEGIES.get(path[depth].strategy, STAY_DOWN)
        if strategy != STAY_DOWN:
            rungs.append(_restart(config, f"supervisor {depth} of {key}", strategy, _units(path[depth]), name, node))
    match config.v1.nodes[node].failure_recovery:
        case "restart":
            keys = tuple(allocation_key(node, each) for each in _started(config, node))
            rungs.append(Rung(f"node {node}", Remedy.RESTART, keys))
        case "redeploy":
            rungs.append(Rung(f"node {node}", Remedy.REPLACE))
    match config.v1.escalation_strategy:
        case "redeploy":
            rungs.append(Rung("ensemble", Remedy.REDEPLOY))
        case "teardown":
            rungs.append(Rung("ensemble", Remedy.TEARDOWN))
    return tuple(rungs)


def is_restartable(config: EnsembleConfig, node: str, name: str) -> bool:
    """Whether an allocation may be restarted after a failure: its provider keeps its place then."""
    if config.v1.nodes[node].failure_recovery == "restart":
        return True
    if (config.v1.allocations[name].failure_recovery or STAY_DOWN) != STAY_DOWN:
        return True
    return any(level.strategy in _STRATEGIES for level in _path(config.v1.supervisor, name))


def choose(rungs: Sequence[Rung], tries: Mapping[str, Tries], now_ns: int) -> Rung | None:
    """The lowest rung that may be used once more; ``None``: it stays down."""
    return next((rung for rung in rungs if used(tries, rung, now_ns) < MAX_TRIES), None)


def used(tries: Mapping[str, Tries], rung: Rung, now_ns: int) -> int:
    """How often a rung was used of late."""
    known = tries.get(rung.name)
    if known is None or now_ns - known.last_ns > WINDOW_S * NS_PER_S:
        return 0
    return known.count


def backoff_ns(failures: int) -> int:
    """How long to wait after so many failures in a row, the present one not counted."""
    return int(min(MAX_BACKOFF_S, BASE_BACKOFF_S * 2.0 ** min(failures, MAX_DOUBLINGS)) * NS_PER_S)


def _restart(
    config: EnsembleConfig, counted: str, strategy: str, units: list[tuple[str, ...]], name: str, node: str
) -> Rung:
    """``units`` are what fails as a whole, in the order of their start; one of them holds ``name``."""
    at = next((index for index, unit in enumerate(units) if name in unit), 0)
    match strategy:
        case "one_for_all":
            chosen = units
        case "rest_for_one":
            chosen = units[at:]
        case _:
            chosen = units[at : at + 1]
    homes = {name: node} | _homes(config, {each for unit in chosen for each in unit} - {name})
    names = dict.fromkeys(each for unit in chosen for each in unit)
    return Rung(counted, Remedy.RESTART, tuple(allocation_key(homes[each], each) for each in names if each in homes))


def _path(supervisor: SupervisorConfig | None, name: str) -> list[SupervisorConfig]:
    """From the root to the supervisor that names the allocation; empty when none does."""
    if supervisor is None:
        return []
    if name in supervisor.allocations:
        return [supervisor]
    for child in supervisor.children:
        if below := _path(child, name):
            return [supervisor, *below]
    return []


def _units(supervisor: SupervisorConfig) -> list[tuple[str, ...]]:
    """Its allocations, and each supervisor below it as one."""
    return [*((name,) for name in supervisor.allocations), *(_all(child) for child in supervisor.children)]


def _all(supervisor: SupervisorConfig) -> tuple[str, ...]:
    return tuple(name for unit in _units(supervisor) for name in unit)


def _started(config: EnsembleConfig, node: str) -> tuple[str, ...]:
    return tuple(name for layer in start_layers(config, config.v1.nodes[node].allocations) for name in layer)


def _homes(config: EnsembleConfig, names: set[str]) -> dict[str, str]:
    if not names:
        return {}
    return {name: node for node, wanted in config.v1.nodes.items() for name in wanted.allocations if name in names}
