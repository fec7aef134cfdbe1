"""Does a machine have what is wanted, and if not, what is missing (``spec/execution.md`` 8.2, 8.3)?

:func:`unmet` answers "why not?", part by part, in words; :func:`compare` gives the original's four values. Equality
satisfies. What a requirement leaves empty (architecture, clock, GPU vendor) is not required.

Stricter than the original in two points: fewer cores are never made up for by a faster clock, since cores are what is
reserved; and a GPU that nothing matches is missing, where the original ends up with "better".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from dms.resources.arithmetic import hundredths
from dms.resources.gpus import is_alike, match
from dms.types.resources import CPU, GPU, Resources
from dms.types.units import format_bytes, format_hertz

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


class Comparison(Enum):
    """What the machine (left) is for the requirement (right)."""

    BETTER = "Better"
    WORSE = "Worse"
    EQUAL = "Equal"
    NONE = "None"
    """They cannot be compared: another architecture, say."""

    def __and__(self, other: Comparison) -> Comparison:
        """Both parts together: the worst counts, and of two good ones the better."""
        for worst in (Comparison.NONE, Comparison.WORSE, Comparison.BETTER):
            if worst in (self, other):
                return worst
        return Comparison.EQUAL

    @property
    def satisfies(self) -> bool:
        """Whether the requirement is met."""
        return self in (Comparison.BETTER, Comparison.EQUAL)


@dataclass(frozen=True, slots=True)
class Unmet:
    """A requirement that the machine does not meet."""

    part: str
    """Such as ``cpu.cores``, ``ram.size``, ``gpus[1]``."""
    reason: str
    """For people: ``8 cores wanted, 4 there``."""


def compare(machine: Resources, wanted: Resources) -> Comparison:
    """All parts together."""
    return (
        compare_cpu(machine.cpu, wanted.cpu)
        & _number(machine.ram.size, wanted.ram.size)
        & _number(machine.disk.size, wanted.disk.size)
        & compare_gpus(machine.gpus, wanted.gpus)
    )


def unmet(machine: Resources, wanted: Resources) -> tuple[Unmet, ...]:
    """Everything that the machine lacks; nothing: it will do."""
    missing = _unmet_cpu(machine.cpu, wanted.cpu)
    for part, what, have, want in (
        ("ram.size", "RAM", machine.ram.size, wanted.ram.size),
        ("disk.size", "disk", machine.disk.size, wanted.disk.size),
    ):
        if want > have:
            missing.append(Unmet(part, _words(want, have, what)))
    matched = match(machine.gpus, wanted.gpus)
    for place, gpu in enumerate(wanted.gpus):
        if place not in matched:
            missing.append(Unmet(f"gpus[{place}]", _why_no_gpu(machine.gpus, gpu, place)))
    return tuple(missing)


def compare_cpu(machine: CPU, wanted: CPU) -> Comparison:
    """Architecture, then cores, then cores times clock."""
    if wanted.architecture and _architecture(machine) != _architecture(wanted):
        return Comparison.NONE
    if hundredths(machine.cores) < hundredths(wanted.cores):
        return Comparison.WORSE
    if not wanted.clock_speed:
        return _number(hundredths(machine.cores), hundredths(wanted.cores))
    return _number(_power(machine), _power(wanted))


def compare_gpus(machine: Sequence[GPU], wanted: Sequence[GPU]) -> Comparison:
    """Each requirement takes one GPU; no requirement is met by any machine."""
    matched = match(machine, wanted)
    result = Comparison.EQUAL
    for place, gpu in enumerate(wanted):
        if place in matched:
            result &= _number(machine[matched[place]].vram, gpu.vram)
        else:
            result &= Comparison.WORSE if any(is_alike(m, gpu) for m in machine) else Comparison.NONE
    return result


def _unmet_cpu(machine: CPU, wanted: CPU) -> list[Unmet]:
    missing: list[Unmet] = []
    if wanted.architecture and _architecture(machine) != _architecture(wanted):
        there = machine.architecture or "unknown"
        missing.append(Unmet("cpu.architecture", f"{wanted.architecture} wanted, the machine is {there}"))
    if hundredths(machine.cores) < hundredths(wanted.cores):
        missing.append(Unmet("cpu.cores", f"{wanted.cores:g} cores wanted, {machine.cores:g} there"))
    elif wanted.clock_speed and _power(machine) < _power(wanted):
        reason = (
            f"{wanted.cores:g} cores at {format_hertz(wanted.clock_speed)} wanted, "
            f"{machine.cores:g} at {format_hertz(machine.clock_speed)} there"
        )
        missing.append(Unmet("cpu.clock_speed", reason))
    return missing


def _why_no_gpu(machine: Sequence[GPU], wanted: GPU, place: int) -> str:
    name = " ".join(filter(None, (wanted.vendor, wanted.model, wanted.uuid, wanted.pci_address))) or "any GPU"
    alike = [gpu for gpu in machine if is_alike(gpu, wanted)]
    if not machine:
        return f"{name} wanted, there is no GPU"
    if not alike:
        return f"{name} wanted, there is {', '.join(f'{g.vendor} {g.model}'.strip() or 'another' for g in machine)}"
    best = max(gpu.vram for gpu in alike)
    if best < wanted.vram:
        return _words(wanted.vram, best, f"VRAM on {name}")
    return f"{name} wanted as number {place + 1}, those that fit serve other requirements"


def _words(want: int, have: int, what: str) -> str:
    """``2.0 GiB of RAM wanted, 1.5 GiB there``; in bytes where the rounded texts would look the same."""
    texts = format_bytes(want), format_bytes(have)
    if texts[0] == texts[1]:
        texts = f"{want} bytes", f"{have} bytes"
    return f"{texts[0]} of {what} wanted, {texts[1]} there"


def _number(left: float, right: float) -> Comparison:
    if left == right:
        return Comparison.EQUAL
    return Comparison.WORSE if left < right else Comparison.BETTER


def _architecture(cpu: CPU) -> str:
    name = cpu.architecture.lower()
    return _ARCHITECTURES.get(name, name)


def _power(cpu: CPU) -> float:
    return hundredths(cpu.cores) * cpu.clock_speed
