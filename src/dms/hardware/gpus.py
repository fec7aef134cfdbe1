"""All graphics processors of the machine, of every vendor, without trusting any driver.

A driver that fails costs its own devices only; one that does not answer is waited for no longer than
:data:`DEADLINE_S`, and not asked again before its last answer came. Devices may come and go; the index of one stays the
same as long as the process runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import trio

from dms.hardware.amd import AmdSource
from dms.hardware.gpu import GPUInfo, GPUs, GPUSource
from dms.hardware.intel import IntelSource
from dms.hardware.nvidia import NvidiaSource
from dms.hardware.pci import PCIDevice, graphics
from dms.observe import get_logger

log = get_logger(__name__)

DEADLINE_S = 5.0


class GPUProbe:
    """Asks each source in a thread of its own; vendors in the order of ``sources``."""

    def __init__(
        self,
        sources: Iterable[GPUSource] | None = None,
        *,
        root: Path = Path("/"),
        deadline_s: float = DEADLINE_S,
        more: Iterable[GPUSource] = (),
    ) -> None:
        """``more``: sources of plugins, beside those of ``sources``, or of the three vendors."""
        found = (NvidiaSource(), AmdSource(), IntelSource()) if sources is None else tuple(sources)
        self._sources = tuple(_Guarded(source) for source in (*found, *more))
        self._root = root
        self._deadline_s = deadline_s
        self._indexes: dict[str, int] = {}
        self._logged: set[str] = set()
        self._limiter = trio.CapacityLimiter(math.inf)  # a stuck thread must take nobody else's place

    async def gpus(self) -> GPUs:
        """Those that are there now. Raises nothing on account of a driver."""
        devices = graphics(self._root)
        answers: dict[int, GPUs] = {}

        async def ask(place: int, source: _Guarded) -> None:
            answers[place] = await source.gpus(self._root, devices, self._deadline_s, self._limiter)

        async with trio.open_nursery() as nursery:
            for place, source in enumerate(self._sources):
                if source.is_present(self._root, devices):
                    nursery.start_soon(ask, place, source)
        ordered = [answers[place] for place in sorted(answers)]
        problems = tuple(problem for answer in ordered for problem in answer.problems)
        for problem in problems:
            if problem not in self._logged:
                self._logged.add(problem)
                log.warning("gpu_problem", problem=problem)
        return GPUs(self._numbered(gpu for answer in ordered for gpu in answer.found), problems)

    def close(self) -> None:
        """Let go of the drivers."""
        for source in self._sources:
            source.close()

    def _numbered(self, found: Iterable[GPUInfo]) -> tuple[GPUInfo, ...]:
        gpus: dict[str, GPUInfo] = {}
        for gpu in found:
            if gpu.uuid in gpus:
                continue  # two drivers tell of the same device
            index = self._indexes.setdefault(gpu.uuid, len(self._indexes))
            gpus[gpu.uuid] = msgspec.structs.replace(gpu, index=index)
        return tuple(sorted(gpus.values(), key=lambda gpu: gpu.index))


class _Guarded:
    """A source that is asked by one at a time, and whose failures are answers."""

    def __init__(self, source: GPUSource) -> None:
        self._source = source
        self._lock = trio.Lock()
        self._is_busy = False

    def is_present(self, root: Path, devices: Sequence[PCIDevice]) -> bool:
        try:
            return self._source.is_present(root, devices)
        except Exception:  # noqa: BLE001 (as below)
            return True  # so that it is asked, and what is wrong with it is told

    async def gpus(
        self, root: Path, devices: Sequence[PCIDevice], deadline_s: float, limiter: trio.CapacityLimiter
    ) -> GPUs:
        async with self._lock:
            if not self._is_busy:
                self._is_busy = True
                with trio.move_on_after(deadline_s):
                    return await trio.to_thread.run_sync(
                        self._ask, root, devices, abandon_on_cancel=True, limiter=limiter
                    )
            await trio.lowlevel.checkpoint()
            return GPUs(problems=(f"{self._source.vendor}: the driver does not answer",))

    def close(self) -> None:
        if not self._is_busy:
            self._source.close()

    def _ask(self, root: Path, devices: Sequence[PCIDevice]) -> GPUs:
        try:
            return self._source.gpus(root, devices)
        except Exception as exc:  # noqa: BLE001 (whatever a driver's library does, the node goes on)
            return GPUs(problems=(f"{self._source.vendor}: {str(exc) or type(exc).__name__}",))
        finally:
            self._is_busy = False
