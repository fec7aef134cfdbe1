"""Writing cpio archives of format ``newc``, which kernels unpack as their first root file system.

Only what is named gets in: no owner of the host, no device node but those that are added on purpose, no name that
leads out of the archive.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

MAGIC = "070701"
TRAILER = "TRAILER!!!"
ALIGNMENT, BLOCK_BYTES = 4, 512
MAX_NAME_BYTES = 4096
COPY_BYTES = 1 << 20


class CpioWriter:
    """An archive that is written to ``out``; parents come before their children by themselves.

    :raises ValueError: a name leads out, an entry is too large, or the archive exceeds ``limit_bytes``.
    """

    def __init__(self, out: BinaryIO, *, limit_bytes: int | None = None) -> None:
        self._out, self._limit_bytes = out, limit_bytes
        self._inode, self._written = 0, 0
        self._names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def directory(self, name: str, mode: int = 0o755) -> None:
        """A directory; once more is fine."""
        name = self._clean(name)
        if name and name not in self._names:
            self._entry(name, stat.S_IFDIR | mode, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A file."""
        self._entry(self._clean(name), stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        """A link; where it leads is the guest's own matter."""
        self._entry(self._clean(name), stat.S_IFLNK | 0o777, os.fsencode(target))

    def device(self, name: str, mode: int, major: int, minor: int) -> None:
        """A character device."""
        self._entry(self._clean(name), stat.S_IFCHR | mode, b"", (major, minor))

    def tree(self, source: Path, target: str = "") -> None:
        """All of a folder of the host: directories, files and links. Sockets, pipes and devices are left out; links
        are kept as links and never followed."""
        for entry, path in _walk(source):
            name = str(PurePosixPath(target) / entry.relative_to(source).as_posix())
            mode = stat.S_IMODE(path.st_mode)
            if stat.S_ISDIR(path.st_mode):
                self.directory(name, mode)
            elif stat.S_ISLNK(path.st_mode):
                self.symlink(name, os.fsdecode(entry.readlink()))
            elif stat.S_ISREG(path.st_mode):
                self._copy(name, entry, mode)

    def finish(self) -> None:
        """End the archive."""
        self._header(TRAILER, 0, 0, 1)
        self._pad(BLOCK_BYTES)

    def _copy(self, name: str, source: Path, mode: int) -> None:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)  # it was a file a moment ago
        with os.fdopen(fd, "rb") as file:
            size = left = os.fstat(fd).st_size
            self._parents(name := self._clean(name))
            self._header(name, stat.S_IFREG | mode, size, 1)
            while left:
                chunk = file.read(min(left, COPY_BYTES))
                if not chunk:
                    raise ValueError(f"{source} became shorter while it was read")
                self._write(chunk)
                left -= len(chunk)
            self._pad(ALIGNMENT)

    def _entry(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._parents(name)
        self._header(name, mode, len(data), 2 if stat.S_ISDIR(mode) else 1, device)
        self._write(data)
        self._pad(ALIGNMENT)

    def _parents(self, name: str) -> None:
        if not name:
            raise ValueError("an entry needs a name")
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            self.directory(str(parent))
        self._names.add(name)

    def _header(self, name: str, mode: int, size: int, links: int, device: tuple[int, int] = (0, 0)) -> None:
        encoded = os.fsencode(name) + b"\0"
        if len(encoded) > MAX_NAME_BYTES or size >= 1 << 32:
            raise ValueError(f'the entry "{name[:64]}" is too large for a cpio archive')
        self._inode += 1
        fields = (self._inode, mode, 0, 0, links, 0, size, 0, 0, *device, len(encoded), 0)
        self._write((MAGIC + "".join(f"{field:08X}" for field in fields)).encode() + encoded)
        self._pad(ALIGNMENT)

    def _pad(self, to: int) -> None:
        self._write(b"\0" * (-self._written % to))

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        if self._limit_bytes is not None and self._written > self._limit_bytes:
            raise ValueError(f"it holds more than {self._limit_bytes} bytes")
        self._out.write(data)

    @staticmethod
    def _clean(name: str) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise ValueError(f'the name "{name[:64]}" leads out of the archive')
        return "/".join(parts)


def _walk(source: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(source) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        yield Path(entry.path), entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
