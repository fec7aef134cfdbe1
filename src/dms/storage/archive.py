"""Unpacking archives that somebody else made: tar (plain, gzip, bzip2, xz) and zip.

Nothing is written outside the directory: paths are checked and opened component by component, links are made last and
must stay inside, devices and pipes are refused. What a bomb needs (bytes, files, ratio, headers, memory of the
decompressor) is bounded while it is read, whatever the archive says of itself.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast

from dms.storage.errors import InvalidVolumeName, StorageError, TooLarge, UnsafeArchive
from dms.storage.tree import Extent, Sink, room_watched

CHUNK_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 20
"""Of one extended header of a tar archive: these are read into memory."""
MAX_DIRECTORY_BYTES = 64 << 20
"""Of the list of files of a zip archive: it is read into memory."""
MAX_DECOMPRESSOR_BYTES = 256 << 20
RATIO_APPLIES_ABOVE_BYTES = 16 << 20
_TAR_END = b"PK\x05\x06"


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an archive may become."""

    max_bytes: int = 16 << 30
    max_files: int = 100_000
    max_ratio: int = 250
    """Unpacked over packed, for what unpacks to more than :data:`RATIO_APPLIES_ABOVE_BYTES`."""


class Readable(Protocol):
    """What can be read in pieces."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


def is_archive(path: Path) -> bool:
    """Whether the file begins as one of the known kinds."""
    with path.open("rb") as file:
        return _kind(file.read(512)) != ""


def unpack(archive: Path, into: Path, limits: UnpackLimits = UnpackLimits()) -> Extent:
    """Unpack a file into a directory that exists; on an error, what was written so far is left to the caller.

    :raises UnsafeArchive: it reaches out, or is damaged or of an unknown kind.
    :raises TooLarge: it passes the limits.
    :raises StorageFull: no room left.
    """
    with archive.open("rb") as file:
        kind = _kind(file.read(512))
        file.seek(0)
        if kind == "zip":
            return _unpack_zip(file, into, limits)
        if kind == "gzip":
            stream: Readable = gzip.GzipFile(fileobj=file)
        elif kind == "bzip2":
            stream = bz2.BZ2File(file)
        elif kind == "xz":
            stream = io.BufferedReader(cast("io.RawIOBase", _Xz(file)), CHUNK_BYTES)
        elif kind == "tar":
            stream = file
        else:
            raise UnsafeArchive(f"{archive.name} is no archive of a known kind: tar, tar.gz, tar.bz2, tar.xz, zip")
        return unpack_tar(_Counted(stream, file, limits), into, limits)


def unpack_tar(stream: Readable, into: Path, limits: UnpackLimits, *, links_may_leave: bool = False) -> Extent:
    """Unpack a plain tar stream; ``links_may_leave``: it is our own, so links and names are taken as they are; links are
    never followed."""
    job = _Unpacking(into, limits, links_may_leave=links_may_leave)
    try:
        with (
            job.sink,
            tarfile.open(fileobj=cast("Any", stream), mode="r|", tarinfo=_BoundedTarInfo, errorlevel=2) as tar,
        ):
            for member in tar:
                _take_tar(job, tar, member)
            job.make_links()
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError) as exc:
        raise UnsafeArchive(f"the archive is damaged: {exc}") from exc
    except InvalidVolumeName as exc:
        raise UnsafeArchive(f"the archive is not safe to unpack: {exc.message}") from None
    except OSError as exc:  # also what gzip and bz2 say of damage, without a number
        raise _of_system(exc) from exc
    return Extent(job.size, job.files)


class _Unpacking:
    """What has been unpacked so far."""

    def __init__(self, into: Path, limits: UnpackLimits, *, links_may_leave: bool = False) -> None:
        self.sink = Sink(into, any_names=links_may_leave)
        self.size = self.files = 0
        self._limits = limits
        self._links: dict[str, str] = {}
        self._links_may_leave = links_may_leave

    def count(self, size: int) -> None:
        """One more entry of so many bytes, before it is written."""
        self.files += 1
        self.size += size
        if self.files > self._limits.max_files:
            raise TooLarge(f"the archive holds more than {self._limits.max_files} files")
        if self.size > self._limits.max_bytes:
            raise TooLarge(f"the archive unpacks to more than {self._limits.max_bytes} bytes")

    def write(self, path: str, source: IO[bytes], size: int, *, is_executable: bool) -> None:
        """A file of exactly ``size`` bytes."""
        self.count(size)
        with room_watched(path), self.sink.create(path, is_executable=is_executable) as target:
            left = size
            while left:
                chunk = source.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise UnsafeArchive(f"the archive is damaged: {path} ends too early")
                target.write(chunk)
                left -= len(chunk)

    def link_later(self, path: str, target: str) -> None:
        """A symbolic link: made when nothing is written through it any more."""
        self.count(len(target))
        if path in self._links:
            raise UnsafeArchive(f"the archive holds {path[:80]!r} twice")
        if not self._links_may_leave:
            end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if not target or target.startswith("/") or "\0" in target or end == ".." or end.startswith("../"):
                raise UnsafeArchive(f"the link {path[:80]!r} leads out of the archive: {target[:80]!r}")
        self._links[path] = target

    def make_links(self) -> None:
        """All links; then see that none leads out by way of another."""
        for path, target in self._links.items():
            self.sink.symlink(path, target)
        if self._links_may_leave:
            return
        root = os.path.realpath(self.sink.root)
        for path in self._links:
            end = os.path.realpath(f"{root}/{path}")
            if end != root and not end.startswith(f"{root}/"):
                raise UnsafeArchive(f"the link {path[:80]!r} leads out of the archive")


def _take_tar(job: _Unpacking, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = _clean(member.name)
    if member.isdir():
        job.count(0)
        if path:
            job.sink.directory(path)
    elif member.isreg():
        source = tar.extractfile(member)
        if source is None:
            raise UnsafeArchive(f"the archive is damaged at {path[:80]!r}")
        job.write(path, source, member.size, is_executable=bool(member.mode & 0o100))
    elif member.issym():
        job.link_later(path, member.linkname)
    elif member.islnk():
        job.count(0)
        with room_watched(path):
            job.sink.hardlink(path, _clean(member.linkname))
    else:
        raise UnsafeArchive(f"the archive holds a device or pipe: {path[:80]!r}")


def _unpack_zip(file: BinaryIO, into: Path, limits: UnpackLimits) -> Extent:
    packed = file.seek(0, os.SEEK_END)
    _check_zip_directory(file, packed)
    file.seek(0)
    job = _Unpacking(into, limits)
    try:
        with job.sink, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            _check_ratio(sum(info.file_size for info in infos), packed, limits)
            for info in infos:
                _take_zip(job, archive, info)
            job.make_links()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, lzma.LZMAError, struct.error) as exc:
        raise UnsafeArchive(f"the archive is damaged: {exc}") from exc
    except (InvalidVolumeName, ValueError) as exc:
        raise UnsafeArchive(f"the archive is not safe to unpack: {exc}") from None
    except OSError as exc:
        raise _of_system(exc) from exc
    return Extent(job.size, job.files)


def _take_zip(job: _Unpacking, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 1:
        raise UnsafeArchive("the archive is encrypted")
    path, mode = _clean(info.filename), info.external_attr >> 16
    if info.is_dir():
        job.count(0)
        if path:
            job.sink.directory(path)
        return
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise UnsafeArchive(f"the archive holds a device or pipe: {path[:80]!r}")
    with archive.open(info) as source:
        if kind == stat.S_IFLNK:
            if info.file_size > 4096:
                raise UnsafeArchive(f"the link {path[:80]!r} is too long")
            job.link_later(path, source.read(4096).decode("utf-8", "surrogateescape"))
        else:
            job.write(path, source, info.file_size, is_executable=bool(mode & 0o100))


def _of_system(exc: OSError) -> StorageError:
    if exc.errno is None:
        return UnsafeArchive(f"the archive is damaged: {exc}")
    return StorageError(f"cannot unpack: {exc.strerror}")


def _clean(name: str) -> str:
    """Without ``./`` before and ``/`` behind; whether it is safe, the sink says."""
    while name.startswith("./"):
        name = name[2:]
    name = name.rstrip("/")
    return "" if name == "." else name


def _kind(head: bytes) -> str:
    if head.startswith((b"PK\x03\x04", _TAR_END)):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh"):
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    return "tar" if head[257:262] == b"ustar" else ""


def _check_ratio(unpacked: int, packed: int, limits: UnpackLimits) -> None:
    if unpacked > RATIO_APPLIES_ABOVE_BYTES and unpacked > packed * limits.max_ratio:
        raise TooLarge(f"the archive unpacks to more than {limits.max_ratio} times its size")


def _check_zip_directory(file: BinaryIO, size: int) -> None:
    """Refuse a list of files that would not fit into memory, before it is read."""
    tail_start = max(0, size - 65_557)
    file.seek(tail_start)
    tail = file.read()
    end = tail.rfind(_TAR_END)
    if end < 0 or end + 22 > len(tail):
        raise UnsafeArchive("the archive is damaged: it has no list of files")
    directory = int.from_bytes(tail[end + 12 : end + 16], "little")
    locator = tail[end - 20 : end] if end >= 20 else b""
    if locator.startswith(b"PK\x06\x07"):
        file.seek(int.from_bytes(locator[8:16], "little"))
        record = file.read(56)
        directory = int.from_bytes(record[40:48], "little")
    if directory > MAX_DIRECTORY_BYTES:
        raise TooLarge("the archive holds too many files")


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses extended headers that would be read into memory whole, however large they say they are."""

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:  # called by tarfile for each header
        is_extension = self.type in (
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        )
        if is_extension and not 0 <= self.size <= MAX_HEADER_BYTES:
            raise TooLarge("the archive has a header of an absurd size")
        return cast("tarfile.TarInfo", super()._proc_member(tarfile_))  # type: ignore[misc]  # private, and the only place


class _Counted(io.RawIOBase):
    """A stream that ends with an error where it becomes too long for what was read to make it."""

    def __init__(self, inner: Readable, packed: BinaryIO, limits: UnpackLimits) -> None:
        super().__init__()
        self._inner = inner
        self._packed = packed
        self._limits = limits
        # headers and padding take up to 1.5 KiB a file
        self._most = limits.max_bytes + 1536 * limits.max_files + CHUNK_BYTES
        self._done = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._inner.read(min(size, CHUNK_BYTES) if size >= 0 else CHUNK_BYTES)
        self._done += len(data)
        if self._done > self._most:
            raise TooLarge(f"the archive unpacks to more than {self._limits.max_bytes} bytes")
        _check_ratio(self._done, self._packed.tell(), self._limits)
        return data


class _Xz(io.RawIOBase):
    """``lzma.open`` knows no limit for the memory that a stream may demand."""

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__()
        self._chunks = self._read_all(packed)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    @staticmethod
    def _read_all(packed: BinaryIO) -> Iterator[bytes]:
        pending = packed.read(CHUNK_BYTES)
        while pending:
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DECOMPRESSOR_BYTES)
            while not decompressor.eof:
                if decompressor.needs_input and not pending:
                    pending = packed.read(CHUNK_BYTES)
                    if not pending:
                        raise EOFError("it ends too early")
                yield decompressor.decompress(pending, max_length=CHUNK_BYTES)
                pending = b""
            pending = decompressor.unused_data.lstrip(b"\0") or packed.read(CHUNK_BYTES).lstrip(b"\0")
