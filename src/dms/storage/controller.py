"""The volumes of this machine: made, locked, used, encrypted, deleted (``spec/execution.md`` 6.2).

A volume is a directory below one base directory and a record in the database. What is acknowledged is on the disk;
when the process dies between the two, :meth:`VolumeController.load` brings them together again: an empty directory without
a record was never acknowledged and goes; so does a record whose directory is gone, which was being deleted.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from dms.identity.files import make_private_directory, sync_directory
from dms.observe import get_logger
from dms.storage.cid import CID
from dms.storage.content import Content, read_content
from dms.storage.errors import (
    ContentMismatch,
    InvalidVolumeName,
    StorageError,
    StorageFull,
    TooLarge,
    UnsupportedIdentifier,
    VolumeInUse,
    VolumeLocked,
    VolumeNotFound,
    VolumeSealed,
)
from dms.storage.sealing import SealingKey, seal, unseal
from dms.storage.tree import measure, remove_tree, room_watched, set_read_only, sync_tree
from dms.storage.volume import EncryptionType, IDType, Use, Volume, VolumeRecord, VolumeSource
from dms.store import Record, RecordNotFound, Repository, Session, Store
from dms.store.schema import volumes as table

NAME_CHARS = 16
MAX_LABELS = 32
"""Named volumes that one tenant may have here."""
MAX_STAGING_AGE_S = 7 * 24 * 3600.0
"""How long a download that broke off may be resumed."""
SEALED, STAGING, TRASH = ".sealed", ".staging", ".trash"
_BUSY = "(this program)"
"""Who uses a volume while it is being locked, encrypted or decrypted."""
_ALPHABET = string.ascii_lowercase + string.digits
_NAME = re.compile(rf"(?:{'|'.join(source.value for source in VolumeSource)})-[a-z0-9]{{{NAME_CHARS}}}")
_LABEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")

log = get_logger(__name__)


class VolumeController:
    """All volumes below ``base``; call :meth:`load` before anything else.

    ``limit_bytes`` bounds what they take together, as far as this controller hands out room; zero means no bound but
    the disk. ``choose`` picks from a text: randomness, injected.
    """

    def __init__(
        self, store: Store, base: Path, *, limit_bytes: int = 0, choose: Callable[[str], str] = secrets.choice
    ) -> None:
        self.base = base
        self._limit_bytes = limit_bytes
        self._choose = choose
        self._volumes = Repository(store, table, VolumeRecord)
        self._store = store

    async def load(self) -> None:
        """Make the directories, and finish or undo what the last process left half done.

        A volume whose directory somebody has removed meanwhile is forgotten; not so when the base directory is gone
        itself, as it is when its disk is not mounted.
        """
        names = await self._store.run(self._forget_busy)
        with room_watched(self.base):
            is_there = await trio.to_thread.run_sync(self.base.is_dir)
            await trio.to_thread.run_sync(self._tidy, names)
            gone = await trio.to_thread.run_sync(self._missing, names) if is_there else ()
        for name in gone:
            log.warning("volume_forgotten", volume=name)
            await self._volumes.delete(name)

    # the operations of the contract -----------------------------------------------------------------------------------

    async def create(
        self,
        source: VolumeSource,
        *,
        private: bool = False,
        tenant: str = "",
        label: str = "",
        origin: str = "",
    ) -> Volume:
        """A new, empty volume: ``<base>/<source>-<16 random characters>``, open to every user of a sandbox.

        :raises StorageFull: no room for even that.
        """
        name = f"{source.value}-{''.join(self._choose(_ALPHABET) for _ in range(NAME_CHARS))}"
        record = VolumeRecord(
            name=name, source=source.value, private=private, tenant=tenant, label=label, origin=origin
        )
        path = self.base / name
        with room_watched(path):
            await trio.to_thread.run_sync(_make, path)
        try:
            return self._volume(await self._volumes.create(record, name))
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(remove_tree, path)
            raise

    async def lock(self, path: Path, *, private: bool | None = None, cid: str = "") -> Volume:
        """Let it change no more: read-only on the disk, its content id computed. ``cid``: it must be this one.

        :raises VolumeLocked: it is locked already.
        :raises VolumeInUse: somebody writes to it.
        :raises ContentMismatch: the content is not ``cid``; the volume stays open then.
        """
        wanted = CID.parse(cid) if cid else None
        volume = await self.get(path)
        async with self._busy(volume, _refuse_locked):
            content = await self._read(volume.path)
            if wanted is not None and not wanted.same_content(content.cid):
                raise ContentMismatch(f"the content of {volume.id} is {content.cid}, not {wanted}")
            with room_watched(volume.path):
                await trio.to_thread.run_sync(set_read_only, volume.path)
                await trio.to_thread.run_sync(sync_tree, volume.path)

            def done(record: VolumeRecord) -> VolumeRecord:
                return msgspec.structs.replace(
                    record,
                    cid=str(content.cid),
                    read_only=True,
                    private=record.private if private is None else private,
                    size_bytes=content.size_bytes,
                    files=content.files,
                )

            return await self._change(volume.id, done)

    async def delete(self, identifier: Path | str, kind: IDType = IDType.PATH) -> None:
        """Remove a volume with its content; by content id: all that have it.

        :raises VolumeNotFound: there is none.
        :raises VolumeInUse: somebody works with it; nothing is removed then.
        """
        volumes = await self._find(identifier, kind)

        def begin(session: Session) -> None:
            documents = self._volumes.on(session)
            for volume in volumes:
                record = documents.get(volume.id).value
                _refuse_used(record)
                documents.update(volume.id, msgspec.structs.replace(record, uses=(Use(owner=_BUSY, is_writing=True),)))

        def forget(session: Session) -> None:
            for volume in volumes:
                self._volumes.on(session).delete(volume.id)

        try:
            await self._store.run(begin)
        except RecordNotFound:
            raise VolumeNotFound(f"volume not found: {identifier}") from None
        with trio.CancelScope(shield=True):
            try:
                away = [await trio.to_thread.run_sync(self._put_away, volume.id) for volume in volumes]
            except BaseException:
                await self._store.run(self._forget_busy)
                raise
            # a record whose directory is gone is forgotten by the next start, never the other way round: a directory
            # without a record may be of a disk that comes back
            await self._store.run(forget)
            for path in away:
                await trio.to_thread.run_sync(remove_tree, path)

    async def list(self) -> tuple[Volume, ...]:
        """All volumes, oldest first."""
        return tuple(self._volume(record) for record in await self._volumes.find_all())

    async def get(self, identifier: Path | str, kind: IDType = IDType.PATH) -> Volume:
        """The volume of a path or content id.

        :raises VolumeNotFound: there is none.
        :raises UnsupportedIdentifier: an identifier of another kind.
        """
        return (await self._find(identifier, kind))[0]

    async def get_size(self, identifier: Path | str, kind: IDType = IDType.PATH) -> int:
        """Bytes of its content: counted now, unless it is locked."""
        return await self.size(await self.get(identifier, kind))

    async def size(self, volume: Volume) -> int:
        """The same, of a volume at hand."""
        if volume.is_locked or volume.is_sealed:
            return volume.record.size_bytes
        return (await trio.to_thread.run_sync(measure, volume.path)).size_bytes

    async def encrypt(self, path: Path, key: SealingKey) -> Volume:
        """Keep it as one encrypted file; its directory is gone then.

        :raises VolumeInUse: somebody works with it.
        :raises VolumeSealed: it is encrypted already.
        """
        volume = await self.get(path)
        async with self._busy(volume, _refuse_sealed_or_used):
            sealed = self._sealed(volume.id)
            extent = await trio.to_thread.run_sync(self._seal, volume.path, sealed, key)

            def done(record: VolumeRecord) -> VolumeRecord:
                return msgspec.structs.replace(
                    record,
                    encryption_type=EncryptionType.SECRETSTREAM.value,
                    size_bytes=record.size_bytes if record.read_only else extent.size_bytes,
                    files=record.files if record.read_only else extent.files,
                )

            changed = await self._change(volume.id, done)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._discard, volume.id)
            return changed

    async def decrypt(self, path: Path, key: SealingKey) -> Volume:
        """Make it a directory again. A locked volume is checked against its content id.

        :raises CannotUnseal: the key is wrong, or the file damaged; it stays encrypted then.
        :raises VolumeSealed: it is not encrypted.
        """
        volume = await self.get(path)
        async with self._busy(volume, _refuse_unsealed):
            await trio.to_thread.run_sync(self._unseal, volume, key)

            def done(record: VolumeRecord) -> VolumeRecord:
                return msgspec.structs.replace(
                    record, encryption_type="", size_bytes=record.size_bytes if record.read_only else 0
                )

            changed = await self._change(volume.id, done)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lambda: self._sealed(volume.id).unlink(missing_ok=True))
            return changed

    # who uses what ----------------------------------------------------------------------------------------------------

    async def acquire(self, volume: Volume, owner: str, *, write: bool = False, target: str = "") -> None:
        """Note that ``owner`` works with it: it is neither deleted nor encrypted until :meth:`release`. Again is fine.

        :raises VolumeLocked: ``write``, and it is locked.
        :raises VolumeSealed: it is encrypted.
        :raises VolumeInUse: it is being locked or encrypted at this moment.
        """

        def use(record: VolumeRecord) -> VolumeRecord:
            if record.encryption_type:
                raise VolumeSealed(f"the volume {record.name} is encrypted")
            if write and record.read_only:
                raise VolumeLocked(f"the volume {record.name} is locked")
            if any(other.owner == _BUSY for other in record.uses):
                raise VolumeInUse(f"the volume {record.name} is being changed")
            others = tuple(other for other in record.uses if (other.owner, other.target) != (owner, target))
            return msgspec.structs.replace(record, uses=(*others, Use(owner=owner, is_writing=write, target=target)))

        await self._change(volume.id, use)

    async def release(self, owner: str) -> tuple[Volume, ...]:
        """``owner`` works with none any more; private volumes that nobody uses then are deleted. Returns those left."""

        def drop(session: Session) -> list[Record[VolumeRecord]]:
            documents, touched = self._volumes.on(session), []
            for record in documents.find_all():
                uses = tuple(use for use in record.value.uses if use.owner != owner)
                if uses != record.value.uses:
                    touched.append(documents.update(record.id, msgspec.structs.replace(record.value, uses=uses)))
            return touched

        left = []
        for record in await self._store.run(drop):
            if record.value.private and not record.value.uses:
                await self.delete(self.base / record.id)
            else:
                left.append(self._volume(record))
        return tuple(left)

    async def release_all_but(self, owners: Collection[str]) -> None:
        """After a restart: whoever is not among ``owners`` works with nothing any more."""
        gone = {use.owner for volume in await self.list() for use in volume.record.uses} - set(owners)
        for owner in sorted(gone):
            await self.release(owner)

    # finding and room -------------------------------------------------------------------------------------------------

    async def named(self, tenant: str, label: str) -> Volume:
        """The volume that ``tenant`` calls ``label``, made at first sight. Other tenants never see it.

        :raises InvalidVolumeName: the label cannot be one.
        :raises TooLarge: the tenant has too many.
        """
        if not _LABEL.fullmatch(label):
            raise InvalidVolumeName(f"{label[:80]!r} cannot be the name of a volume")
        theirs = [volume for volume in await self.list() if volume.record.tenant == tenant]
        for volume in theirs:
            if volume.record.label == label:
                if not await trio.to_thread.run_sync(volume.path.exists):
                    with room_watched(volume.path):
                        await trio.to_thread.run_sync(_make, volume.path)
                return volume
        if len(theirs) >= MAX_LABELS:
            raise TooLarge(f"there are {MAX_LABELS} named volumes of this tenant already")
        return await self.create(VolumeSource.LOCAL, tenant=tenant, label=label)

    async def used_by(self, owner: str) -> dict[str, Volume]:
        """What ``owner`` works with, by where it is in its sandbox."""
        return {use.target: volume for volume in await self.list() for use in volume.record.uses if use.owner == owner}

    async def evict(self) -> int:
        """Delete downloads that are kept only because somebody may want them again; how many went."""
        gone = 0
        for volume in await self.list():
            if volume.record.origin and not volume.record.uses:
                try:
                    await self.delete(volume.path)
                    gone += 1
                except (VolumeInUse, VolumeNotFound):
                    continue
        return gone

    async def downloaded(self, origin: str) -> Volume | None:
        """A volume that was downloaded from ``origin`` and may be shared, if there is one."""
        for volume in await self.list():
            if volume.record.origin == origin and volume.is_locked and not (volume.is_private or volume.is_sealed):
                return volume
        return None

    async def used_bytes(self) -> int:
        """What all volumes hold together."""
        return sum(
            [await self.size(volume) for volume in await self.list() if volume.path.exists() or volume.is_sealed]
        )

    async def room_bytes(self) -> int | None:
        """How much may still be added; ``None``: only the disk says.

        :raises StorageFull: nothing.
        """
        if not self._limit_bytes:
            return None
        left = self._limit_bytes - await self.used_bytes()
        if left <= 0:
            raise StorageFull(f"the volumes take all of their {self._limit_bytes} bytes")
        return left

    def staging(self, origin: str) -> Path:
        """Where a download from ``origin`` is gathered, also over several attempts; not made here."""
        return self.base / STAGING / hashlib.sha256(origin.encode()).hexdigest()[:32]

    # inside -----------------------------------------------------------------------------------------------------------

    async def _find(self, identifier: Path | str, kind: IDType) -> tuple[Volume, ...]:
        if kind is IDType.PATH:
            path = Path(identifier)
            if path.parent == self.base and _NAME.fullmatch(path.name):
                try:
                    return (self._volume(await self._volumes.get(path.name)),)
                except RecordNotFound:
                    pass
            raise VolumeNotFound(f"volume not found: {path}")
        if kind is IDType.CID:
            wanted = CID.parse(str(identifier))
            volumes = await self.list()
            found = tuple(v for v in volumes if v.cid and CID.parse(v.cid).same_content(wanted))
            if not found:
                raise VolumeNotFound(f"volume not found: {identifier}")
            return found
        raise UnsupportedIdentifier

    async def _change(self, name: str, change: Callable[[VolumeRecord], VolumeRecord]) -> Volume:
        def apply(session: Session) -> Record[VolumeRecord]:
            documents = self._volumes.on(session)
            try:
                record = documents.get(name).value
            except RecordNotFound:
                raise VolumeNotFound(f"volume not found: {self.base / name}") from None
            return documents.update(name, change(record))

        return self._volume(await self._store.run(apply))

    @asynccontextmanager
    async def _busy(self, volume: Volume, check: Callable[[VolumeRecord], None]) -> AsyncIterator[None]:
        """Keep everybody else from it."""

        def begin(record: VolumeRecord) -> VolumeRecord:
            check(record)
            if any(use.is_writing for use in record.uses):
                raise VolumeInUse(f"the volume {record.name} is in use")
            return msgspec.structs.replace(record, uses=(*record.uses, Use(owner=_BUSY, is_writing=True)))

        def end(record: VolumeRecord) -> VolumeRecord:
            return msgspec.structs.replace(record, uses=tuple(use for use in record.uses if use.owner != _BUSY))

        await self._change(volume.id, begin)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self._change(volume.id, end)

    async def _read(self, path: Path) -> Content:
        return await trio.to_thread.run_sync(read_content, path)

    def _volume(self, record: Record[VolumeRecord]) -> Volume:
        return Volume(record.id, self.base / record.id, record.value, record.created_at_ns, record.updated_at_ns)

    def _sealed(self, name: str) -> Path:
        return self.base / SEALED / f"{name}.sealed"

    def _seal(self, path: Path, sealed: Path, key: SealingKey) -> Content:
        sealed.unlink(missing_ok=True)  # of an attempt that did not end
        content = read_content(path)
        seal(path, sealed, key)
        sync_directory(sealed.parent)
        return content

    def _unseal(self, volume: Volume, key: SealingKey) -> None:
        remove_tree(volume.path)  # of an attempt that did not end
        staging = self.base / STAGING / volume.id
        remove_tree(staging)
        with room_watched(staging):
            _make(staging)
        try:
            unseal(self._sealed(volume.id), staging, key)
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

    def _put_away(self, name: str) -> Path:
        """Out of sight at once; where it is then, to be removed, however long that takes."""
        path, away = self.base / name, self.base / TRASH / f"{name}-{secrets.token_hex(4)}"
        with room_watched(path):
            if path.exists():
                path.chmod(0o700)  # a directory that is moved must be writable, as it knows its parent
                path.rename(away)
            self._sealed(name).unlink(missing_ok=True)
            sync_directory(self.base)
        return away

    def _discard(self, name: str) -> None:
        """The directory of a volume that is encrypted now."""
        path, away = self.base / name, self.base / TRASH / f"{name}-{secrets.token_hex(4)}"
        with room_watched(path):
            path.chmod(0o700)
            path.rename(away)
            sync_directory(self.base)
        remove_tree(away)

    def _forget_busy(self, session: Session) -> dict[str, bool]:
        """The names that have records, and whether they are encrypted; locks of the last process are lifted."""
        documents, names = self._volumes.on(session), {}
        for record in documents.find_all():
            uses = tuple(use for use in record.value.uses if use.owner != _BUSY)
            if uses != record.value.uses:
                documents.update(record.id, msgspec.structs.replace(record.value, uses=uses))
            names[record.id] = bool(record.value.encryption_type)
        return names

    def _tidy(self, names: dict[str, bool]) -> None:
        for directory in (self.base, *(self.base / part for part in (SEALED, STAGING, TRASH))):
            make_private_directory(directory)
        for path in self.base.iterdir():
            if not _NAME.fullmatch(path.name):
                continue
            if names.get(path.name):  # it is encrypted, and this was not finished
                self._try_remove(path)
            elif path.name not in names:
                try:
                    path.rmdir()  # never acknowledged: it is empty
                except OSError:
                    log.warning("volume_unknown", path=str(path))  # somebody's data: not ours to remove
        for path in (self.base / SEALED).iterdir():
            if names.get(path.name.removesuffix(".sealed")) is False:  # encrypting it was not finished
                self._try_remove(path)
        for path in (self.base / TRASH).iterdir():
            self._try_remove(path)
        oldest_s = time.time() - MAX_STAGING_AGE_S
        for path in (self.base / STAGING).iterdir():
            if _NAME.fullmatch(path.name) or path.lstat().st_mtime < oldest_s:
                self._try_remove(path)

    def _missing(self, names: dict[str, bool]) -> tuple[str, ...]:
        places = {name: self._sealed(name) if sealed else self.base / name for name, sealed in names.items()}
        return tuple(name for name, place in places.items() if not place.exists())

    @staticmethod
    def _try_remove(path: Path) -> None:
        try:
            remove_tree(path)
        except StorageError as exc:
            log.error("volume_not_removed", path=str(path), error=exc.message)


def _make(path: Path) -> None:
    path.mkdir(mode=0o777)
    path.chmod(0o777)  # whoever a sandbox runs as; the base directory above it is private
    sync_directory(path.parent)


def _refuse_locked(record: VolumeRecord) -> None:
    _refuse_sealed(record)
    if record.read_only:
        raise VolumeLocked(f"the volume {record.name} is locked")


def _refuse_sealed(record: VolumeRecord) -> None:
    if record.encryption_type:
        raise VolumeSealed(f"the volume {record.name} is encrypted")


def _refuse_used(record: VolumeRecord) -> None:
    if record.uses:
        owners = ", ".join(sorted({use.owner for use in record.uses}))
        raise VolumeInUse(f"the volume {record.name} is in use by {owners[:200]}")


def _refuse_sealed_or_used(record: VolumeRecord) -> None:
    _refuse_sealed(record)
    _refuse_used(record)


def _refuse_unsealed(record: VolumeRecord) -> None:
    if not record.encryption_type:
        raise VolumeSealed(f"the volume {record.name} is not encrypted")
