"""A machine with fixed hardware, so that a test or a simulation means the same everywhere."""

from __future__ import annotations

import trio

from dms.types.resources import CPU, RAM, Disk, Resources

GIB = 1 << 30

EIGHT_CORES = Resources(
    cpu=CPU(cores=8.0, clock_speed=2e9, model="Fixed", vendor="dms", threads=8, architecture="x86_64"),
    ram=RAM(size=16 * GIB),
    disk=Disk(size=100 * GIB),
)


class FixedMachine:
    """A :class:`~dms.hardware.HardwareProbe` that answers with what it was given; both may be set while it runs."""

    def __init__(self, total: Resources = EIGHT_CORES, used: Resources | None = None) -> None:
        self.total = total
        self.used = used or Resources()

    async def machine(self) -> Resources:
        """The whole machine."""
        await trio.lowlevel.checkpoint()
        return self.total

    async def usage(self) -> Resources:
        """What is in use."""
        await trio.lowlevel.checkpoint()
        return self.used
