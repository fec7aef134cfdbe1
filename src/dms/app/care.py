"""What looks after a node: settings that change while it runs, outputs, health, the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from dms import __version__
from dms.actor.gate import Gate
from dms.app.options import gate_options, node_options
from dms.app.work import Work
from dms.capability.context import CapabilityContext
from dms.config import Settings
from dms.hardware.machine import MachineProbe
from dms.node.checkup import Checkup
from dms.node.configuring import ConfigBehaviours
from dms.node.health import LOOK_INTERVAL_S, HealthWatch, measures_of
from dms.node.live import LiveSettings
from dms.node.logger import LoggerBehaviours
from dms.node.node import Node
from dms.node.reachability import NetworkCheck
from dms.node.warnings import LOG_LOST, OUTPUT_FAILS, PLUGIN_FAILS, RESTART_NEEDED
from dms.observe import catalogue
from dms.observe.health import Warnable
from dms.observe.log import log_file
from dms.observe.outputs import Identity, Outputs
from dms.store import Store
from dms.store.retention import retention_of
from dms.store.upkeep import FIRST_S, INTERVAL_S, Upkeep
from dms.tasks import Interval

GARBAGE_INTERVAL_S = 300.0


class Care:
    """Put around a node before it runs; what happens is told from :meth:`tell` on, and :meth:`begin` follows once it does."""

    def __init__(
        self, node: Node, live: LiveSettings, store: Store, work: Work, machine: MachineProbe, gate: Gate
    ) -> None:
        self._node, self._live, self._work = node, live, work
        settings, root = live.settings, node.root
        self._upkeep = Upkeep(store, retention_of(settings.database))
        self._outputs = Outputs(
            root.events,
            Identity(str(root.security.capabilities.did), root.network.peer_id, __version__),
            node.metering.collect,
            settings,
        )
        node.metering.registry.add(self._outputs.samples)
        work_dir = settings.general.work_dir
        self.health = HealthWatch(node, measures_of(node, store, work_dir, self._around()))
        """What is wrong with the node."""
        self._attend(gate)
        LoggerBehaviours(partial(_change_settings, live)).register(root)
        ConfigBehaviours(live).register(root)
        NetworkCheck(root.network).register(root)
        Checkup(node, store, work_dir, missing=work.missing, inventory=machine.inventory, live=live).register(root)

    def tell(self, background: trio.Nursery) -> None:
        """Tell the outputs what happens from now on: before the node runs, so that they hear of its start."""
        background.start_soon(self._outputs.run)

    def begin(self, background: trio.Nursery) -> None:
        """Look after the node, which runs now, for as long as ``background`` is open."""
        tasks = self._node.tasks
        tasks.add(
            "capability_garbage", partial(_clean, self._node.root.security.capabilities), Interval(GARBAGE_INTERVAL_S)
        )
        tasks.add("look after the database", self._upkeep.run, Interval(INTERVAL_S, jitter_s=FIRST_S, first_s=FIRST_S))
        tasks.add("look after the health", self.health.look, Interval(LOOK_INTERVAL_S, first_s=0.0))
        background.start_soon(self._live.reload_on_signal)

    def _attend(self, gate: Gate) -> None:
        """Have each setting that may change be followed by what it is about."""
        node, live = self._node, self._live

        def follow(now: Settings) -> None:
            node.follow(replace(node_options(now, self._work.volumes), missing_executors=self._work.missing))

        live.attend(lambda now: gate.follow(gate_options(now.messages)), "messages")
        live.attend(
            follow,
            *("general.host_city", "general.host_country", "general.host_continent", "general.host_position"),
            *("job", "deployments", "offer"),
        )
        live.attend(lambda now: self._upkeep.follow(retention_of(now.database)), "database")
        live.attend(self._outputs.follow, "observability.elastic", "observability.otel", "apm")
        live.told = lambda keys, by: node.root.events.emit(catalogue.SETTINGS_CHANGED, keys=keys, by=by)
        assert not live.unattended, live.unattended

    def _around(self) -> Mapping[Warnable, Callable[[], str | None]]:
        live, outputs, plugins = self._live, self._outputs, self._work.plugins
        return {
            RESTART_NEEDED: lambda: ", ".join(live.needs_restart) or None,
            LOG_LOST: _lost_entries,
            OUTPUT_FAILS: lambda: _listed(outputs.state()),
            PLUGIN_FAILS: lambda: _listed(plugins.problems),
        }


def _listed(problems: Mapping[str, str]) -> str | None:
    return "; ".join(f"{name}: {problem}" for name, problem in problems.items() if problem) or None


async def _change_settings(live: LiveSettings, values: Mapping[str, Any], by: str) -> tuple[str, ...]:
    return tuple(change.key for change in await live.set(values, by))


def _lost_entries() -> str | None:
    file = log_file()
    return f"{file.losing} entries are lost so far: {file.path}" if file is not None and file.losing else None


async def _clean(capabilities: CapabilityContext) -> None:
    capabilities.collect_garbage()
