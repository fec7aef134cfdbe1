"""Which GPU serves which requirement (``spec/execution.md`` 8.3, 11.6): an exact matching, pure.

A requirement names a certain device by UUID or PCI address, or any of a vendor, a model, and so much memory; its index is the
provider's business and not looked at. Each requirement of one list gets a device of its own, whereas different
allocations share one as long as its memory lasts. A requirement that names no memory wants all that is free of one.

:func:`assign` serves one allocation at a time, :func:`pack` several that are to run side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dms.resources.errors import Underflow
from dms.types.resources import GPU

MAX_PACKED = 256
"""Requirements of a set of allocations; more do not fit."""
MAX_PACKING_STEPS = 2_000
"""Devices tried before a set of allocations counts as not fitting; real machines need a few dozen."""


def position(gpus: Iterable[GPU], wanted: GPU) -> int | None:
    """Where in ``gpus`` the one that ``wanted`` means stands: by UUID where both tell it, else by index."""
    for place, gpu in enumerate(gpus):
        if gpu.uuid == wanted.uuid if gpu.uuid and wanted.uuid else gpu.index == wanted.index:
            return place
    return None


def is_alike(gpu: GPU, wanted: GPU) -> bool:
    """Whether it is the device, or of the vendor and model, that is asked for, whatever its memory."""
    return (
        (not wanted.uuid or wanted.uuid == gpu.uuid)
        and (not wanted.pci_address or wanted.pci_address.lower() == gpu.pci_address.lower())
        and (not wanted.vendor or wanted.vendor.upper() == gpu.vendor.upper())
        and wanted.model.lower() in gpu.model.lower()
    )


def match(have: Sequence[GPU], wanted: Sequence[GPU]) -> dict[int, int]:
    """As many requirements as possible, each with a GPU of its own: requirement's place to GPU's place.

    Tight fits are tried first; a requirement that finds nothing may push another to a different GPU.
    """
    taken: dict[int, int] = {}

    def place(requirement: int, tried: set[int]) -> bool:
        needs = wanted[requirement]
        fitting = [m for m, gpu in enumerate(have) if is_alike(gpu, needs) and gpu.vram >= needs.vram]
        # Without a figure the most memory is best; with one the least that will do, so that large requirements find room.
        for m in sorted(fitting, key=lambda m: have[m].vram if needs.vram else -have[m].vram):
            if m in tried:
                continue
            tried.add(m)
            if m not in taken or place(taken[m], tried):
                taken[m] = requirement
                return True
        return False

    # The largest first: each sees what the ones before left, and pushes where it must.
    for requirement in sorted(range(len(wanted)), key=lambda r: (-wanted[r].vram, r)):
        place(requirement, set())
    return {requirement: m for m, requirement in taken.items()}


def assign(free: Sequence[GPU], wanted: Sequence[GPU]) -> tuple[GPU, ...]:
    """The devices of ``free`` that serve ``wanted``, in its order, each with the memory it gives.

    :raises Underflow: some requirement finds none; the message has the figures.
    """
    usable = [gpu for gpu in free if gpu.vram > 0]
    matched = match(usable, wanted)
    served = []
    for place, needs in enumerate(wanted):
        if place not in matched:
            most = max((gpu.vram for gpu in usable if is_alike(gpu, needs)), default=0)
            raise Underflow(f"error subtracting GPUs: total VRAM: underflow, cannot subtract {needs.vram} from {most}")
        gpu = usable[matched[place]]
        served.append(msgspec.structs.replace(gpu, vram=needs.vram or gpu.vram))
    return tuple(served)


def pack(free: Sequence[GPU], groups: Sequence[Sequence[GPU]]) -> tuple[tuple[GPU, ...], ...]:
    """The devices of ``free`` that serve several allocations together, each with the memory it gives.

    The requirements of one group get different devices; groups share a device as long as its memory lasts. One that
    names no memory gets a device for itself. So whether they fit depends on no order.

    :raises Underflow: they do not, or to find that out takes more than :data:`MAX_PACKING_STEPS`.
    """
    search, count = _Packing(free, groups), sum(len(wants) for wants in groups)
    wanted_bytes, free_bytes = sum(g.vram for wants in groups for g in wants), sum(g.vram for g in free)
    if count > MAX_PACKED or wanted_bytes > free_bytes or not search.place(0):
        raise Underflow(f"error subtracting GPUs: {count} wanted by {len(groups)} allocations do not fit together")
    return tuple(
        tuple(search.given[number, place] for place in range(len(wants))) for number, wants in enumerate(groups)
    )


def serves(held: Sequence[GPU], wanted: Sequence[GPU]) -> bool:
    """Whether ``held`` is what :func:`assign` could have given for ``wanted``: the same question asked again."""
    return len(held) == len(wanted) and all(
        is_alike(gpu, needs) and (not needs.vram or needs.vram == gpu.vram)
        for gpu, needs in zip(held, wanted, strict=True)
    )


class _Packing:
    """Depth-first: what wants most chooses first, the tightest device is tried first, and of equal devices one."""

    def __init__(self, free: Sequence[GPU], groups: Sequence[Sequence[GPU]]) -> None:
        self._free = free
        self._wants = sorted(
            ((gpu, number, place) for number, wants in enumerate(groups) for place, gpu in enumerate(wants)),
            key=lambda want: (want[0].vram != 0, -want[0].vram),
        )
        self._left = [gpu.vram for gpu in free]
        self._users: list[frozenset[int]] = [frozenset()] * len(free)
        self._names_devices = any(gpu.uuid or gpu.pci_address for gpu, *_ in self._wants)
        self._steps = 0
        self.given: dict[tuple[int, int], GPU] = {}

    def place(self, index: int) -> bool:
        if index == len(self._wants):
            return True
        needs, number, place = self._wants[index]
        tried: set[object] = set()
        for m in sorted(range(len(self._free)), key=self._left.__getitem__, reverse=not needs.vram):
            left, users = self._left[m], self._users[m]
            if left <= 0 or left < needs.vram or number in users or not is_alike(self._free[m], needs):
                continue
            kind = (left, users, self._free[m].vendor, self._free[m].model, m if self._names_devices else 0)
            if kind in tried:
                continue
            tried.add(kind)
            self._steps += 1
            if self._steps > MAX_PACKING_STEPS:
                return False
            self._left[m], self._users[m] = (left - needs.vram if needs.vram else 0), users | {number}
            self.given[number, place] = msgspec.structs.replace(self._free[m], vram=needs.vram or left)
            if self.place(index + 1):
                return True
            self._left[m], self._users[m] = left, users
        return False
