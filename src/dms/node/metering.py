"""What a node tells when its metrics are read: all from memory, so that a scrape costs little and waits for nothing."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path

from dms.actor.actor import Actor
from dms.hardware.vitals import read_vitals
from dms.node import metric_names as names
from dms.node.hosting import Hosting
from dms.observe.deployment_events import PREFIX
from dms.observe.events import Event
from dms.observe.log import log_file
from dms.observe.metrics import Metric, Registry, Sample
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.errors import DeploymentNotFound
from dms.orchestrator.lifecycle.state import Phase
from dms.resources.manager import ResourceManager
from dms.types.ids import EnsembleID
from dms.types.resources import Location

GB, MB = 10**9, 10**6
MAX_DEPLOYMENTS = 500
"""Of which bids are counted one by one; the oldest are forgotten."""


class Metering:
    """Reads one node. Counts what happens from the time that it is made."""

    def __init__(
        self,
        root: Actor,
        resources: ResourceManager,
        hosting: Hosting,
        deployments: Deployments,
        *,
        location: Location,
        work_dir: Path,
        version: str = "",
    ) -> None:
        self.registry = Registry()
        self.location = location
        self._root, self._resources, self._hosting, self._deployments = root, resources, hosting, deployments
        self._work_dir, self._version = work_dir, version
        self._bids: OrderedDict[str, Counter[Metric]] = OrderedDict()
        self._successes = Counter[Metric]()
        root.events.listen(self._on_event)
        for source in (self._machine, self._node, self._orchestration, self._allocations):
            self.registry.add(source)

    def collect(self) -> list[Sample]:
        """All values of now."""
        return self.registry.collect()

    # sources -------------------------------------------------------------------------------------------------------

    def _machine(self) -> Iterator[Sample]:
        now = read_vitals(self._work_dir)
        yield names.CPU.sample(now.cpu_share)
        yield names.MEMORY_USED.sample(now.memory_used_bytes)
        yield names.MEMORY_TOTAL.sample(now.memory_total_bytes)
        yield names.DISK_USED.sample(now.disk_used_bytes)
        yield names.DISK_TOTAL.sample(now.disk_total_bytes)
        yield names.UPTIME.sample(now.uptime_s)
        yield names.LOAD_15.sample(now.load_15)
        yield names.NET_IN.sample(now.net_in_bytes)
        yield names.NET_OUT.sample(now.net_out_bytes)

    def _node(self) -> Iterator[Sample]:
        offer, place = self._resources.onboarded, self.location
        yield names.INFO.sample(1, version=self._version, did=str(self._root.security.did))
        yield names.ONBOARDED.sample(offer is not None)
        yield names.ONBOARDED_CPU.sample(offer.cpu.cores if offer else 0)
        yield names.ONBOARDED_MEMORY.sample(offer.ram.size / GB if offer else 0)
        yield names.ONBOARDED_DISK.sample(offer.disk.size / MB if offer else 0)
        yield names.ONBOARDED_GPU.sample(len(offer.gpus) if offer else 0)
        yield names.LOCATION.sample(
            1,
            continent=place.continent,
            country=place.country,
            city=place.city,
            onboarded="true" if offer is not None else "false",
        )
        yield names.PEERS.sample(len({connection.peer for connection in self._root.network.peers()}))
        for outcome, count in sorted(self._root.counters.items()):
            if outcome == "dispatched" or outcome.startswith("dropped."):
                yield names.MESSAGES.sample(count, outcome=outcome.removeprefix("dropped."))
        file = log_file()
        if file is not None:
            yield names.LOG_LOST.sample(file.lost)

    def _orchestration(self) -> Iterator[Sample]:
        phases = Counter(record.state.phase for record in self._deployments.all())
        for phase in Phase:
            yield names.DEPLOYMENTS.sample(phases[phase], status=phase.value)
        for metric in (
            names.SUCCESS,
            names.SUCCESS_ALLOCATIONS,
            names.SUCCESS_CPU,
            names.SUCCESS_MEMORY,
            names.SUCCESS_DISK,
            names.SUCCESS_GPU,
        ):
            yield metric.sample(self._successes[metric])
        for ensemble, counts in self._bids.items():
            for metric, count in counts.items():
                yield metric.sample(count, orchestratorID=ensemble)

    def _allocations(self) -> Iterator[Sample]:
        for allocation in self._hosting:
            spec = allocation.spec
            labels = {
                "orchestratorID": spec.ensemble_id,
                "allocationID": spec.id,
                "status": allocation.view.state.value,
            }
            yield names.ALLOCATION_STATUS.sample(1, **labels)
            sign = self._hosting.signs.get(spec.id)
            if sign is None:
                continue
            used = sign.resource_usage
            yield names.ALLOCATION_HEARTBEAT.sample(sign.sequence_number, **labels)
            yield names.ALLOCATION_CPU.sample(used.cpu_usage_percent, **labels)
            yield names.ALLOCATION_MEMORY.sample(used.memory_used_bytes, **labels)
            yield names.ALLOCATION_LIMIT.sample(used.memory_limit_bytes, **labels)
            yield names.ALLOCATION_RX.sample(used.network_rx_bytes, **labels)
            yield names.ALLOCATION_TX.sample(used.network_tx_bytes, **labels)

    # what is counted -----------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if not event.name.startswith(PREFIX):
            return
        ensemble = str(event.fields.get("ensemble", ""))
        kind = event.name.removeprefix(PREFIX)
        if kind == "bid_received":
            self._count(ensemble, names.BIDS_RECEIVED)
        elif kind in ("bids_collected", "node_bids"):
            chosen = event.fields.get("chosen")
            self._count(ensemble, names.BIDS_ACCEPTED, len(chosen) if isinstance(chosen, dict) else 0)
        if event.fields.get("status") == Phase.RUNNING.value:
            self._succeeded(EnsembleID(ensemble))

    def _count(self, ensemble: str, metric: Metric, amount: int = 1) -> None:
        if amount:
            self._bids.setdefault(ensemble, Counter())[metric] += amount
            while len(self._bids) > MAX_DEPLOYMENTS:
                self._bids.popitem(last=False)

    def _succeeded(self, ensemble: EnsembleID) -> None:
        try:
            allocations = self._deployments.get(ensemble).config.v1.allocations
        except DeploymentNotFound:
            return
        wanted = [allocation.resources for allocation in allocations.values()]
        self._successes[names.SUCCESS] += 1
        self._successes[names.SUCCESS_ALLOCATIONS] += len(wanted)
        self._successes[names.SUCCESS_CPU] += sum(r.cpu.cores for r in wanted)  # type: ignore[assignment]  # cores come in parts
        self._successes[names.SUCCESS_MEMORY] += sum(r.ram.size for r in wanted)
        self._successes[names.SUCCESS_DISK] += sum(r.disk.size for r in wanted)
        self._successes[names.SUCCESS_GPU] += sum(len(r.gpus) for r in wanted)
