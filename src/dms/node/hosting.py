"""The allocations that this node runs for others: made, served, reported, ended, and found again after a restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from dms.actor.actor import Actor
from dms.actor.handle import Handle
from dms.allocation.allocation import Allocation
from dms.allocation.hooks.disk_limit import DiskLimitHook
from dms.allocation.hooks.hook import Hook
from dms.allocation.hooks.liveness import ORPHAN_GRACE_S, LivenessHook
from dms.allocation.hooks.results_dir import PERSIST_LOGS_S, ResultsDirHook
from dms.allocation.hooks.volumes import VolumesHook, requests_of
from dms.allocation.machine import AllocationState, AllocationView
from dms.allocation.messages import NAMESPACE
from dms.allocation.spec import AllocationSpec, Surroundings
from dms.ensemble.config import HealthCheckManifest
from dms.executor.protocol import Executor
from dms.executor.wasm_params import ENGINE as WASM
from dms.identity.ids import ActorID, did_of
from dms.identity.keys import PrivateKey
from dms.node.errors import ExecutorMissing
from dms.node.hosting_reports import HostingReports
from dms.node.network_steps import NetworkSteps
from dms.node.private_networks import PrivateNetworks
from dms.node.reservations import Reservation, Reservations, ports_of
from dms.node.vm import reserved_by_hand
from dms.observe import catalogue, get_logger
from dms.orchestrator import messages
from dms.resources.manager import ResourceManager
from dms.resources.ports import PortAllocator
from dms.storage.errors import ProviderMissing
from dms.storage.prepare import Volumes
from dms.store import Documents, Session, Store
from dms.store.schema import allocations as table
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, Capability, EnsembleID

PENDING_LIFETIME_S = 900.0
"""How long an allocation may wait for its start."""
NS_PER_S = 10**9

log = get_logger(__name__)


class HostedRecord(Wire):
    """One allocation on disk."""

    spec: AllocationSpec
    state: str
    execution_id: str
    error: str = ""
    exit_code: int | None = None
    reason: str = ""
    killed: bool = False
    is_reported: bool = False
    ended_ns: int = 0
    health_check: HealthCheckManifest | None = None


@dataclass(frozen=True, slots=True)
class HostingOptions:
    """Times in seconds, and where the storage for jobs is."""

    liveness_interval_s: float = 30.0
    orphan_grace_s: float = ORPHAN_GRACE_S
    """How long work goes on while its orchestrator cannot be reached."""
    persist_logs_s: float = PERSIST_LOGS_S
    volumes: Volumes | None = None
    """``None``: this machine has no storage for jobs."""
    allow_exec: bool = True
    """Commands inside jobs, for those who deployed them."""


class Hosting:
    """All allocations of this node."""

    def __init__(
        self,
        root: Actor,
        store: Store,
        resources: ResourceManager,
        ports: PortAllocator,
        reservations: Reservations,
        executors: Mapping[str, Executor],
        *,
        jobs_dir: Path,
        child_key: Callable[[str], PrivateKey],
        networks: PrivateNetworks,
        options: HostingOptions,
        allow_privileged: bool = False,
    ) -> None:
        self._root = root
        self._networks = networks
        self._store = store
        self._resources = resources
        self._ports = ports
        self._reservations = reservations
        self._executors = executors
        self._jobs_dir = jobs_dir
        self._child_key = child_key
        self._options, self._allow_privileged = options, allow_privileged
        self._hosted: dict[AllocationID, Allocation] = {}
        self._records: dict[AllocationID, HostedRecord] = {}
        self.on_release: Callable[[], Awaitable[None]] = _nothing
        """Called after an allocation has ended and what it held is free."""
        self._reports = HostingReports(
            root, is_here=self._is_here, acknowledged=self._acknowledged, network_problem=networks.problem_of
        )

    def follow(self, options: HostingOptions) -> None:
        """Host by other options what begins from now on."""
        self._options = options

    def __iter__(self) -> Iterator[Allocation]:
        return iter(tuple(self._hosted.values()))

    @property
    def signs(self) -> Mapping[AllocationID, messages.Liveness]:
        """The last sign of life of each allocation, as its orchestrator was told."""
        return self._reports.signs

    def usage(self, allocation_id: str) -> messages.ResourceUsage | None:
        """What an allocation used when it last gave a sign of life."""
        sign = self.signs.get(AllocationID(allocation_id))
        return sign.resource_usage if sign is not None else None

    def find(self, ensemble: EnsembleID, name: str) -> Allocation | None:
        """An allocation of an ensemble by its id, or by the ``<node>.<allocation>`` or ``<allocation>`` in it."""
        for id_, allocation in self._hosted.items():
            if allocation.spec.ensemble_id != ensemble:
                continue
            key = id_.removeprefix(f"{ensemble}_")
            if name in (id_, key, key.rpartition(".")[2]):
                return allocation
        return None

    def may_have_namespace(self, allocation: AllocationID) -> bool:
        """Whether it runs, or is to run, where it can have a device of its own."""
        found = self._hosted.get(allocation)
        return found is None or found.spec.executor != WASM or bool(found.spec.ports)

    def of(self, ensemble: EnsembleID, orchestrator: ActorID) -> tuple[Allocation, ...]:
        """The allocations of one ensemble of one orchestrator."""
        return tuple(
            a
            for a in self._hosted.values()
            if a.spec.ensemble_id == ensemble and a.spec.orchestrator.id == orchestrator
        )

    def has_work(self, ensemble: EnsembleID, orchestrator: ActorID) -> bool:
        """Whether something of an ensemble runs here, or is about to."""
        return any(not allocation.view.state.is_final for allocation in self.of(ensemble, orchestrator))

    async def allocate(self, reservation: Reservation, order: messages.AllocationOrder) -> Handle:
        """Turn a reservation into an allocation; on disk when this returns.

        :raises ExecutorMissing: this machine cannot run it.
        :raises NotCommitted: the reservation has expired.
        """
        if order.executor not in self._executors:
            raise ExecutorMissing(f"this machine has no executor {order.executor}")
        self._check_volumes(order)
        scripts = order.provision_scripts
        names = order.provision_order or tuple(sorted(scripts))
        spec = AllocationSpec(
            id=reservation.allocation_id,
            ensemble_id=reservation.ensemble_id,
            node_id=reservation.node_id,
            type=order.type,
            executor=order.executor,
            resources=reservation.resources,
            execution=order.execution,
            orchestrator=reservation.orchestrator,
            created_ns=self._root.security.now_ns(),
            provision=tuple((name, scripts[name]) for name in names if name in scripts),
            ports=reservation.ports,
            udp_ports=tuple(port for port in order.udp_ports if port in reservation.ports),
            volumes=order.volumes,
            recoverable=order.recoverable,
            standby=order.standby,
            needs_network=order.needs_network,
        )
        first = AllocationState.STANDBY if order.standby else AllocationState.PENDING
        allocation = await self._make(spec, AllocationView(first), "")
        try:
            await self._save(allocation)
            await self._reservations.consume(reservation)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._destroy(allocation, keep_logs_s=0.0)
                await self._free(spec.id)
                await self._reservations.forget(spec.id)
            raise
        return allocation.actor.handle

    async def restore(self) -> None:
        """After a restart: adopt what runs, learn how the rest ended, report what was not yet reported."""
        records = await self._store.run(lambda session: self._documents(session).find_all())
        for record in (r.value for r in records):
            spec, state = record.spec, AllocationState(record.state)
            self._records[spec.id] = record
            await self._reservations.forget(spec.id)
            view = AllocationView(state, record.error, record.exit_code, record.reason, record.killed)
            allocation = await self._make(spec, view, record.execution_id, record.health_check)
            if state.is_final:
                await self._free(spec.id)
                if not record.is_reported:
                    self._root.start_soon(self._reports.end, allocation)
                self._root.start_soon(self._retire, allocation)
                continue
            self._ports.restore(spec.id, ports_of(spec.ports))
            if self._resources.is_committed(spec.id):
                await self._resources.allocate(spec.id)
            if self._resources.is_allocated(spec.id):
                self._root.start_soon(allocation.resume)
                if view.is_held and not record.is_reported:
                    self._root.start_soon(self._reports.end, allocation)
            else:
                await allocation.shutdown("its reservation expired while this node was down")
        await self._remove_strays()
        if self._options.volumes is not None:
            await self._options.volumes.restore({a.spec.id for a in self if not a.view.state.is_final})

    async def sweep(self) -> None:
        """End what was allocated long ago and never started, or ended and was not started again: its orchestrator is gone."""
        oldest_ns = self._root.security.now_ns() - int(PENDING_LIFETIME_S * NS_PER_S)
        for allocation in self:
            is_late = trio.current_time() - allocation.waits_s > PENDING_LIFETIME_S
            is_old = is_late or allocation.spec.created_ns < oldest_ns
            if allocation.view.state is AllocationState.PENDING and is_old:
                await allocation.shutdown("it was never started")
            if allocation.view.is_held and is_late:
                await allocation.shutdown(f"it was not restarted: {allocation.view.error}")
            elif allocation.view.state is AllocationState.STOPPED and is_late:
                self._root.start_soon(self._ask_whether_wanted, allocation)

    async def _ask_whether_wanted(self, allocation: Allocation) -> None:
        """What was stopped by the owner of this machine, or in the middle of a restart, gives no sign of life by itself."""
        answer = await self._reports.sign(allocation, 0)
        is_orphan = trio.current_time() - allocation.waits_s > self._options.orphan_grace_s
        if allocation.view.state is AllocationState.STOPPED and (answer is False or (answer is None and is_orphan)):
            why = "does not know it any more" if answer is False else "cannot be reached"
            await allocation.shutdown(f"it was stopped, and its orchestrator {why}")

    async def discard(self, allocation: Allocation) -> None:
        """End an allocation that its orchestrator gave back, and leave nothing of it."""
        await allocation.shutdown("reverted", quiet=True)
        await self._destroy(allocation, keep_logs_s=0.0)

    # making --------------------------------------------------------------------------------------------------------

    async def _make(
        self,
        spec: AllocationSpec,
        view: AllocationView,
        execution_id: str,
        health_check: HealthCheckManifest | None = None,
    ) -> Allocation:
        actor = self._root.prepare_child(spec.id, self._child_key(spec.id))
        results_dir = self._jobs_dir / spec.id
        liveness = LivenessHook(
            self._reports.sign,
            interval_s=self._options.liveness_interval_s,
            orphan_grace_s=self._options.orphan_grace_s,
        )
        hooks: list[Hook] = [ResultsDirHook(results_dir), liveness]
        if spec.volumes and self._options.volumes is not None:
            hooks.append(DiskLimitHook(self._options.volumes))
            hooks.append(VolumesHook(self._options.volumes))
        surroundings = Surroundings(
            executor=self._executors.get(spec.executor),
            results_dir=results_dir,
            hooks=hooks,
            save=self._save,
            report=self._reports.change,
            release=self._on_release,
            networks=self._networks,
            allow_privileged=self._allow_privileged,
            allow_exec=self._options.allow_exec,
        )
        allocation = Allocation(
            spec, actor, surroundings, view=view, execution_id=execution_id, health_check=health_check
        )
        self._hosted[spec.id] = allocation
        NetworkSteps(self._networks, spec, allocation.connect).register(actor)
        await self._root.start_child(actor, supervisor=spec.orchestrator, body=allocation.attend)
        self._root.start_soon(self._await_gone, allocation)
        if view.state is AllocationState.STANDBY:
            await liveness.poststart(allocation)
        for audience, namespace in (
            (self._root.security.id, f"/dms/ensemble/{spec.ensemble_id}"),
            (actor.security.id, NAMESPACE),
        ):
            actor.grant(spec.orchestrator.did, did_of(audience.public_key()), [Capability(namespace)])
        return allocation

    async def _await_gone(self, allocation: Allocation) -> None:
        """One whose actor failed too often is attended by another actor, to say that it has failed."""
        spec = allocation.spec
        failure = await self._root.children.wait_gone(spec.id)
        if failure is None or not self._is_here(allocation) or allocation.view.state.is_final:
            return
        fresh = await self._make(spec, allocation.view, allocation.execution_id, allocation.health_check)
        await fresh.abandon(f"given up by this node: {failure!r}")

    async def _remove_strays(self) -> None:
        """Workloads of an earlier life that no allocation owns, and what is left of those of allocations that have ended:
        the node may have died in between. What was started by hand and has ended stays to be looked at."""
        owned = {a.execution_id for a in self._hosted.values() if not a.view.state.is_final}
        owned |= reserved_by_hand(self._resources)
        for executor in self._executors.values():
            try:
                known = await executor.list()
            except DMSError as exc:
                log.error("executions_not_listed", executor=executor.type, error=exc.message)
                continue
            for info in known:
                is_ours = AllocationID(info.execution_id.rpartition("-")[0]) in self._hosted
                if info.execution_id not in owned and (is_ours or not info.status.is_final):
                    log.warning("stray_execution_removed", execution=info.execution_id, executor=executor.type)
                    await executor.remove(info.execution_id)

    # surroundings --------------------------------------------------------------------------------------------------

    async def _save(self, allocation: Allocation) -> None:
        view, known = allocation.view, self._records.get(allocation.spec.id)
        ended_ns = known.ended_ns if known else 0
        if view.state.is_final and not ended_ns:
            ended_ns = self._root.security.now_ns()
        before = known.state if known and known.execution_id == allocation.execution_id else ""
        await self._put(
            HostedRecord(
                spec=allocation.spec,
                state=view.state.value,
                execution_id=allocation.execution_id,
                error=view.error,
                exit_code=view.exit_code,
                reason=view.reason,
                killed=view.killed,
                is_reported=known is not None and known.is_reported and known.execution_id == allocation.execution_id,
                ended_ns=ended_ns,
                health_check=allocation.health_check,
            )
        )
        if before != view.state.value:
            self._root.events.emit(
                catalogue.ALLOCATION_CHANGED,
                ensemble=allocation.spec.ensemble_id,
                allocation=allocation.spec.id,
                orchestrator=allocation.spec.orchestrator.addr.host,
                before=before,
                state=view.state.value,
                error=view.error,
                exit_code=view.exit_code,
            )

    async def _put(self, record: HostedRecord) -> None:
        self._records[record.spec.id] = record
        await self._store.run(lambda session: self._documents(session).put(record.spec.id, record))

    async def _on_release(self, allocation: Allocation) -> None:
        await self._free(allocation.spec.id)
        self._root.start_soon(self.on_release)
        self._root.start_soon(self._retire, allocation)

    def _check_volumes(self, order: messages.AllocationOrder) -> None:
        if not order.volumes:
            return
        if self._options.volumes is None:
            raise ProviderMissing("this machine has no storage for jobs")
        self._options.volumes.check(requests_of(order.volumes))

    async def _free(self, allocation_id: AllocationID) -> None:
        if self._options.volumes is not None:
            await self._options.volumes.release(allocation_id)
        self._ports.release(allocation_id)
        await self._resources.release(allocation_id)

    async def _retire(self, allocation: Allocation) -> None:
        record = self._records.get(allocation.spec.id)
        if record is None or not self._is_here(allocation):
            return
        age_s = max(0.0, (self._root.security.now_ns() - record.ended_ns) / NS_PER_S)
        await self._destroy(allocation, keep_logs_s=max(0.0, self._options.persist_logs_s - age_s))

    async def _destroy(self, allocation: Allocation, *, keep_logs_s: float) -> None:
        await trio.sleep(keep_logs_s)
        if not self._is_here(allocation):
            return
        del self._hosted[allocation.spec.id]
        self._records.pop(allocation.spec.id, None)
        self._reports.forget(allocation.spec.id)
        self._networks.forget(allocation.spec.id)
        self._root.events.emit(
            catalogue.ALLOCATION_FORGOTTEN, ensemble=allocation.spec.ensemble_id, allocation=allocation.spec.id
        )
        await allocation.destroy()
        await self._store.run(lambda session: _delete(self._documents(session), allocation.spec.id))
        await allocation.actor.aclose()

    def _is_here(self, allocation: Allocation) -> bool:
        """Whether it is hosted still; another of the same id may have taken its place."""
        return self._hosted.get(allocation.spec.id) is allocation

    async def _acknowledged(self, allocation: Allocation) -> None:
        await self._put(msgspec.structs.replace(self._records[allocation.spec.id], is_reported=True))

    def _documents(self, session: Session) -> Documents[HostedRecord]:
        return Documents(session, table, HostedRecord)


async def _nothing() -> None:
    """What has to be done where nobody cares."""


def _delete(documents: Documents[HostedRecord], id_: str) -> None:
    try:
        documents.delete(id_)
    except DMSError:
        return  # it never got there
