"""The processors: what the kernel tells of them, and how much of them this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec
import psutil

from dms.hardware import sysfs
from dms.hardware.cgroup import Limits
from dms.hardware.cpuinfo import CPUInfo, parse_cpuinfo
from dms.types.resources import CPU

ASSUMED_HZ = 1_000_000_000
"""The clock of a processor that does not tell its own: comparisons multiply by it, so zero would mean no power at all."""


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """What computes here."""

    cores: float
    """What this process may use, threads counting as cores; less than ``threads`` under a quota."""
    physical_cores: int | None = None
    """Of the whole machine; ``None``: the kernel does not tell."""
    threads: int
    """That this process may run on."""
    machine_threads: int
    clock_hz: float
    architecture: str
    model: str = ""
    vendor: str = ""
    cache_bytes: int = 0
    features: tuple[str, ...] = ()

    @property
    def resource(self) -> CPU:
        """As it is counted and offered."""
        return CPU(
            cores=self.cores,
            clock_speed=self.clock_hz,
            model=self.model,
            vendor=self.vendor,
            threads=self.threads,
            architecture=self.architecture,
            cache_size=self.cache_bytes,
        )


def read_processor(root: Path, limits: Limits) -> Processor:
    """The processors of this machine as of this moment; ``root`` stands in for the root of the file system."""
    info = parse_cpuinfo(sysfs.text(root / "proc/cpuinfo"))
    threads = usable_threads()
    cores = min(float(threads), limits.cores or float(threads))
    return Processor(
        cores=max(int(cores * 100), 1) / 100,
        physical_cores=info.physical_cores or None,
        threads=threads,
        machine_threads=os.cpu_count() or threads,
        clock_hz=float(_clock_hz(root, info)),
        architecture=platform.machine(),
        model=info.model or platform.processor(),
        vendor=info.vendor,
        cache_bytes=info.cache_bytes,
        features=info.features,
    )


def usable_threads() -> int:
    """How many processors the kernel lets this process run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Linux has it, others do not
        return os.cpu_count() or 1


def busy_seconds() -> tuple[float, float]:
    """Seconds that all processors together have been busy, and all seconds."""
    times = psutil.cpu_times()
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted as user time too
    total = sum(times) - guest
    return total - times.idle - getattr(times, "iowait", 0.0), total


def busy_share(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Which part of the time between two answers of :func:`busy_seconds` was not idle."""
    passed = after[1] - before[1]
    return min(max((after[0] - before[0]) / passed, 0.0), 1.0) if passed > 0 else 0.0


def _clock_hz(root: Path, info: CPUInfo) -> int:
    """The steadiest clock that is known: the highest possible, the nominal one, that of now, or an assumption."""
    policies = sysfs.children(root / "sys/devices/system/cpu/cpufreq", "policy*")
    highest_khz = max((sysfs.number(policy / "cpuinfo_max_freq") for policy in policies), default=0)
    return round(highest_khz * 1000 or info.nominal_hz or info.present_hz) or ASSUMED_HZ
