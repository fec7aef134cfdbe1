"""AMD's graphics processors, as the kernel's driver amdgpu tells of them; no library is needed.

Sizes and identity stand beside the device (``mem_info_vram_total``, ``mem_info_vram_used``, ``unique_id``, ``product_name``
of the kernel's ``Documentation/gpu/amdgpu/driver-misc.rst``); the number of cores in the topology of the compute driver
(``/sys/class/kfd/kfd/topology/nodes/*/properties``), told apart by the render node. How busy a device is
(``gpu_busy_percent``) is not read: asking wakes it up, and asking every few seconds would never let it sleep.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dms.hardware import sysfs
from dms.hardware.gpu import AMD, GPUInfo, GPUs, pci_uuid
from dms.hardware.pci import AMD as VENDOR
from dms.hardware.pci import PCIDevice, model_names

DRIVER = "amdgpu"
CORES_PER_UNIT = 64
"""Lanes of one compute unit, the same in all generations that the driver knows."""

COMPUTE_NODE = "/dev/kfd"


class AmdSource:
    """Reads sysfs."""

    vendor = AMD

    def is_present(self, root: Path, devices: Sequence[PCIDevice]) -> bool:
        """See :class:`~dms.hardware.gpu.GPUSource`."""
        return any(device.vendor == VENDOR for device in devices)

    def gpus(self, root: Path, devices: Sequence[PCIDevice]) -> GPUs:
        """See :class:`~dms.hardware.gpu.GPUSource`."""
        mine = [device for device in devices if device.vendor == VENDOR]
        names, cores = model_names(root, mine), _cores_by_render_node(root)
        version = sysfs.text(root / "sys/module/amdgpu/version") or sysfs.text(root / "proc/sys/kernel/osrelease")
        found: list[GPUInfo] = []
        problems: list[str] = []
        for device in mine:
            total = sysfs.number(device.path / "mem_info_vram_total")
            if device.driver != DRIVER or total <= 0:
                why = "does not tell its memory" if device.driver == DRIVER else f"is {device.driver or 'missing'}"
                problems.append(f"AMD: {device.address}: the driver {why}")
                continue
            used = min(max(sysfs.number(device.path / "mem_info_vram_used"), 0), total)
            identity = sysfs.text(device.path / "unique_id")
            known = names.get((device.vendor, device.device), "")
            model = sysfs.text(device.path / "product_name") or known or f"AMD {device.device:04x}"
            found.append(
                GPUInfo(
                    vendor=AMD,
                    model=model,
                    uuid=f"GPU-{identity}" if identity.strip("0") else pci_uuid(device.address),
                    pci_address=device.address,
                    vram_bytes=total,
                    vram_used_bytes=used,
                    vram_free_bytes=total - used,
                    driver=f"{DRIVER} {version}".strip(),
                    cores=cores.get(device.render_minor),
                    devices=(COMPUTE_NODE, *device.nodes),
                )
            )
        return GPUs(tuple(found), tuple(problems))

    def close(self) -> None:
        """See :class:`~dms.hardware.gpu.GPUSource`."""


def _cores_by_render_node(root: Path) -> dict[int, int]:
    cores: dict[int, int] = {}
    for node in sysfs.children(root / "sys/class/kfd/kfd/topology/nodes"):
        values: dict[str, int] = {}
        for line in sysfs.text(node / "properties").splitlines():
            name, _, value = line.partition(" ")
            if value.strip().isdigit():
                values[name] = int(value)
        minor, simds, per_unit = (values.get(n, 0) for n in ("drm_render_minor", "simd_count", "simd_per_cu"))
        if minor and simds and per_unit:
            cores[minor] = simds // per_unit * CORES_PER_UNIT
    return cores
