"""The resource manager: the node's ledger, on the disk before an answer is given (``spec/execution.md`` 9)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import trio

from dms.hardware import HardwareProbe
from dms.resources.errors import NoHardwareCapacity
from dms.resources.gpus import position
from dms.resources.ledger import Commitment, Ledger
from dms.store import EntityRepository, Query, RecordNotFound, Repository, Session, Store
from dms.store.schema import onboarded_resources, resource_allocation, resource_commitment
from dms.types.gojson import Wire
from dms.types.ids import AllocationID
from dms.types.resources import GPU, Resources
from dms.types.units import format_bytes


class ResourceAllocation(Wire):
    """What one allocation has."""

    allocation_id: str
    resources: Resources = msgspec.field(default_factory=Resources)


class ResourceCommitment(Wire):
    """What one allocation is promised, until ``expires_at`` in seconds since 1970."""

    allocation_id: str
    resources: Resources = msgspec.field(default_factory=Resources)
    expires_at: float = 0.0


class ResourceManager:
    """Keeps the ledger of this node; call :meth:`load` before anything else.

    ``clock`` is the wall clock in seconds since 1970, as commitments outlive the process.
    """

    def __init__(self, store: Store, probe: HardwareProbe, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._probe = probe
        self._clock = clock
        self._lock = trio.Lock()
        self._ledger = Ledger()
        self._onboarded = EntityRepository(store, onboarded_resources, Resources)
        self._allocations = Repository(store, resource_allocation, ResourceAllocation)
        self._commitments = Repository(store, resource_commitment, ResourceCommitment)

    async def load(self) -> None:
        """Take up what the last process left; expired commitments are dropped by the next sweep."""
        async with self._lock:
            self._ledger = await self._store.run(self._read)

    @property
    def onboarded(self) -> Resources | None:
        """What this machine offers in all; ``None``: it is not onboarded."""
        return self._ledger.onboarded

    @property
    def allocations(self) -> Mapping[AllocationID, Resources]:
        """What each allocation has."""
        return self._ledger.allocations

    @property
    def commitments(self) -> Mapping[AllocationID, Commitment]:
        """What each allocation is promised."""
        return self._ledger.commitments

    def allocated(self) -> Resources:
        """What all allocations have together."""
        return self._ledger.allocated()

    def committed(self) -> Resources:
        """What is promised in all."""
        return self._ledger.committed()

    def free(self) -> Resources:
        """What may still be committed."""
        return self._ledger.free()

    async def available(self) -> Resources:
        """What is free on the machine as it is now: GPUs that were removed or fail are not."""
        free = self._ledger.free()
        absent = await self._absent()
        return msgspec.structs.replace(free, gpus=tuple(gpu for gpu in free.gpus if gpu.uuid not in absent))

    def is_committed(self, allocation: AllocationID) -> bool:
        """Whether a promise for ``allocation`` holds."""
        promised = self._ledger.commitments.get(allocation)
        return promised is not None and promised.expires_at > self._clock()

    def is_allocated(self, allocation: AllocationID) -> bool:
        """Whether ``allocation`` has its resources."""
        return allocation in self._ledger.allocations

    async def commit(
        self,
        allocation: AllocationID,
        wanted: Resources,
        expires_at: float,
        *,
        beside: Sequence[Sequence[GPU]] = (),
    ) -> Resources:
        """Promise ``wanted`` to ``allocation`` until ``expires_at``; see :meth:`Ledger.commit` for errors.

        Answers with what is promised: the same with certain GPUs.
        """
        absent = await self._absent() if wanted.gpus else frozenset()
        ledger = await self._apply(
            lambda ledger: ledger.commit(allocation, wanted, expires_at, self._clock(), absent=absent, beside=beside)
        )
        promised = ledger.commitments.get(allocation)
        return ledger.allocations[allocation] if promised is None else promised.resources

    async def uncommit(self, allocation: AllocationID) -> None:
        """Take a promise back; see :meth:`Ledger.uncommit` for errors."""
        await self._apply(lambda ledger: ledger.uncommit(allocation))

    async def allocate(self, allocation: AllocationID) -> Resources:
        """Turn the promise for ``allocation`` into an allocation; see :meth:`Ledger.allocate` for errors."""
        ledger = await self._apply(lambda ledger: ledger.allocate(allocation, self._clock()))
        return ledger.allocations[allocation]

    async def deallocate(self, allocation: AllocationID) -> None:
        """Give the resources of ``allocation`` back; see :meth:`Ledger.deallocate` for errors."""
        await self._apply(lambda ledger: ledger.deallocate(allocation))

    async def release(self, allocation: AllocationID) -> None:
        """Give back whatever ``allocation`` has, promised or allocated; may come twice or for nothing."""
        await self._apply(lambda ledger: ledger.release(allocation))

    async def sweep_expired(self) -> tuple[AllocationID, ...]:
        """Take back the promises that have expired, and tell whose they were."""
        swept: list[AllocationID] = []

        def sweep(ledger: Ledger) -> Ledger:
            rest = ledger.sweep(self._clock())
            swept.extend(k for k in ledger.commitments if k not in rest.commitments)
            return rest

        await self._apply(sweep)
        return tuple(swept)

    async def update_onboarded(
        self, resources: Resources | None, *, also: Callable[[Session], object] | None = None
    ) -> None:
        """Offer ``resources`` from now on, or nothing; ``also`` is written in the same transaction.

        :raises DemandTooHigh: more than that is taken already.
        """
        await self._apply(lambda ledger: ledger.onboard(resources, self._clock()), also)

    async def check_hardware(self, wanted: Resources) -> None:
        """See whether the machine itself has the memory, the disk and the GPUs now, whatever the ledger says.

        Processors are shared by time: that others use them at this moment is no reason to refuse.

        :raises NoHardwareCapacity: it has not.
        """
        machine, used = await self._probe.machine(), await self._probe.usage()
        for what, whole, taken, want in (
            ("RAM", machine.ram.size, used.ram.size, wanted.ram.size),
            ("disk", machine.disk.size, used.disk.size, wanted.disk.size),
            *((f"VRAM of GPU {gpu.index}", *_vram(machine, used, gpu), gpu.vram) for gpu in wanted.gpus),
        ):
            if want > whole - taken:
                free = format_bytes(max(whole - taken, 0))
                raise NoHardwareCapacity(
                    f"no capacity left on the hardware: {format_bytes(want)} of {what} wanted, {free} free"
                )

    async def _absent(self) -> frozenset[str]:
        """The UUIDs of GPUs that are offered and that the machine does not have at this moment."""
        offered = self._ledger.onboarded
        if offered is None or not offered.gpus:
            return frozenset()
        there = (await self._probe.machine()).gpus
        return frozenset(gpu.uuid for gpu in offered.gpus if gpu.uuid and position(there, gpu) is None)

    async def _apply(self, step: Callable[[Ledger], Ledger], also: Callable[[Session], object] | None = None) -> Ledger:
        """Compute the next ledger, store what changed, and only then let it count."""
        async with self._lock:
            before = self._ledger
            after = step(before)
            if after != before or also is not None:
                await self._store.run(lambda session: self._write(session, before, after, also))
            self._ledger = after
            return after

    def _write(self, session: Session, before: Ledger, after: Ledger, also: Callable[[Session], object] | None) -> None:
        commitments, allocations = self._commitments.on(session), self._allocations.on(session)
        for gone in before.commitments.keys() - after.commitments.keys():
            commitments.delete(gone)
        for gone in before.allocations.keys() - after.allocations.keys():
            allocations.delete(gone)
        for key, promised in after.commitments.items():
            if before.commitments.get(key) != promised:
                record = ResourceCommitment(
                    allocation_id=key, resources=promised.resources, expires_at=promised.expires_at
                )
                commitments.put(key, record)
        for key, resources in after.allocations.items():
            if before.allocations.get(key) != resources:
                allocations.put(key, ResourceAllocation(allocation_id=key, resources=resources))
        if after.onboarded is None:
            self._onboarded.clear_on(session)
        elif after.onboarded != before.onboarded:
            self._onboarded.save_on(session, after.onboarded)
        if also is not None:
            also(session)

    def _read(self, session: Session) -> Ledger:
        try:
            onboarded: Resources | None = self._onboarded.get_on(session).value
        except RecordNotFound:
            onboarded = None
        allocations = [record.value for record in self._allocations.on(session).find_all(Query())]
        commitments = [record.value for record in self._commitments.on(session).find_all(Query())]
        return Ledger(
            onboarded,
            {AllocationID(c.allocation_id): Commitment(c.resources, c.expires_at) for c in commitments},
            {AllocationID(a.allocation_id): a.resources for a in allocations},
        )


def _vram(machine: Resources, used: Resources, wanted: GPU) -> tuple[int, int]:
    """All memory and that in use of the GPU that is meant; nothing where it is not there."""
    place, busy = position(machine.gpus, wanted), position(used.gpus, wanted)
    return 0 if place is None else machine.gpus[place].vram, 0 if busy is None else used.gpus[busy].vram
