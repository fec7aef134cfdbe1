"""Copies of a database file: taken while the node runs, verified, put back while it does not.

A copy is one whole file, readable by its owner only, that appears under its name when it is complete and on the disk. Beside
it lies its SHA-256 in the form that ``sha256sum --check`` reads. What is replaced is kept aside, so that each step of a
restore can be undone by hand, and a power cut at any moment leaves either the old database or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from dms.store.errors import BackupExists, BadBackup, NoBackup, NoDatabase, StoreCorrupt, StoreFull
from dms.store.examine import Examination, address_to_read, examine
from dms.store.faults import of_system, translated
from dms.store.sqlite import BUSY_TIMEOUT_MS, take_lock

CHECKSUM = ".sha256"
"""What the name of a copy is followed by, beside it."""
_SIDE_FILES = ("-wal", "-shm")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was taken."""

    path: Path
    sha256: str
    examination: Examination


def take(source: Path, target: Path) -> Backup:
    """Copy the database ``source``, as it is at one moment, to the new file ``target``, and look at the copy.

    :raises NoDatabase: there is nothing to copy.
    :raises BackupExists: there is such a file.
    :raises StoreCorrupt: the copy is not sound, and was thrown away.
    :raises StoreError: no room, or no right to write there.
    """
    if not source.exists():
        raise NoDatabase(f"there is no database {source} yet")
    if target.exists() or _checksum_of(target).exists():
        raise BackupExists(f"there is {target} already")
    with _fresh(target) as partial:
        _copy(source, partial, target)
        found = examine(partial)
        if found.problems:
            raise StoreCorrupt(f"the database {source} is damaged, its copy too: {found.problems[0]}")
        digest = _digest(partial)
        with _fresh(_checksum_of(target)) as beside:
            beside.write_text(f"{digest}  {target.name}\n")
            _publish(beside, _checksum_of(target))
        _publish(partial, target)
    return Backup(target, digest, msgspec.structs.replace(found, database=str(target)))


def verify(path: Path) -> Examination:
    """Look at a copy, or at any database file, and at its checksum where there is one.

    :raises StoreError: it cannot be read at all.
    """
    found = examine(path)
    beside = _checksum_of(path)
    if not beside.exists():
        return found
    try:
        stated = beside.read_text()[:64]
        actual = _digest(path)
    except OSError as exc:
        raise of_system(exc, path) from None
    if stated == actual:
        return found
    problem = f"its SHA-256 is {actual}, and {beside.name} says {stated}"
    return msgspec.structs.replace(found, problems=(*found.problems, problem))


def restore(backup: Path | None, target: Path, *, now_s: float | None = None) -> Path | None:
    """Put ``backup`` in the place of the database ``target``, or nothing, so that the node begins anew. Where the old one is
    kept; ``None``: there was none.

    :raises StoreInUse: the node runs.
    :raises NoBackup: there is no such file.
    :raises BadBackup: the file is damaged, changed, or not a backup of a node's database.
    :raises StoreError: no room, or no right to write there.
    """
    if backup is not None:
        require(backup)
        found = verify(backup)
        if found.problems:
            raise BadBackup(f"{backup} is not a sound backup: {found.problems[0]}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{target}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise of_system(exc, target) from None
    try:
        take_lock(lock, target)
        _give_to_owner(Path(f"{target}.lock"), target)
        if backup is None:
            return _set_aside(target, now_s, is_moved=True)
        with _fresh(target) as partial:
            _copy(backup, partial, target)
            _give_to_owner(partial, target)
            aside = _set_aside(target, now_s, is_moved=False)
            for suffix in _SIDE_FILES:
                Path(f"{target}{suffix}").unlink(missing_ok=True)
            _publish(partial, target)
            return aside
    except OSError as exc:
        raise of_system(exc, target) from None
    finally:
        os.close(lock)


def require(backup: Path) -> None:
    """See that there is something.

    :raises NoBackup: there is not.
    """
    if not backup.exists():
        raise NoBackup(f"there is no backup {backup}")


def default_name(source: Path, now_s: float) -> str:
    """What a copy is called unless somebody says otherwise, such as ``dms-20300102T030405Z.sqlite``."""
    return f"{source.stem}-{_stamp(now_s)}{source.suffix}"


def _copy(source: Path, partial: Path, target: Path) -> None:
    """Through SQLite, which sees what a write-ahead log holds; writers go on meanwhile."""
    try:
        with translated(source):
            _copy_pages(source, partial)
    except StoreFull:
        raise StoreFull(f"no room left for {target}", hint="free some space there, or choose another place") from None


def _copy_pages(source: Path, partial: Path) -> None:
    origin = sqlite3.connect(address_to_read(source), uri=True, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        copy = sqlite3.connect(partial, isolation_level=None)
        try:
            origin.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()  # one file, with nothing beside it
        finally:
            copy.close()
    finally:
        origin.close()


def _set_aside(target: Path, now_s: float | None, *, is_moved: bool) -> Path | None:
    """Keep the database and what lies beside it under another name, whole and openable; the name of the database stays,
    unless it is moved.
    """
    if not target.exists():
        return None
    _settle(target)
    aside = target.with_name(f"{target.stem}-before-{_stamp(time.time() if now_s is None else now_s)}{target.suffix}")
    if aside.exists():
        raise BackupExists(f"there is {aside} already", hint="wait a second")
    for suffix in _SIDE_FILES:
        if Path(f"{target}{suffix}").exists():
            shutil.copy2(f"{target}{suffix}", f"{aside}{suffix}")
    os.link(target, aside)
    _sync(target.parent)
    if is_moved:
        for suffix in ("", *_SIDE_FILES):
            Path(f"{target}{suffix}").unlink(missing_ok=True)
        _sync(target.parent)
    return aside


def _settle(target: Path) -> None:
    """Bring what the write-ahead log holds into the file. A damaged one is left as it is, log included, for whoever may
    save something out of it.
    """
    if examine(target, is_thorough=False).problems:
        return
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(target, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()


@contextlib.contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    """A private file beside ``target``, gone in the end unless it was published. What one that was killed has left there is
    taken over.

    :raises BackupExists: another process is at it.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                os.ftruncate(descriptor, 0)
                yield partial
            finally:
                for suffix in ("", "-journal", *_SIDE_FILES):
                    Path(f"{partial}{suffix}").unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    except BlockingIOError:
        raise BackupExists(f"another process is writing {target}", hint="wait for it") from None
    except OSError as exc:
        raise of_system(exc, target) from None


def _publish(partial: Path, target: Path) -> None:
    _sync(partial)
    partial.replace(target)
    _sync(target.parent)


def _give_to_owner(path: Path, target: Path) -> None:
    """So that root may restore what a service of its own account uses."""
    owner = (target if target.exists() else target.parent).stat()
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum_of(path: Path) -> Path:
    return path.with_name(path.name + CHECKSUM)


def _stamp(now_s: float) -> str:
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def _digest(path: Path) -> str:
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            sha256.update(block)
    return sha256.hexdigest()
