"""Directories whose content is somebody else's: walked, written, measured and removed without following a link.

Every step opens one component relative to the directory above it and refuses symbolic links, so that nobody who
changes the tree meanwhile can lead us out of it. All of it is synchronous: call it in a worker thread.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from dms.identity.files import sync_directory
from dms.storage.errors import InvalidVolumeName, StorageError, StorageFull, TooLarge

MAX_DEPTH = 64
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NUL = re.compile("\0")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or link of a tree; ``parts`` lead to it from the root."""

    parts: tuple[str, ...]
    kind: str
    """``file``, ``directory``, ``symlink`` or ``special``."""
    size: int
    parent: int
    """Descriptor of the directory that holds it; open until the next entry is asked for."""

    @property
    def path(self) -> str:
        """Relative path with slashes."""
        return "/".join(self.parts)

    def open(self) -> BinaryIO:
        """Its content, if it is still the plain file that was seen."""
        descriptor = os.open(self.parts[-1], _FILE, dir_fd=self.parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError(f"{self.path!r} is no plain file any more")
        return os.fdopen(descriptor, "rb")


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a tree is."""

    size_bytes: int
    files: int


def check_path(path: str, *, any_names: bool = False) -> tuple[str, ...]:
    """The parts of a relative path that stays below its root; ``any_names``: control characters are fine.

    :raises InvalidVolumeName: absolute, empty, upward, hidden characters, too long or too deep.
    """
    parts = tuple(path.split("/"))
    try:
        sizes = [len(part.encode("utf-8", "surrogateescape" if any_names else "strict")) for part in parts]
    except UnicodeEncodeError:
        raise InvalidVolumeName(f"the name {path[:80]!r} is not UTF-8") from None
    is_bad = any(part in ("", ".", "..") or (_NUL if any_names else _FORBIDDEN).search(part) for part in parts)
    if is_bad or max(sizes) > MAX_NAME_BYTES or sum(sizes) + len(sizes) > MAX_PATH_BYTES or len(parts) > MAX_DEPTH:
        raise InvalidVolumeName(f"the name {path[:80]!r} cannot be used inside a volume")
    return parts


def walk(root: Path) -> Iterator[Entry]:
    """Everything below ``root``, each directory before what it holds, in the order of names."""
    descriptor = os.open(root, OPEN_DIRECTORY)
    try:
        yield from _walk(descriptor, ())
    finally:
        os.close(descriptor)


def fold(
    root: Path, leaf: Callable[[Entry], object], directory: Callable[[str, list[tuple[str, object]]], object]
) -> object:
    """Bottom up: ``leaf`` of each file, link and special file, ``directory`` of each directory (the root has no name)."""
    descriptor = os.open(root, OPEN_DIRECTORY)
    try:
        return _fold(descriptor, (), leaf, directory)
    finally:
        os.close(descriptor)


def open_file(root: Path, path: str) -> io.BufferedReader:
    """The plain file ``path`` below ``root``, opened step by step: whoever puts a link in its way gets an error.

    :raises StorageError: it is no plain file there any more.
    """
    current = os.open(root, OPEN_DIRECTORY)
    try:
        *above, name = path.split("/")
        for part in above:
            below = os.open(part, OPEN_DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        descriptor = os.open(name, _FILE, dir_fd=current)
    except OSError as exc:
        raise StorageError(f"{path[:80]!r} is no plain file any more: {exc.strerror}") from None
    finally:
        os.close(current)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageError(f"{path[:80]!r} is no plain file any more")
    return os.fdopen(descriptor, "rb")


def measure(root: Path) -> Extent:
    """Bytes of content and number of files, directories not counted; links count as what they take themselves."""
    size = files = 0
    for entry in walk(root):
        if entry.kind != "directory":
            size += entry.size
            files += 1
    return Extent(size, files)


def sync_tree(root: Path) -> None:
    """Everything in it is on the disk when this returns."""
    for entry in walk(root):
        if entry.kind == "file":
            with entry.open() as file:
                os.fsync(file.fileno())
        elif entry.kind == "directory":
            descriptor = os.open(entry.parts[-1], OPEN_DIRECTORY, dir_fd=entry.parent)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    sync_directory(root)


def set_read_only(root: Path) -> None:
    """Nobody may write; everybody who gets here may read. Executables stay so. Idempotent."""
    _set_modes(root, lambda mode: 0o555 if stat.S_ISDIR(mode) or mode & 0o100 else 0o444)


def set_shared(root: Path) -> None:
    """Everybody who gets here may read and write: a sandbox may run as whoever it likes."""
    _set_modes(root, lambda mode: 0o777 if stat.S_ISDIR(mode) or mode & 0o100 else 0o666)


def set_writable(root: Path) -> None:
    """The owner may write again, so that it can be changed or removed."""
    _set_modes(root, lambda mode: stat.S_IMODE(mode) & 0o777 | (0o700 if stat.S_ISDIR(mode) else 0o600))


def remove_tree(root: Path) -> None:
    """Remove it with all that it holds; absent is fine.

    However deep it is: what lies below a directory is first moved up beside it, so that neither recursion nor the
    number of open directories grows. ``shutil.rmtree`` of Python 3.11 and 3.12 gives up at a thousand levels.

    :raises StorageError: something could not be removed.
    """
    try:
        if root.is_symlink() or not root.is_dir():
            root.unlink(missing_ok=True)
            return
        top = os.open(root, OPEN_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StorageError(f"cannot remove {root}: {exc.strerror}") from exc
    try:
        _empty(top)
        root.rmdir()
    except OSError as exc:
        raise StorageError(f"cannot remove {root}: {exc.strerror}") from exc
    finally:
        os.close(top)


@contextmanager
def room_watched(where: object) -> Iterator[None]:
    """Errors of the file system as errors of ours; a full one by its own name."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no room left for {where}") from exc
        if exc.errno == errno.EFBIG:
            raise TooLarge(f"{where} is larger than files may be here") from exc
        if exc.errno is None:
            raise  # of a library, not of the system
        raise StorageError(f"cannot write {where}: {exc.strerror or exc}") from exc


class Sink:
    """Writes below one directory and nowhere else; ``with`` it. New files only: nothing is ever overwritten."""

    def __init__(self, root: Path, *, any_names: bool = False) -> None:
        """``any_names``: also those that a workload may have given its files, such as with line breaks."""
        self.root = root
        self._any_names = any_names
        self._descriptor = os.open(root, OPEN_DIRECTORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._descriptor)

    def create(self, path: str, *, is_executable: bool = False) -> BinaryIO:
        """A new file with the directories above it.

        :raises InvalidVolumeName: the path is no good, taken, or leads over something that is no directory.
        """
        parts = self._check(path)
        with self._parent(parts) as directory, _no_clash(path):
            mode = 0o755 if is_executable else 0o644
            return os.fdopen(os.open(parts[-1], _NEW, mode, dir_fd=directory), "wb")

    def directory(self, path: str) -> None:
        """A directory with those above it; one that is there is fine."""
        with self._parent((*self._check(path), ".")):
            pass

    def symlink(self, path: str, target: str) -> None:
        """A symbolic link; see that it leads nowhere else before."""
        parts = self._check(path)
        with self._parent(parts) as directory, _no_clash(path):
            os.symlink(target, parts[-1], dir_fd=directory)

    def hardlink(self, path: str, existing: str) -> None:
        """A second name of a plain file that was written before."""
        parts, old = self._check(path), self._check(existing)
        with self._parent(parts) as directory, self._parent(old) as source, _no_clash(path):
            if not stat.S_ISREG(os.stat(old[-1], dir_fd=source, follow_symlinks=False).st_mode):
                raise InvalidVolumeName(f"the name {existing[:80]!r} is no plain file")
            os.link(old[-1], parts[-1], src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)

    def discard(self, path: str) -> None:
        """Remove a file or link; absent is fine.

        :raises InvalidVolumeName: it is a directory, or lies below something that is none.
        """
        parts = self._check(path)
        with self._parent(parts) as directory:
            try:
                os.unlink(parts[-1], dir_fd=directory)
            except FileNotFoundError:
                return
            except (IsADirectoryError, PermissionError):
                raise InvalidVolumeName(f"the name {path[:80]!r} is taken by a directory") from None

    def move_in(self, source: Path, path: str) -> None:
        """Rename a file of the same file system into the tree."""
        parts = self._check(path)
        with self._parent(parts) as directory, _no_clash(path):
            try:
                os.stat(parts[-1], dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(source, parts[-1], dst_dir_fd=directory)
                return
            raise FileExistsError

    def _check(self, path: str) -> tuple[str, ...]:
        return check_path(path, any_names=self._any_names)

    @contextmanager
    def _parent(self, parts: tuple[str, ...]) -> Iterator[int]:
        current = os.dup(self._descriptor)
        try:
            for index, part in enumerate(parts[:-1]):
                try:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=current)
                    below = os.open(part, OPEN_DIRECTORY, dir_fd=current)
                except OSError as exc:
                    if exc.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    where = "/".join(parts[: index + 1])
                    raise InvalidVolumeName(f"the name {where[:80]!r} is taken by something else") from None
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)


@contextmanager
def _no_clash(path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise InvalidVolumeName(f"the name {path[:80]!r} comes twice") from None


def _empty(top: int) -> None:
    os.fchmod(top, 0o700)
    moved = 0
    while names := os.listdir(top):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            below = os.open(name, OPEN_DIRECTORY, dir_fd=top)
            try:
                os.fchmod(below, 0o700)
                for inner in os.listdir(below):  # noqa: PTH208  a descriptor
                    if not stat.S_ISDIR(os.stat(inner, dir_fd=below, follow_symlinks=False).st_mode):
                        os.unlink(inner, dir_fd=below)
                        continue
                    moved += 1
                    os.chmod(inner, 0o700, dir_fd=below)
                    os.rename(inner, f".moved-{secrets.token_hex(8)}-{moved}", src_dir_fd=below, dst_dir_fd=top)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=top)


def _walk(directory: int, above: tuple[str, ...]) -> Iterator[Entry]:
    if len(above) > MAX_DEPTH:
        raise TooLarge(f"directories nested deeper than {MAX_DEPTH} levels")
    for name in sorted(os.listdir(directory), key=os.fsencode):
        entry = _look(directory, above, name)
        yield entry
        if entry.kind == "directory":
            below = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
            try:
                yield from _walk(below, entry.parts)
            finally:
                os.close(below)


def _fold(
    directory: int,
    above: tuple[str, ...],
    leaf: Callable[[Entry], object],
    combine: Callable[[str, list[tuple[str, object]]], object],
) -> object:
    if len(above) > MAX_DEPTH:
        raise TooLarge(f"directories nested deeper than {MAX_DEPTH} levels")
    found: list[tuple[str, object]] = []
    for name in sorted(os.listdir(directory), key=os.fsencode):
        entry = _look(directory, above, name)
        if entry.kind != "directory":
            found.append((name, leaf(entry)))
            continue
        below = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
        try:
            found.append((name, _fold(below, entry.parts, leaf, combine)))
        finally:
            os.close(below)
    return combine("/".join(above), found)


def _look(directory: int, above: tuple[str, ...], name: str) -> Entry:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = "special"
    if stat.S_ISREG(found.st_mode):
        kind = "file"
    elif stat.S_ISDIR(found.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(found.st_mode):
        kind = "symlink"
    return Entry((*above, name), kind, found.st_size, directory)


def _set_modes(root: Path, wanted: Callable[[int], int]) -> None:
    descriptor = os.open(root, OPEN_DIRECTORY)
    try:
        os.fchmod(descriptor, wanted(os.fstat(descriptor).st_mode))
        _set_modes_below(descriptor, wanted, 0)
    finally:
        os.close(descriptor)


def _set_modes_below(directory: int, wanted: Callable[[int], int], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TooLarge(f"directories nested deeper than {MAX_DEPTH} levels")
    for name in os.listdir(directory):
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            below = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
        elif stat.S_ISREG(mode):
            below = os.open(name, _FILE, dir_fd=directory)
        else:
            continue
        try:
            os.fchmod(below, wanted(mode))
            if stat.S_ISDIR(mode):
                _set_modes_below(below, wanted, depth + 1)
        finally:
            os.close(below)
