"""Which GPU serves which requirement (``spec/execution.md`` 8.3, 11.6): an exact matching, pure.

A requirement names a certain device by UUID or PCI address, or any of a vendor, a model, and so much memory; its index is the
provider's business and not looked at. Each requirement of one list gets a device of its own, whereas different
allocations share one as long as its memory lasts. A requirement that names no memory wants all that is free of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dms.resources.errors import Underflow
from dms.types.resources import GPU


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


def serves(held: Sequence[GPU], wanted: Sequence[GPU]) -> bool:
    """Whether ``held`` is what :func:`assign` could have given for ``wanted``: the same question asked again."""
    return len(held) == len(wanted) and all(
        is_alike(gpu, needs) and (not needs.vram or needs.vram == gpu.vram)
        for gpu, needs in zip(held, wanted, strict=True)
    )
