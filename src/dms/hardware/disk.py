"""The file system that holds the work directory, and the device beneath it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import psutil

from dms.hardware import sysfs
from dms.types.resources import Disk

MAX_LAYERS = 8
"""Devices upon devices (encryption, volumes, RAID) that are followed."""

_INTERFACES = {"nvme": "NVMe", "ata": "SATA", "usb": "USB", "virtio": "virtio", "mmc": "MMC", "vbd": "Xen"}
_NOT_HERE = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.sshfs")


class DiskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where workloads will write."""

    path: str
    total_bytes: int
    free_bytes: int
    """That this user may still write."""
    file_system: str = ""
    type: str = ""
    """``SSD``, ``HDD``, ``virtual``, ``network`` or ``memory``; empty: not known."""
    interface: str = ""
    model: str = ""
    vendor: str = ""

    @property
    def resource(self) -> Disk:
        """As it is counted and offered."""
        return Disk(
            size=self.total_bytes, model=self.model, vendor=self.vendor, type=self.type, interface=self.interface
        )

    @property
    def used_bytes(self) -> int:
        """What of it cannot be had now."""
        return self.total_bytes - self.free_bytes


def existing_ancestor(path: Path) -> Path:
    """``path``, or the nearest directory above it that exists already."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def read_disk(work_dir: Path, root: Path) -> DiskInfo:
    """The file system of ``work_dir``; what describes it is read below ``root``."""
    place = existing_ancestor(work_dir)
    usage = psutil.disk_usage(str(place))
    device = place.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    return DiskInfo(path=str(place), total_bytes=usage.total, free_bytes=usage.free, **describe(root, number))


def describe(root: Path, number: str) -> dict[str, str]:
    """What is known of the file system with this device number (``major:minor``), by the names of the fields."""
    file_system, source = _mount(root, number)
    if file_system in _NOT_HERE:
        return {"file_system": file_system, "type": "network"}
    if file_system in ("tmpfs", "ramfs"):
        return {"file_system": file_system, "type": "memory"}
    block = (root / "sys/dev/block" / number).resolve()
    if not block.is_dir() and source.startswith("/dev/"):  # btrfs and the like give numbers of their own
        block = (root / "sys/class/block" / Path(source).name).resolve()
    return {"file_system": file_system, **(_describe(block) if block.is_dir() else {})}


def _mount(root: Path, number: str) -> tuple[str, str]:
    """Type and source of the mounted file system with this device number."""
    for line in sysfs.text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) > 2 and fields[2] == number and len(rest) > 1:
            return rest[0], rest[1]
    return "", ""


def _describe(block: Path) -> dict[str, str]:
    disk = _whole(block)
    interface = next((name for part in disk.parts for key, name in _INTERFACES.items() if part.startswith(key)), "")
    rotates = sysfs.text(disk / "queue/rotational")
    kind = {"0": "SSD", "1": "HDD"}.get(rotates, "")
    if interface in ("virtio", "Xen"):
        kind = "virtual"  # what the host has is not told
    return {
        "type": kind,
        "interface": interface,
        "model": sysfs.text(disk / "device/model"),
        "vendor": sysfs.text(disk / "device/vendor").removeprefix("0x1af4"),
    }


def _whole(block: Path) -> Path:
    """The disk that a partition is part of, beneath whatever lies between."""
    for _ in range(MAX_LAYERS):
        if (block / "partition").exists():
            block = block.parent
        beneath = sysfs.children(block / "slaves")
        if not beneath:
            break
        block = beneath[0].resolve()
    return block
