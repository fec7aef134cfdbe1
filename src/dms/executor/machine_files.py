"""What a microVM finds on its drives, and the user and limits under which it runs.

Everything lies in one folder per machine, which belongs to the machine's own user: images are cloned into it (where the
file system can, without copying a byte), so that nothing that a guest writes concerns anybody else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import struct
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from dms.executor.errors import InvalidEngineSpec, StartFailed
from dms.executor.protocol import Mount

SECTOR_BYTES = 512
DEFAULT_OUTPUT_BYTES = 1 << 30
"""Room for what a program leaves in one directory, where the request names no disk."""
USER_BASE, USERS = 1_900_000_000, 100_000_000
"""Numbers of users that no system gives to anybody."""
SPARE_BYTES = 64 << 20
"""Of the disk that no copy of a volume may take."""
KVM = Path("/dev/kvm")
_FICLONE = 0x40049409
_QCOW2 = b"QFI\xfb"
_EXTERNAL_DATA = 1 << 2


@dataclass(frozen=True, slots=True)
class DriveFile:
    """One drive: its name in the machine's folder, and how it is attached."""

    name: str
    is_read_only: bool
    is_root: bool = False
    format: str = "raw"


def machine_user(execution_id: str, *, uses_kvm: bool) -> tuple[int, int, list[int]] | None:
    """User, group and further groups of a machine; ``None``: it stays our own, as we may not change it.

    A machine that needs KVM gets the group of its device; where only root may use it, the machine stays root.
    """
    if os.geteuid() != 0:
        return None
    groups: list[int] = []
    if uses_kvm:
        info = KVM.stat()
        if not info.st_mode & stat.S_IWOTH:
            if not info.st_mode & stat.S_IWGRP or not info.st_gid:
                return None
            groups = [info.st_gid]
    number = USER_BASE + zlib.crc32(execution_id.encode()) % USERS
    return number, number, groups


def give(directory: Path, user: tuple[int, int, list[int]] | None) -> None:
    """Let the machine's user own its folder and what is in it."""
    if user is None:
        return
    for path in (directory.resolve(), *directory.iterdir()):
        os.chown(path, user[0], user[1], follow_symlinks=False)


def clone(source: Path, target: Path) -> None:
    """Copy a file: by sharing its blocks where the file system can, else without its holes.

    :raises StartFailed: it is no file, or cannot be read.
    """
    try:
        with source.open("rb") as read, target.open("xb") as write:
            size = os.fstat(read.fileno())
            if not stat.S_ISREG(size.st_mode):
                raise StartFailed(f"{source} is not a file")
            try:
                fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
            except OSError:
                _copy_data(read.fileno(), write.fileno(), size.st_size)
    except OSError as exc:
        raise StartFailed(f"{source} cannot be copied: {exc.strerror}") from exc


def image_format(image: Path) -> str:
    """``raw`` or ``qcow2``.

    :raises InvalidEngineSpec: it refers to another file, which could be any of the provider's.
    """
    with image.open("rb") as file:
        header = file.read(104).ljust(104, b"\0")
    if not header.startswith(_QCOW2):
        return "raw"
    (version,), (backing,), (features,) = (
        struct.unpack_from(">I", header, 4),
        struct.unpack_from(">Q", header, 8),
        struct.unpack_from(">Q", header, 72),
    )
    if backing or (version >= 3 and features & _EXTERNAL_DATA):
        raise InvalidEngineSpec(
            f"the image {image.name} refers to another file", hint="convert it with qemu-img convert"
        )
    return "qcow2"


def pack(mount: Mount, target: Path) -> None:
    """Make a drive with an archive of a directory: files, directories and links, without their owners. A file with holes
    becomes as large as it says, so what would not leave :data:`SPARE_BYTES` on the disk is refused before.

    :raises StartFailed: it cannot be read, or there is no room.
    """
    room = shutil.disk_usage(target.parent).free - SPARE_BYTES

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal room
        if not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
            return None
        room -= info.size
        if room < 0:
            raise StartFailed(f"the directory {mount.source} is larger than the room that is left for a copy")
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    try:
        with tarfile.open(target, "x:", format=tarfile.GNU_FORMAT) as archive:
            archive.add(mount.source, arcname=".", filter=plain)
    except OSError as exc:
        raise StartFailed(f"the directory {mount.source} cannot be packed: {exc}") from exc


def make_empty(target: Path, size_bytes: int) -> None:
    """A drive without content; takes no room until it is written to."""
    with target.open("xb") as file:
        file.truncate(size_bytes // SECTOR_BYTES * SECTOR_BYTES or SECTOR_BYTES)


def _copy_data(source: int, target: int, size: int) -> None:
    os.ftruncate(target, size)
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            moved = os.sendfile(target, source, None, end - start) if start < end else 0
            if not moved:
                break
            start += moved
