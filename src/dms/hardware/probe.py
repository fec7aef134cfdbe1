"""What a machine has and uses: the seam between the node and its hardware (``spec/execution.md`` 7)."""

from __future__ import annotations

from typing import Protocol

from dms.types.resources import Resources


class HardwareProbe(Protocol):
    """Looks at a machine; the twin is ``dms.testing.hardware.FixedMachine``."""

    async def machine(self) -> Resources:
        """All that this process may use: processors, memory, the file system of the work directory, GPUs."""
        ...

    async def usage(self) -> Resources:
        """What of it is in use now, by anybody; cores as the fraction of time that they are busy."""
        ...
