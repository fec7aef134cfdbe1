"""Where volumes lie: one directory each below a base directory, or one encrypted file.

::

    <base>/<name>                     a volume
    <base>/.sealed/<name>.sealed      the same, encrypted
    <base>/.staging/…                 what is being downloaded or decrypted
    <base>/.trash/…                   what is being removed

Everything here is synchronous and on the disk when it returns; the order of steps is such that whatever a process leaves
that dies in between can be finished or undone by :meth:`Shelf.tidy`.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from dms.identity.files import make_private_directory, sync_directory
from dms.observe import get_logger
from dms.storage.content import Content, read_content
from dms.storage.errors import ContentMismatch, StorageError
from dms.storage.ledger import Remembered
from dms.storage.sealing import SealingKey, seal, unseal
from dms.storage.tree import remove_tree, room_watched, set_read_only, set_shared, sync_tree
from dms.storage.volume import Volume, is_volume_name

MAX_STAGING_AGE_S = 7 * 24 * 3600.0
"""How long a download that broke off may be resumed."""
SEALED, STAGING, TRASH = ".sealed", ".staging", ".trash"

log = get_logger(__name__)


class Shelf:
    """The files of all volumes below ``base``."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def sealed(self, name: str) -> Path:
        """The file of an encrypted volume."""
        return self.base / SEALED / f"{name}.sealed"

    def staging(self, origin: str) -> Path:
        """Where a download from ``origin`` is gathered; not made here."""
        return self.base / STAGING / hashlib.sha256(origin.encode()).hexdigest()[:32]

    def make(self, path: Path) -> None:
        """An empty directory, open to whoever a sandbox runs as; the base directory above it is private."""
        with room_watched(path):
            path.mkdir(mode=0o777)
            path.chmod(0o777)
            sync_directory(path.parent)

    def close(self, path: Path) -> None:
        """Nobody may write to it any more."""
        with room_watched(path):
            set_read_only(path)
            sync_tree(path)

    def open(self, path: Path) -> None:
        """Every sandbox may write to it again."""
        with room_watched(path):
            set_shared(path)
            sync_tree(path)

    def seal(self, volume: Volume, key: SealingKey) -> Content:
        """Write the encrypted file beside the directory."""
        sealed = self.sealed(volume.id)
        sealed.unlink(missing_ok=True)  # of an attempt that did not end
        content = read_content(volume.path)
        seal(volume.path, sealed, key)
        sync_directory(sealed.parent)
        return content

    def unseal(self, volume: Volume, key: SealingKey) -> None:
        """Make the directory again, beside the encrypted file; a locked one must have its content.

        :raises CannotUnseal: the key is wrong, or the file damaged.
        :raises ContentMismatch: it is not what was locked.
        """
        remove_tree(volume.path)  # of an attempt that did not end
        staging = self.base / STAGING / volume.id
        remove_tree(staging)
        self.make(staging)
        try:
            unseal(self.sealed(volume.id), staging, key)
            if volume.is_locked:
                found = read_content(staging).cid
                if str(found) != volume.cid:
                    raise ContentMismatch(f"the content of {volume.id} is {found}, not {volume.cid}")
                set_read_only(staging)
            with room_watched(volume.path):
                sync_tree(staging)
                if volume.is_locked:
                    staging.chmod(0o755)  # a directory that is moved must be writable, as it knows its parent
                staging.rename(volume.path)
                if volume.is_locked:
                    volume.path.chmod(0o555)
                sync_directory(self.base)
        except BaseException:
            remove_tree(staging)
            raise

    def put_away(self, name: str, *, keep_sealed: bool = False) -> Path:
        """The directory, and the encrypted file unless it is to be kept, out of sight at once; where it is then, to be
        removed, however long that takes."""
        path, away = self.base / name, self.base / TRASH / f"{name}-{secrets.token_hex(4)}"
        with room_watched(path):
            if path.exists():
                path.chmod(0o700)  # a directory that is moved must be writable, as it knows its parent
                path.rename(away)
            if not keep_sealed:
                self.sealed(name).unlink(missing_ok=True)
            sync_directory(self.base)
        return away

    def tidy(self, known: Mapping[str, Remembered]) -> tuple[str, ...]:
        """Make the directories, finish or undo what was left half done; the names of volumes that are not there."""
        is_there = self.base.is_dir()  # its disk may not be mounted, and then nothing is gone
        for directory in (self.base, *(self.base / part for part in (SEALED, STAGING, TRASH))):
            make_private_directory(directory)
        for path in self.base.iterdir():
            if is_volume_name(path.name):
                self._settle(path, known.get(path.name))
        for path in (self.base / SEALED).iterdir():
            found = known.get(path.name.removesuffix(".sealed"))
            if found is not None and not found.is_sealed:  # encrypting it was not finished
                _try_remove(path)
        for path in (self.base / TRASH).iterdir():
            _try_remove(path)
        oldest_s = time.time() - MAX_STAGING_AGE_S
        for path in (self.base / STAGING).iterdir():
            if is_volume_name(path.name) or path.lstat().st_mtime < oldest_s:
                _try_remove(path)
        places = {name: self.sealed(name) if found.is_sealed else self.base / name for name, found in known.items()}
        return tuple(name for name, place in places.items() if is_there and not place.exists())

    def _settle(self, path: Path, found: Remembered | None) -> None:
        if found is None:
            try:
                path.rmdir()  # never acknowledged: it is empty
            except OSError:
                log.warning("volume_unknown", path=str(path))  # somebody's data: not ours to remove
        elif found.is_sealed:  # it is encrypted, and this was not finished
            _try_remove(path)
        elif found.was_busy and _differs(path, found):
            try:
                (self.close if found.is_locked else self.open)(path)
            except StorageError as exc:
                log.error("volume_not_settled", path=str(path), error=exc.message)


def _differs(path: Path, found: Remembered) -> bool:
    """Whether locking, unlocking or deleting it had begun on the disk and is not on record."""
    mode = path.lstat().st_mode & 0o777
    return bool(mode & 0o222) if found.is_locked else mode != 0o777


def _try_remove(path: Path) -> None:
    try:
        remove_tree(path)
    except StorageError as exc:
        log.error("volume_not_removed", path=str(path), error=exc.message)
