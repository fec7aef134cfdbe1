"""Who has which resources: a value with the rules of ``spec/execution.md`` 9, without clock, disk or lock.

Free is what is onboarded less what is committed and allocated. Each operation answers with a new ledger or raises.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import msgspec

from dms.resources.arithmetic import add, assigned, check, normalized, subtract, total
from dms.resources.errors import (
    AlreadyAllocated,
    AlreadyCommitted,
    DemandTooHigh,
    InvalidResources,
    NoFreeResources,
    NotAllocated,
    NotCommitted,
    NotOnboarded,
    Underflow,
)
from dms.resources.gpus import pack, serves
from dms.types.ids import AllocationID
from dms.types.resources import GPU, Resources

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Commitment:
    """Resources promised to an allocation until ``expires_at``, seconds since 1970."""

    resources: Resources
    expires_at: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is onboarded, committed and allocated; never more of the latter two than of the first."""

    onboarded: Resources | None = None
    commitments: Mapping[AllocationID, Commitment] = field(default_factory=lambda: MappingProxyType({}))
    allocations: Mapping[AllocationID, Resources] = field(default_factory=lambda: MappingProxyType({}))

    def committed(self) -> Resources:
        """All commitments together, expired ones included until they are swept."""
        return total(commitment.resources for commitment in self.commitments.values())

    def allocated(self) -> Resources:
        """All allocations together."""
        return total(self.allocations.values())

    def free(self) -> Resources:
        """What may still be committed; of a machine that is not onboarded, nothing.

        :raises NoFreeResources: more is taken than onboarded, which only a change of the database from outside can do.
        """
        if self.onboarded is None:
            return Resources()
        try:
            return subtract(self.onboarded, add(self.allocated(), self.committed()))
        except Underflow as exc:
            raise NoFreeResources(f"no free resources: {exc}") from None

    def commit(
        self,
        allocation: AllocationID,
        wanted: Resources,
        expires_at: float,
        now: float,
        *,
        absent: Collection[str] = (),
        beside: Sequence[Sequence[GPU]] = (),
    ) -> Ledger:
        """Promise ``wanted`` until ``expires_at``; saying the same twice only moves the expiry forward.

        A GPU that is wanted by vendor, model or memory becomes a certain one here, and stays it; those whose UUIDs are
        ``absent`` are not given. ``beside``: what other allocations will want soon, for which room is left if it can be.

        :raises NotOnboarded: nothing is offered.
        :raises AlreadyCommitted: it was promised something else.
        :raises AlreadyAllocated: it runs already, with something else.
        :raises NoFreeResources: others have it.
        :raises InvalidResources: what is wanted makes no sense.
        """
        if not allocation:
            raise InvalidResources("an allocation needs an id")
        check(wanted)
        wanted = normalized(wanted)
        if self.onboarded is None:
            raise NotOnboarded
        ledger = self.sweep(now)
        running, promised = ledger.allocations.get(allocation), ledger.commitments.get(allocation)
        if running is not None:
            if not _is_same(running, wanted):
                raise AlreadyAllocated(f"resources already allocated for allocation {allocation}")
            return ledger
        if promised is not None:
            if not _is_same(promised.resources, wanted):
                raise AlreadyCommitted(f"resources already committed for allocation {allocation}")
            wanted = promised.resources
            expires_at = max(expires_at, promised.expires_at)
        else:
            free = ledger.free()
            free = msgspec.structs.replace(free, gpus=tuple(g for g in free.gpus if g.uuid not in absent))
            try:
                wanted = _beside(free, wanted, beside) or assigned(free, wanted)
                subtract(free, wanted)
            except Underflow as exc:
                raise NoFreeResources(f"no free resources: {exc}") from None
        promise = Commitment(wanted, expires_at)
        return dataclasses.replace(ledger, commitments=_frozen({**ledger.commitments, allocation: promise}))

    def uncommit(self, allocation: AllocationID) -> Ledger:
        """Take a promise back.

        :raises NotCommitted: there is none.
        """
        if allocation not in self.commitments:
            raise NotCommitted(f"resources not committed for allocation {allocation}")
        return dataclasses.replace(self, commitments=_without(self.commitments, allocation))

    def allocate(self, allocation: AllocationID, now: float) -> Ledger:
        """Turn a promise into an allocation.

        :raises AlreadyAllocated: it is one.
        :raises NotCommitted: there is no promise, or it has expired.
        """
        if allocation in self.allocations:
            raise AlreadyAllocated(f"resources already allocated for allocation {allocation}")
        promised = self.commitments.get(allocation)
        if promised is None or promised.expires_at <= now:
            raise NotCommitted(f"resources not committed for allocation {allocation}")
        allocations = _frozen({**self.allocations, allocation: promised.resources})
        return dataclasses.replace(self.uncommit(allocation), allocations=allocations)

    def deallocate(self, allocation: AllocationID) -> Ledger:
        """Give the resources of an allocation back.

        :raises NotAllocated: there is none.
        """
        if allocation not in self.allocations:
            raise NotAllocated(f"resources not allocated for allocation {allocation}")
        return dataclasses.replace(self, allocations=_without(self.allocations, allocation))

    def release(self, allocation: AllocationID) -> Ledger:
        """Give back whatever ``allocation`` has, promised or allocated; nothing is fine."""
        return dataclasses.replace(
            self,
            commitments=_without(self.commitments, allocation),
            allocations=_without(self.allocations, allocation),
        )

    def sweep(self, now: float) -> Ledger:
        """Take back the promises that have expired."""
        kept = {k: c for k, c in self.commitments.items() if c.expires_at > now}
        return dataclasses.replace(self, commitments=_frozen(kept))

    def onboard(self, resources: Resources | None, now: float) -> Ledger:
        """Offer ``resources`` from now on; ``None``: nothing.

        :raises DemandTooHigh: more is committed or allocated.
        """
        ledger = self.sweep(now)
        if resources is not None:
            check(resources)
            resources = normalized(resources)
        if ledger.allocations or ledger.commitments:
            try:
                subtract(resources or Resources(), add(ledger.allocated(), ledger.committed()))
            except Underflow as exc:
                raise DemandTooHigh(f"couldn't subtract allocation: {exc}. Demand too high") from None
            if resources is None:
                raise DemandTooHigh("couldn't subtract allocation: allocations are running. Demand too high")
        return dataclasses.replace(ledger, onboarded=resources)


def _beside(free: Resources, wanted: Resources, beside: Sequence[Sequence[GPU]]) -> Resources | None:
    """``wanted`` with GPUs such that the others find theirs afterwards; ``None``: there is no such choice."""
    if not wanted.gpus or not any(beside):
        return None
    try:
        mine, *_ = pack(free.gpus, (wanted.gpus, *beside))
    except Underflow:
        return None
    return msgspec.structs.replace(wanted, gpus=mine)


def _is_same(held: Resources, wanted: Resources) -> bool:
    """Whether ``held`` came of asking for ``wanted``."""
    return msgspec.structs.replace(held, gpus=()) == msgspec.structs.replace(wanted, gpus=()) and serves(
        held.gpus, wanted.gpus
    )


def _frozen(mapping: Mapping[AllocationID, V]) -> Mapping[AllocationID, V]:
    return MappingProxyType(dict(mapping))


def _without(mapping: Mapping[AllocationID, V], key: AllocationID) -> Mapping[AllocationID, V]:
    return MappingProxyType({k: v for k, v in mapping.items() if k != key})
