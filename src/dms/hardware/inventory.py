"""All that was found on a machine, in more words than travel; :attr:`Inventory.resources` is what does."""

from __future__ import annotations

import msgspec

from dms.hardware.disk import DiskInfo
from dms.hardware.gpu import GPUInfo
from dms.hardware.interfaces import Interface
from dms.hardware.memory import Memory
from dms.hardware.processor import Processor
from dms.types.resources import Resources


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, as far as this process may use it."""

    processor: Processor
    memory: Memory
    disk: DiskInfo
    interfaces: tuple[Interface, ...]
    gpus: tuple[GPUInfo, ...]
    problems: tuple[str, ...] = ()
    """Why something that seems to be there was not found."""
    probe_ms: float = 0.0
    """How long it took to find all this."""

    @property
    def resources(self) -> Resources:
        """What can be offered of it: graphics processors without memory of their own are none."""
        return Resources(
            cpu=self.processor.resource,
            gpus=tuple(gpu.resource for gpu in self.gpus if gpu.vram_bytes),
            ram=self.memory.resource,
            disk=self.disk.resource,
        )
