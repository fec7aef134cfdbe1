"""One graphics processor, and the seam behind which each vendor's ways of telling about theirs lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from dms.hardware.pci import PCIDevice
from dms.types.resources import GPU

NVIDIA, AMD, INTEL = "NVIDIA", "AMD/ATI", "Intel"
"""The vendors, by the names that travel (``spec/execution.md`` 7.1)."""


class GPUInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver tells of one graphics processor, now."""

    index: int = 0
    """Counts over all vendors, and stays with the device as long as the process runs."""
    vendor: str
    model: str = ""
    uuid: str
    """The vendor's, or one made of the PCI address where the vendor gives none; never empty."""
    pci_address: str = ""
    vram_bytes: int = 0
    """0: it has no memory of its own, as graphics inside a processor."""
    vram_used_bytes: int = 0
    vram_free_bytes: int = 0
    """May be less than the rest, as drivers keep some for themselves."""
    driver: str = ""
    """Name and version."""
    cores: int | None = None
    """Shader cores: CUDA cores, stream processors, execution units; ``None``: not known."""
    busy_percent: int | None = None
    devices: tuple[str, ...] = ()
    """Device nodes that a workload needs."""

    @property
    def resource(self) -> GPU:
        """The device with all its memory, as it is counted and offered."""
        return GPU(
            index=self.index,
            vendor=self.vendor,
            pci_address=self.pci_address,
            model=self.model,
            vram=self.vram_bytes,
            uuid=self.uuid,
        )

    @property
    def used(self) -> GPU:
        """The device with the memory that cannot be had now."""
        free = min(max(self.vram_free_bytes, 0), self.vram_bytes)
        return msgspec.structs.replace(self.resource, vram=self.vram_bytes - free)


@dataclass(frozen=True, slots=True)
class GPUs:
    """What was found, and what stood in the way of finding more."""

    found: tuple[GPUInfo, ...] = ()
    problems: tuple[str, ...] = ()


class GPUSource(Protocol):
    """One vendor's graphics processors. Called in a thread, by one at a time; raises nothing but what is broken."""

    vendor: str

    def is_present(self, root: Path, devices: Sequence[PCIDevice]) -> bool:
        """Whether there is any reason to ask; takes next to no time, and no driver is touched."""
        ...

    def gpus(self, root: Path, devices: Sequence[PCIDevice]) -> GPUs:
        """Those of this vendor; ``devices``: all graphics processors on the bus. Their order is that of the vendor."""
        ...

    def close(self) -> None:
        """Let go of the driver."""
        ...


def pci_uuid(address: str) -> str:
    """What tells a device without an identity of its own from others: where it is plugged in."""
    return f"PCI-{address}"
