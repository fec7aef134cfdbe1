"""Intel's graphics processors, as the kernel's drivers xe and i915 tell of them; no library is needed.

Neither driver writes the memory of a device into sysfs; both answer a query on its render node, which whoever may open
the node may ask. Graphics inside a processor has no memory of its own and is found with none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dms.hardware import sysfs
from dms.hardware.drm import DRIVERS, Memory, query_memory
from dms.hardware.gpu import INTEL, GPUInfo, GPUs, pci_uuid
from dms.hardware.pci import INTEL as VENDOR
from dms.hardware.pci import PCIDevice, model_names


class IntelSource:
    """Reads sysfs and asks the render nodes through ``query``, which is given the driver and the node."""

    vendor = INTEL

    def __init__(self, query: Callable[[str, Path], Memory] = query_memory) -> None:
        self._query = query

    def is_present(self, root: Path, devices: Sequence[PCIDevice]) -> bool:
        """See :class:`~dms.hardware.gpu.GPUSource`."""
        return any(device.vendor == VENDOR for device in devices)

    def gpus(self, root: Path, devices: Sequence[PCIDevice]) -> GPUs:
        """See :class:`~dms.hardware.gpu.GPUSource`."""
        mine = [device for device in devices if device.vendor == VENDOR]
        names, release = model_names(root, mine), sysfs.text(root / "proc/sys/kernel/osrelease")
        found: list[GPUInfo] = []
        problems: list[str] = []
        for device in mine:
            if device.driver not in DRIVERS:
                problems.append(f"Intel: {device.address}: the driver is {device.driver or 'missing'}")
                continue
            node = next((n for n in device.nodes if "renderD" in n), "")
            try:
                memory = self._query(device.driver, root / node.lstrip("/")) if node else Memory()
            except OSError as exc:
                problems.append(f"Intel: {device.address}: {node}: {exc.strerror or exc}")
                memory = Memory()
            known = names.get((device.vendor, device.device), "")
            found.append(
                GPUInfo(
                    vendor=INTEL,
                    model=known or f"Intel {device.device:04x}",
                    uuid=pci_uuid(device.address),
                    pci_address=device.address,
                    vram_bytes=memory.total_bytes,
                    vram_used_bytes=memory.used_bytes,
                    vram_free_bytes=memory.total_bytes - memory.used_bytes,
                    driver=f"{device.driver} {release}".strip(),
                    devices=device.nodes,
                )
            )
        return GPUs(tuple(found), tuple(problems))

    def close(self) -> None:
        """See :class:`~dms.hardware.gpu.GPUSource`."""
