"""The graphics processors on the PCI bus, whatever their driver, and the names of vendors and models.

The layout is that of the kernel's ``Documentation/ABI/testing/sysfs-bus-pci``: one directory for each function with
``class``, ``vendor``, ``device`` as hexadecimal numbers, and a link ``driver`` once one is bound. A graphics driver adds
``drm/card0`` and ``drm/renderD128``, whose device nodes lie in ``/dev/dri``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dms.hardware import sysfs

NVIDIA, AMD, INTEL = 0x10DE, 0x1002, 0x8086
"""Vendor numbers that the PCI SIG gave out."""

DISPLAY_CLASS, ACCELERATOR_CLASS = 0x03, 0x12

MAX_DEVICES = 256
"""Graphics processors of one machine that are looked at."""

NAME_FILES = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids")


@dataclass(frozen=True, slots=True)
class PCIDevice:
    """One graphics processor as the bus shows it."""

    address: str
    """Such as ``0000:01:00.0``."""
    vendor: int
    device: int
    path: Path
    driver: str = ""
    """The kernel's driver; empty: none is bound."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Its device nodes, such as ``/dev/dri/card0`` and ``/dev/dri/renderD128``."""
        names = (entry.name for entry in sysfs.children(self.path / "drm"))
        return tuple(f"/dev/dri/{name}" for name in names if name.startswith(("card", "renderD")))

    @property
    def render_minor(self) -> int:
        """The number behind ``renderD``; 0: it has no such node."""
        names = (node.rpartition("renderD")[2] for node in self.nodes if "renderD" in node)
        return next((int(name) for name in names if name.isdigit()), 0)


def graphics(root: Path) -> tuple[PCIDevice, ...]:
    """The graphics processors and accelerators of the three vendors, in the order of their addresses."""
    found = []
    for path in sysfs.children(root / "sys/bus/pci/devices"):
        kind, vendor = sysfs.number(path / "class") >> 16, sysfs.number(path / "vendor")
        is_accelerator = kind == ACCELERATOR_CLASS and vendor == AMD
        if vendor not in (NVIDIA, AMD, INTEL) or not (kind == DISPLAY_CLASS or is_accelerator):
            continue
        driver = sysfs.target(path / "driver")
        found.append(PCIDevice(path.name, vendor, sysfs.number(path / "device"), path, driver))
    return tuple(found[:MAX_DEVICES])


def normalized(address: str) -> str:
    """An address as sysfs writes it: NVML gives the domain eight digits, some tools leave it out."""
    parts = address.strip().lower().split(":")
    if len(parts) == 2:
        parts.insert(0, "0")
    if len(parts) != 3:
        return address
    domain = parts[0].lstrip("0") or "0"
    return f"{domain.zfill(4)}:{parts[1]}:{parts[2]}"


def model_names(root: Path, devices: Iterable[PCIDevice]) -> dict[tuple[int, int], str]:
    """The models by vendor and device number, as far as the system has the list of PCI ids."""
    wanted = {(device.vendor, device.device) for device in devices}
    if not wanted:
        return {}
    for name in NAME_FILES:
        try:
            with (root / name).open(encoding="utf-8", errors="replace") as lines:
                return _names(lines, wanted)
        except OSError:
            continue
    return {}


def _names(lines: Iterable[str], wanted: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """A vendor begins its line with four digits, its devices follow with one tab before theirs."""
    vendors = {vendor for vendor, _ in wanted}
    found: dict[tuple[int, int], str] = {}
    vendor = -1
    for line in lines:
        if line[:1] in ("#", "\n", "C"):
            continue
        if line[:1] != "\t":
            vendor = _hex(line[:4])
        elif vendor in vendors and line[1:2] != "\t":
            key = vendor, _hex(line[1:5])
            if key in wanted:
                found[key] = line[5:].strip()
                if len(found) == len(wanted):
                    break
    return found


def _hex(digits: str) -> int:
    try:
        return int(digits, 16)
    except ValueError:
        return -1
