"""The real machine, as far as this process may use it (``spec/execution.md`` 7.2)."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import psutil
import trio

from dms.hardware.cgroup import Limits, read_limits
from dms.hardware.disk import read_disk
from dms.hardware.gpu import GPUs
from dms.hardware.gpus import GPUProbe
from dms.hardware.interfaces import read_interfaces
from dms.hardware.inventory import Inventory
from dms.hardware.memory import read_memory
from dms.hardware.processor import Processor, busy_seconds, busy_share, read_processor
from dms.hardware.smbios import read_memory_kind
from dms.types.resources import CPU, RAM, Disk, Resources

CPU_SAMPLE_S = 1.0
"""How long the processors are watched to say how busy they are."""


class MachineProbe:
    """Reads psutil, ``/proc``, ``/sys``, control groups and drivers; disk is the file system that holds ``work_dir``.

    Processors and the kind of memory are looked at once, amounts and graphics processors each time.
    """

    def __init__(
        self,
        work_dir: Path,
        *,
        cpu_sample_s: float = CPU_SAMPLE_S,
        root: Path = Path("/"),
        gpus: GPUProbe | None = None,
    ) -> None:
        self._work_dir = work_dir
        self._cpu_sample_s = cpu_sample_s
        self._root = root
        self._gpus = gpus or GPUProbe(root=root)
        self._processor: Processor | None = None
        self._memory_kind: tuple[str, int] | None = None

    async def inventory(self) -> Inventory:
        """Everything that can be found, in words."""
        begun = time.perf_counter()
        gpus = await self._gpus.gpus()
        found = msgspec.structs.replace(self._look(gpus), interfaces=read_interfaces(self._root))
        return msgspec.structs.replace(found, probe_ms=round((time.perf_counter() - begun) * 1000, 1))

    async def machine(self) -> Resources:
        """All that this process may use."""
        return self._look(await self._gpus.gpus()).resources

    async def usage(self) -> Resources:
        """What of it is in use; takes :data:`CPU_SAMPLE_S`."""
        before = busy_seconds()
        await trio.sleep(self._cpu_sample_s)
        return await self.usage_since(before)

    async def usage_since(self, before: tuple[float, float]) -> Resources:
        """The same at once, processors as they were busy since ``before`` (:func:`~dms.hardware.processor.busy_seconds`)."""
        busy = busy_share(before, busy_seconds())
        gpus = await self._gpus.gpus()
        found = self._look(gpus)
        cpu = found.processor.resource
        idle_cores = (psutil.cpu_count() or 1) * (1 - busy)
        return Resources(
            cpu=CPU(
                cores=round(max(cpu.cores - idle_cores, 0.0), 2),
                clock_speed=cpu.clock_speed,
                architecture=cpu.architecture,
            ),
            ram=RAM(size=found.memory.used_bytes),
            disk=Disk(size=found.disk.used_bytes),
            gpus=tuple(gpu.used for gpu in gpus.found if gpu.vram_bytes),
        )

    def close(self) -> None:
        """Let go of the drivers."""
        self._gpus.close()

    def _look(self, gpus: GPUs) -> Inventory:
        limits: Limits = read_limits(self._root)
        if self._processor is None:
            self._processor = read_processor(self._root, limits)
        if self._memory_kind is None:
            self._memory_kind = read_memory_kind(self._root)
        return Inventory(
            processor=self._processor,
            memory=read_memory(self._root, limits, self._memory_kind),
            disk=read_disk(self._work_dir, self._root),
            interfaces=(),
            gpus=gpus.found,
            problems=gpus.problems,
        )
