"""What people write when they offer a machine: GPUs by index and memory; and what is little for an offer.

(``spec/execution.md`` 10.4)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from dms.resources.errors import CapacityNotMet, InvalidResources
from dms.types.resources import GPU, Resources
from dms.types.units import format_hertz, parse_bytes

MAX_TEXT_CHARS = 4096
GB = 1_000_000_000
GHZ = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Minimum:
    """What a machine should have at least to be of use; less is warned about and allowed."""

    clock_hz: int
    ram_bytes: int
    disk_bytes: int
    vram_bytes: int = 0


MINIMUM = Minimum(2 * GHZ, 4 * GB, 10 * GB)
MINIMUM_WITH_GPU = Minimum(3 * GHZ, 8 * GB, 50 * GB, 4 * GB)


def gpus_of(text: str, machine: Sequence[GPU]) -> tuple[GPU, ...]:
    """The GPUs that a text such as ``0:4,1:50%`` offers: index, then memory (GiB when bare) or a share of all of it.

    :raises InvalidResources: it is not written like that, or names a GPU twice.
    :raises CapacityNotMet: the machine has no such GPU.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidResources("the list of GPUs is too long")
    found: dict[int, GPU] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        place, colon, amount = (piece.strip() for piece in part.partition(":"))
        if not (colon and amount and place.isascii() and place.isdigit()):
            raise InvalidResources(f'invalid GPU "{part}"', hint="write index:memory, such as 0:4,1:8 or 0:50%")
        index = int(place)
        gpu = next((gpu for gpu in machine if gpu.index == index), None)
        if gpu is None:
            there = ", ".join(str(gpu.index) for gpu in machine) or "none"
            raise CapacityNotMet(f"GPU {index} does not exist on this machine", hint=f"there are: {there}")
        if index in found:
            raise InvalidResources(f"GPU {index} is offered twice")
        found[index] = msgspec.structs.replace(gpu, vram=_memory(amount, gpu.vram))
    return tuple(found.values())


def shortfalls(offered: Resources) -> tuple[str, ...]:
    """Where an offer is below the recommended minimum, in words; nothing: it is not.

    How fast the way to the internet is cannot be told from here, and is not looked at.
    """
    minimum = MINIMUM_WITH_GPU if offered.gpus else MINIMUM
    kind = "with GPU" if offered.gpus else "without GPU"
    checks = [
        ("clock", offered.cpu.clock_speed, minimum.clock_hz, format_hertz),
        ("RAM", offered.ram.size, minimum.ram_bytes, _bytes),
        ("disk", offered.disk.size, minimum.disk_bytes, _bytes),
        *((f"VRAM of GPU {gpu.index}", gpu.vram, minimum.vram_bytes, _bytes) for gpu in offered.gpus),
    ]
    return tuple(
        f"{what}: {show(have)}, recommended for a machine {kind} are {show(want)} or more"
        for what, have, want, show in checks
        if have < want
    )


def _memory(text: str, whole: int) -> int:
    if not text.endswith("%"):
        return parse_bytes(text, what="VRAM")
    try:
        percent = float(text[:-1])
    except ValueError:
        percent = -1.0
    if not 0 < percent <= 100:
        raise InvalidResources(f'invalid VRAM value: "{text}"', hint="a share lies between 0% and 100%")
    return int(whole * percent / 100)


def _bytes(size: float) -> str:
    return f"{size / GB:.1f} GB"
