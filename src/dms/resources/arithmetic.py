"""Adding and subtracting resources (``spec/execution.md`` 8.1): values never change, sums are exact.

Cores count in hundredths and sizes in bytes, all whole numbers. GPUs are told apart by UUID, else by index; one that is
only in the second operand is appended by :func:`add` and an underflow for :func:`subtract`. What is not counted
(clock, model, …) comes from the first operand that tells it.

:func:`add` and :func:`subtract` are for amounts that lie on certain GPUs; a requirement, which any fitting GPU serves, is
first :func:`assigned`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from dms.resources.errors import InvalidResources, Underflow
from dms.resources.gpus import assign, position
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.resources import CPU, GPU, Resources

MAX_SIZE_BYTES = 1 << 62
"""A size beyond this is a mistake or an attack; sums stay within what the database counts."""

MAX_CORES = 1_000_000.0
MAX_GPUS = 1024

W = TypeVar("W", bound=Wire)


def hundredths(cores: float) -> int:
    """Cores as a whole number of hundredths."""
    return round(cores * 100)


def cores_of(count: int) -> float:
    """Hundredths as cores."""
    return count / 100


def check(resources: Resources) -> None:
    """Refuse amounts that would make arithmetic meaningless: negative, not finite, absurdly large.

    :raises InvalidResources: and names the amount.
    """
    cpu = resources.cpu
    if not (math.isfinite(cpu.cores) and 0 <= cpu.cores <= MAX_CORES):
        raise InvalidResources(f"invalid resources: {cpu.cores} cores")
    if not (math.isfinite(cpu.clock_speed) and cpu.clock_speed >= 0):
        raise InvalidResources(f"invalid resources: clock speed of {cpu.clock_speed} Hz")
    if len(resources.gpus) > MAX_GPUS:
        raise InvalidResources(f"invalid resources: {len(resources.gpus)} GPUs")
    sizes = [("RAM", resources.ram.size), ("disk", resources.disk.size), *(("VRAM", g.vram) for g in resources.gpus)]
    for what, size in sizes:
        if not 0 <= size <= MAX_SIZE_BYTES:
            raise InvalidResources(f"invalid resources: {size} bytes of {what}")


def add(left: Resources, right: Resources) -> Resources:
    """Both together."""
    cores = hundredths(left.cpu.cores) + hundredths(right.cpu.cores)
    return Resources(
        cpu=msgspec.structs.replace(_known(left.cpu, right.cpu), cores=cores_of(cores)),
        gpus=_add_gpus(left.gpus, right.gpus),
        ram=msgspec.structs.replace(_known(left.ram, right.ram), size=left.ram.size + right.ram.size),
        disk=msgspec.structs.replace(_known(left.disk, right.disk), size=left.disk.size + right.disk.size),
    )


def subtract(left: Resources, right: Resources) -> Resources:
    """``left`` without ``right``.

    :raises Underflow: ``right`` has more of something; the message names it.
    """
    return Resources(
        cpu=_subtract_cpu(left.cpu, right.cpu),
        ram=msgspec.structs.replace(left.ram, size=_less("RAM", "size", left.ram.size, right.ram.size)),
        disk=msgspec.structs.replace(left.disk, size=_less("Disk", "size", left.disk.size, right.disk.size)),
        gpus=_subtract_gpus(left.gpus, right.gpus),
    )


def assigned(have: Resources, wanted: Resources) -> Resources:
    """``wanted`` with the very GPUs of ``have`` that serve it (:func:`~dms.resources.gpus.assign`).

    :raises Underflow: some requirement finds none.
    """
    if not wanted.gpus:
        return wanted
    return msgspec.structs.replace(wanted, gpus=assign(have.gpus, wanted.gpus))


def take(have: Resources, wanted: Resources) -> Resources:
    """What is left of ``have`` when ``wanted`` is served from it, by whichever GPUs fit.

    :raises Underflow: it cannot be; the message names what is short.
    """
    return subtract(have, assigned(have, wanted))


def covers(have: Resources, amounts: Resources) -> bool:
    """Whether ``amounts``, on the GPUs that they name, can be subtracted from ``have``."""
    try:
        subtract(have, amounts)
    except DMSError:
        return False
    return True


def fits(have: Resources, wanted: Resources) -> bool:
    """Whether the requirement ``wanted`` can be served from ``have``, by whichever GPUs."""
    try:
        take(have, wanted)
    except DMSError:
        return False
    return True


def total(parts: Iterable[Resources]) -> Resources:
    """All of them together; of none, nothing."""
    sum_ = Resources()
    for part in parts:
        sum_ = add(sum_, part)
    return sum_


def normalized(resources: Resources) -> Resources:
    """The same with cores rounded as they are counted."""
    cpu = msgspec.structs.replace(resources.cpu, cores=cores_of(hundredths(resources.cpu.cores)))
    return msgspec.structs.replace(resources, cpu=cpu)


def _subtract_cpu(left: CPU, right: CPU) -> CPU:
    have, want = hundredths(left.cores), hundredths(right.cores)
    if want > have:
        raise Underflow(
            f"error subtracting CPU: core: underflow, cannot subtract {cores_of(want):g} from {cores_of(have):g}"
        )
    return msgspec.structs.replace(left, cores=cores_of(have - want))


def _less(part: str, what: str, have: int, want: int) -> int:
    if want > have:
        raise Underflow(f"error subtracting {part}: {what}: underflow, cannot subtract {want} from {have}")
    return have - want


def _known(left: W, right: W) -> W:
    """``left``, its empty members taken from ``right``."""
    if left == right:
        return left
    members = {name: getattr(left, name) or getattr(right, name) for name in left.__struct_fields__}
    return msgspec.structs.replace(left, **members)


def _add_gpus(left: tuple[GPU, ...], right: tuple[GPU, ...]) -> tuple[GPU, ...]:
    gpus = list(left)
    for gpu in right:
        place = position(gpus, gpu)
        if place is None:
            gpus.append(gpu)
        else:
            gpus[place] = msgspec.structs.replace(gpus[place], vram=gpus[place].vram + gpu.vram)
    return tuple(gpus)


def _subtract_gpus(left: tuple[GPU, ...], right: tuple[GPU, ...]) -> tuple[GPU, ...]:
    gpus = list(left)
    for gpu in right:
        place = position(gpus, gpu)
        have = gpus[place].vram if place is not None else 0
        rest = _less("GPUs", "total VRAM", have, gpu.vram)
        if place is not None:
            gpus[place] = msgspec.structs.replace(gpus[place], vram=rest)
    return tuple(gpus)
