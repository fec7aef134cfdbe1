"""How busy the machine is, at any moment and without waiting: samples in the background, smoothed.

A processor's load jumps from second to second; decisions follow an exponential average of it. Amounts (memory, disk)
show a rise at once and a fall as slowly as that, so that what is just being taken is never promised to somebody else.
"""

from __future__ import annotations

import msgspec
import trio

from dms.hardware import HardwareProbe
from dms.observe import get_logger
from dms.resources.gpus import position
from dms.tasks import Interval, Missed, Scheduler
from dms.types.resources import GPU, Resources

log = get_logger(__name__)

INTERVAL_S = 5.0
"""From sample to sample; one takes a second, in which nothing is done."""

FACTOR = 0.4
"""The weight of the newest sample."""


class UsageMonitor:
    """A :class:`~dms.hardware.HardwareProbe` that samples another one as long as :meth:`run` runs."""

    def __init__(self, probe: HardwareProbe, *, interval_s: float = INTERVAL_S, factor: float = FACTOR) -> None:
        self._probe = probe
        self._interval_s = interval_s
        self._factor = factor
        self._smoothed: Resources | None = None

    async def run(self, tasks: Scheduler) -> None:
        """Sample until cancelled. A sample that fails is logged, and the next one tried."""
        interval = Interval(self._interval_s, first_s=0.0)
        task = tasks.add("usage", self._take_sample, interval, missed=Missed.SKIP)
        try:
            await trio.sleep_forever()
        finally:
            tasks.remove(task, cancels=True)
            self._smoothed = None

    async def machine(self) -> Resources:
        """All that this process may use."""
        return await self._probe.machine()

    async def usage(self) -> Resources:
        """What of it is in use, smoothed; measured now where nothing was sampled yet."""
        if self._smoothed is not None:
            await trio.lowlevel.checkpoint()
            return self._smoothed
        return await self._probe.usage()

    async def _take_sample(self) -> None:
        try:
            sample = await self._probe.usage()
        except OSError as exc:  # the work directory is gone, say
            log.warning("usage_not_known", reason=str(exc))
            self._smoothed = None
        else:
            self._smoothed = smooth(self._smoothed, sample, self._factor)


def smooth(before: Resources | None, sample: Resources, factor: float = FACTOR) -> Resources:
    """The average after one more sample; GPUs that are gone are forgotten."""
    if before is None:
        return sample
    replace = msgspec.structs.replace
    cores = factor * sample.cpu.cores + (1 - factor) * before.cpu.cores
    return Resources(
        cpu=replace(sample.cpu, cores=round(cores, 2)),
        ram=replace(sample.ram, size=_falling(before.ram.size, sample.ram.size, factor)),
        disk=sample.disk,
        gpus=tuple(_smooth_gpu(before.gpus, gpu, factor) for gpu in sample.gpus),
    )


def _smooth_gpu(before: tuple[GPU, ...], gpu: GPU, factor: float) -> GPU:
    place = position(before, gpu)
    if place is None:
        return gpu
    return msgspec.structs.replace(gpu, vram=_falling(before[place].vram, gpu.vram, factor))


def _falling(before: int, now: int, factor: float) -> int:
    return max(now, int(factor * now + (1 - factor) * before))
