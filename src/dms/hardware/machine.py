"""The real machine: processors, memory and disk, as far as this process may use them (``spec/execution.md`` 7.2)."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

import psutil
import trio

from dms.hardware.cgroup import Limits, read_limits
from dms.hardware.cpuinfo import CPUInfo, parse_cpuinfo
from dms.types.resources import CPU, RAM, Disk, Resources

CPU_SAMPLE_S = 1.0
"""How long the processors are watched to say how busy they are."""

ASSUMED_HZ = 1_000_000_000
"""The clock of a processor that does not tell its own: comparisons multiply by it, so zero would mean no power at all."""


class MachineProbe:
    """Reads psutil, ``/proc`` and control groups; disk is the file system that holds ``work_dir``."""

    def __init__(self, work_dir: Path, *, cpu_sample_s: float = CPU_SAMPLE_S, root: Path = Path("/")) -> None:
        self._work_dir = work_dir
        self._cpu_sample_s = cpu_sample_s
        self._root = root
        self._cpu: CPU | None = None

    async def machine(self) -> Resources:
        """All that this process may use; the processors are looked at once."""
        limits = read_limits(self._root)
        if self._cpu is None:
            self._cpu = _cpu(self._root, limits)
        await trio.lowlevel.checkpoint()
        total = psutil.virtual_memory().total
        return Resources(
            cpu=self._cpu,
            ram=RAM(size=min(total, limits.memory_bytes or total)),
            disk=Disk(size=psutil.disk_usage(str(existing_ancestor(self._work_dir))).total),
        )

    async def usage(self) -> Resources:
        """What of it is in use; takes :data:`CPU_SAMPLE_S`."""
        before = _cpu_times()
        await trio.sleep(self._cpu_sample_s)
        busy = _busy_share(before, _cpu_times())
        machine = await self.machine()
        limits = read_limits(self._root)
        disk = psutil.disk_usage(str(existing_ancestor(self._work_dir)))
        idle_cores = (psutil.cpu_count() or 1) * (1 - busy)
        return Resources(
            cpu=CPU(
                cores=round(max(machine.cpu.cores - idle_cores, 0.0), 2),
                clock_speed=machine.cpu.clock_speed,
                architecture=machine.cpu.architecture,
            ),
            ram=RAM(size=_ram_used(machine.ram.size, limits)),
            disk=Disk(size=disk.total - disk.free),
        )


def existing_ancestor(path: Path) -> Path:
    """``path``, or the nearest directory above it that exists already."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _cpu(root: Path, limits: Limits) -> CPU:
    text = ""
    with contextlib.suppress(OSError):
        text = (root / "proc/cpuinfo").read_text("utf-8", "replace")
    info = parse_cpuinfo(text)
    threads = _usable_processors()
    cores = min(float(threads), limits.cores or float(threads))
    return CPU(
        cores=max(int(cores * 100), 1) / 100,
        clock_speed=float(_clock_hz(info)),
        model=info.model or platform.processor(),
        vendor=info.vendor,
        threads=threads,
        architecture=platform.machine(),
        cache_size=info.cache_bytes,
    )


def _usable_processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Linux has it, others do not
        return os.cpu_count() or 1


def _clock_hz(info: CPUInfo) -> int:
    """The steadiest clock that is known: the highest possible, the nominal one, that of now, or an assumption."""
    highest_mhz = 0.0
    with contextlib.suppress(OSError, NotImplementedError, AttributeError):
        highest_mhz = getattr(psutil.cpu_freq(), "max", 0.0)  # None where nothing is known
    return round(highest_mhz * 1e6 or info.nominal_hz or info.present_hz) or ASSUMED_HZ


def _ram_used(total: int, limits: Limits) -> int:
    available = psutil.virtual_memory().available
    if limits.memory_bytes is not None:
        available = min(available, limits.memory_bytes - limits.memory_used_bytes)
    return min(max(total - available, 0), total)


def _cpu_times() -> tuple[float, float]:
    """Seconds that all processors together have been busy, and all seconds."""
    times = psutil.cpu_times()
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted as user time too
    total = sum(times) - guest
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _busy_share(before: tuple[float, float], after: tuple[float, float]) -> float:
    passed = after[1] - before[1]
    return min(max((after[0] - before[0]) / passed, 0.0), 1.0) if passed > 0 else 0.0
