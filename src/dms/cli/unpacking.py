"""An archive from somebody else's machine becomes files here, and nothing outside of where they belong.

Every step to a file goes through a directory that was opened without following links, so that no entry of the archive can
lead the next one elsewhere. Links that lead out of what is copied, devices and other things that are no files are left out.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Self

from dms.types.errors import BadInput

PIECE_BYTES = 256 * 1024
MAX_NAME_BYTES = 1 << 20
"""Of a name that does not fit the head of an entry, or of its extended attributes."""
MAX_DEPTH = 200

_NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BadArchive(BadInput):
    """What came is no archive that can be unpacked."""

    code = "bad_archive"


class _Entry(tarfile.TarInfo):
    """An entry whose names fit into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        made = super().frombuf(buf, encoding, errors)
        if (made.type in _NAMES and made.size > MAX_NAME_BYTES) or made.type == tarfile.GNUTYPE_SPARSE:
            raise BadArchive("the archive has entries that nobody needs")
        return made


@dataclass
class Unpacked:
    """What became of it."""

    files: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)
    """Entries that are no files, directories or harmless links."""


def unpack(stream: IO[bytes], target: Path, note: Callable[[int], object] = lambda _bytes: None) -> Unpacked:
    """Unpack an archive with one top entry as ``target``; a directory that exists already takes what is in that of the archive.

    :raises BadArchive: it is none, ends too early, or has several top entries.
    :raises BadInput: a file stands in the way.
    """
    done = Unpacked()
    top: str | None = None
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry, bufsize=PIECE_BYTES) as archive:
            for entry in archive:
                parts = _parts(entry.name)
                if top is None and parts:
                    top = parts[0]
                if not parts or parts[0] != top:
                    raise BadArchive(f"the archive holds more than was asked for: {entry.name[:80]!r}")
                _place(archive, entry, target, parts[1:], done, note)
    except (tarfile.TarError, ValueError, OverflowError) as error:  # the latter: such as times
        raise BadArchive(f"what came is no whole archive: {error}") from None
    except OSError as error:
        raise BadInput(f"cannot write {error.filename or target}: {error.strerror}") from None
    if top is None:
        raise BadArchive("the archive is empty")
    return done


def is_inside(link: str, parts: tuple[str, ...]) -> bool:
    """Whether a symbolic link at this place below the top leads to somewhere below the top. Pure."""
    if not link or link.startswith("/") or "\0" in link:
        return False
    depth = len(parts) - 1
    for step in PurePosixPath(link).parts:
        depth += -1 if step == ".." else 0 if step == "." else 1
        if depth < 0:
            return False
    return True


def _parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    parts = tuple(part for part in path.parts if part != ".")
    if path.is_absolute() or ".." in parts or "\0" in name or len(parts) > MAX_DEPTH:
        raise BadArchive(f"the archive wants to write outside of where it belongs: {name[:80]!r}")
    return parts


@contextmanager
def _opened(target: Path, below: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """The directory of an entry, made if need be, and the name of the entry in it."""
    *directories, name = [target.name, *below]
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in directories:
            _make_directory(step, parent)
            inner = os.open(step, _DIRECTORY, dir_fd=parent)
            os.close(parent)
            parent = inner
        yield parent, name
    finally:
        os.close(parent)


def _place(
    archive: tarfile.TarFile,
    entry: tarfile.TarInfo,
    target: Path,
    below: tuple[str, ...],
    done: Unpacked,
    note: Callable[[int], object],
) -> None:
    with _opened(target, below) as (parent, name):
        if entry.isdir():
            _make_directory(name, parent)
            opened = os.open(name, _DIRECTORY, dir_fd=parent)
            os.fchmod(opened, entry.mode & 0o777 | 0o700)
            os.close(opened)
        elif entry.isreg():
            _write(archive, entry, name, parent, done, note)
        elif entry.issym() and below and is_inside(entry.linkname, below):
            _remove(name, parent)
            os.symlink(entry.linkname, name, dir_fd=parent)
        elif entry.islnk() and below:
            _link(entry, name, parent, target, done)
        else:
            done.left_out.append(entry.name)


def _link(entry: tarfile.TarInfo, name: str, parent: int, target: Path, done: Unpacked) -> None:
    """A second name of a file that came before."""
    first = _parts(entry.linkname)
    if len(first) < 2 or first[0] != _parts(entry.name)[0]:
        done.left_out.append(entry.name)
        return
    with _opened(target, first[1:]) as (there, before):
        if not stat.S_ISREG(os.stat(before, dir_fd=there, follow_symlinks=False).st_mode):
            raise BadArchive(f"a link to what is no file: {entry.name[:80]!r}")
        _remove(name, parent)
        os.link(before, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
    done.files += 1


def _write(
    archive: tarfile.TarFile,
    entry: tarfile.TarInfo,
    name: str,
    parent: int,
    done: Unpacked,
    note: Callable[[int], object],
) -> None:
    content = archive.extractfile(entry)
    assert content is not None
    _remove(name, parent)
    opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    with os.fdopen(opened, "wb") as file:
        left = entry.size
        while left:
            piece = content.read(min(left, PIECE_BYTES))
            if not piece:
                raise BadArchive("the archive ends in the middle of a file")
            file.write(piece)
            left -= len(piece)
            done.bytes += len(piece)
            note(done.bytes)
        file.flush()
        os.fchmod(file.fileno(), entry.mode & 0o777 | 0o400)
        os.utime(file.fileno(), (entry.mtime, entry.mtime))
    done.files += 1


def _make_directory(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return


def _remove(name: str, parent: int) -> None:
    """A file or link that was there; a directory is left, and stands in the way."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
