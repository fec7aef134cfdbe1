"""The volumes of this machine: made, locked, used, encrypted, deleted (``spec/execution.md`` 6.2).

A volume is a directory (:mod:`~dms.storage.shelf`) and a record (:mod:`~dms.storage.ledger`). What is acknowledged is on
the disk; when the process dies between the two, :meth:`VolumeController.load` brings them together again: an empty
directory without a record was never acknowledged and goes; so does a record whose directory is gone, which was being
deleted.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import trio

from dms.observe import get_logger
from dms.storage.cid import CID
from dms.storage.content import read_content
from dms.storage.errors import (
    ContentMismatch,
    InvalidVolumeName,
    StorageFull,
    TooLarge,
    VolumeInUse,
    VolumeNotFound,
    VolumeNotLocked,
    VolumeSealed,
)
from dms.storage.ledger import VolumeLedger, refuse_locked, refuse_sealed, refuse_used
from dms.storage.sealing import SealingKey
from dms.storage.shelf import Shelf
from dms.storage.tree import Extent, measure, remove_tree, room_watched
from dms.storage.volume import NAME_CHARS, EncryptionType, IDType, Volume, VolumeRecord, VolumeSource, is_label
from dms.store import Store

MAX_LABELS = 32
"""Named volumes that one tenant may have here."""
_ALPHABET = string.ascii_lowercase + string.digits

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
        self._ledger = VolumeLedger(store, base)
        self._shelf = Shelf(base)

    async def load(self) -> None:
        """Make the directories, and finish or undo what the last process left half done.

        A volume whose directory somebody has removed meanwhile is forgotten; not so when the base directory is gone
        itself, as it is when its disk is not mounted.
        """
        known = await self._ledger.settle()
        with room_watched(self.base):
            gone = await trio.to_thread.run_sync(self._shelf.tidy, known)
        for name in gone:
            log.warning("volume_forgotten", volume=name)
        await self._ledger.forget(gone)

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
        await trio.to_thread.run_sync(self._shelf.make, path)
        try:
            return await self._ledger.add(record)
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
        async with self._ledger.busy(volume, refuse_locked):
            content = await trio.to_thread.run_sync(read_content, volume.path)
            if wanted is not None and not wanted.same_content(content.cid):
                raise ContentMismatch(f"the content of {volume.id} is {content.cid}, not {wanted}")
            await trio.to_thread.run_sync(self._shelf.close, volume.path)

            def done(record: VolumeRecord) -> VolumeRecord:
                return msgspec.structs.replace(
                    record,
                    cid=str(content.cid),
                    read_only=True,
                    private=record.private if private is None else private,
                    size_bytes=content.size_bytes,
                    files=content.files,
                )

            await self._ledger.change(volume.id, done)
        return await self.get(path)

    async def unlock(self, path: Path) -> Volume:
        """Let it change again: it has no content id then, and is no longer what a download brought.

        :raises VolumeNotLocked: it is open already.
        :raises VolumeInUse: somebody reads it, who counts on its not changing.
        """
        volume = await self.get(path)
        async with self._ledger.busy(volume, _refuse_open_or_used):
            await trio.to_thread.run_sync(self._shelf.open, volume.path)

            def done(record: VolumeRecord) -> VolumeRecord:
                return msgspec.structs.replace(record, cid="", read_only=False, size_bytes=0, files=0, origin="")

            await self._ledger.change(volume.id, done)
        return await self.get(path)

    async def delete(self, identifier: Path | str, kind: IDType = IDType.PATH) -> None:
        """Remove a volume with its content; by content id: all that have it.

        :raises VolumeNotFound: there is none.
        :raises VolumeInUse: somebody works with it; nothing is removed then.
        """
        volumes = await self._ledger.find(identifier, kind)
        await self._ledger.claim(volumes)
        with trio.CancelScope(shield=True):
            try:
                away = [await trio.to_thread.run_sync(self._shelf.put_away, volume.id) for volume in volumes]
            except BaseException:
                await self._ledger.unclaim(volumes)
                raise
            # a record whose directory is gone is forgotten by the next start, never the other way round: a directory
            # without a record may be of a disk that comes back
            await self._ledger.forget([volume.id for volume in volumes])
            for path in away:
                await trio.to_thread.run_sync(remove_tree, path)

    async def list(self) -> tuple[Volume, ...]:
        """All volumes, oldest first."""
        return await self._ledger.all()

    async def get(self, identifier: Path | str, kind: IDType = IDType.PATH) -> Volume:
        """The volume of a path or content id.

        :raises VolumeNotFound: there is none.
        :raises UnsupportedIdentifier: an identifier of another kind.
        """
        return (await self._ledger.find(identifier, kind))[0]

    async def get_size(self, identifier: Path | str, kind: IDType = IDType.PATH) -> int:
        """Bytes of its content: counted now, unless it is locked."""
        return await self.size(await self.get(identifier, kind))

    async def size(self, volume: Volume) -> int:
        """The same, of a volume at hand."""
        if volume.is_locked or volume.is_sealed:
            return volume.record.size_bytes
        return (await self.extent(volume)).size_bytes

    async def extent(self, volume: Volume) -> Extent:
        """Bytes and files of one that is not encrypted, counted now."""
        return await trio.to_thread.run_sync(measure, volume.path)

    async def encrypt(self, path: Path, key: SealingKey) -> Volume:
        """Keep it as one encrypted file; its directory is gone then.

        :raises VolumeInUse: somebody works with it.
        :raises VolumeSealed: it is encrypted already.
        """
        volume = await self.get(path)
        async with self._ledger.busy(volume, _refuse_sealed_or_used):
            extent = await trio.to_thread.run_sync(self._shelf.seal, volume, key)

            def done(record: VolumeRecord) -> VolumeRecord:
                return msgspec.structs.replace(
                    record,
                    encryption_type=EncryptionType.SECRETSTREAM.value,
                    size_bytes=record.size_bytes if record.read_only else extent.size_bytes,
                    files=record.files if record.read_only else extent.files,
                )

            await self._ledger.change(volume.id, done)
            with trio.CancelScope(shield=True):
                away = await trio.to_thread.run_sync(lambda: self._shelf.put_away(volume.id, keep_sealed=True))
                await trio.to_thread.run_sync(remove_tree, away)
        return await self.get(path)

    async def decrypt(self, path: Path, key: SealingKey) -> Volume:
        """Make it a directory again. A locked volume is checked against its content id.

        :raises CannotUnseal: the key is wrong, or the file damaged; it stays encrypted then.
        :raises VolumeSealed: it is not encrypted.
        """
        volume = await self.get(path)
        async with self._ledger.busy(volume, _refuse_unsealed):
            await trio.to_thread.run_sync(self._shelf.unseal, volume, key)

            def done(record: VolumeRecord) -> VolumeRecord:
                return msgspec.structs.replace(
                    record, encryption_type="", size_bytes=record.size_bytes if record.read_only else 0
                )

            await self._ledger.change(volume.id, done)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lambda: self._shelf.sealed(volume.id).unlink(missing_ok=True))
        return await self.get(path)

    # who uses what ----------------------------------------------------------------------------------------------------

    async def acquire(self, volume: Volume, owner: str, *, write: bool = False, target: str = "") -> None:
        """Note that ``owner`` works with it: it is neither deleted nor encrypted until :meth:`release`. Again is fine.

        :raises VolumeLocked: ``write``, and it is locked.
        :raises VolumeSealed: it is encrypted.
        :raises VolumeInUse: it is being locked or encrypted at this moment.
        """
        await self._ledger.acquire(volume, owner, write=write, target=target)

    async def release(self, owner: str) -> tuple[Volume, ...]:
        """``owner`` works with none any more; private volumes that nobody uses then are deleted. Returns those left."""
        left = []
        for volume in await self._ledger.release(owner):
            if volume.is_private and not volume.record.uses:
                await self.delete(volume.path)
            else:
                left.append(volume)
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
        if not is_label(label):
            raise InvalidVolumeName(f"{label[:80]!r} cannot be the name of a volume")
        theirs = [volume for volume in await self.list() if volume.record.tenant == tenant]
        for volume in theirs:
            if volume.record.label == label:
                if not await trio.to_thread.run_sync(volume.path.exists):
                    await trio.to_thread.run_sync(self._shelf.make, volume.path)
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
        return self._shelf.staging(origin)


def _refuse_sealed_or_used(record: VolumeRecord) -> None:
    refuse_sealed(record)
    refuse_used(record)


def _refuse_open_or_used(record: VolumeRecord) -> None:
    _refuse_sealed_or_used(record)
    if not record.read_only:
        raise VolumeNotLocked(f"the volume {record.name} is not locked", hint="")


def _refuse_unsealed(record: VolumeRecord) -> None:
    if not record.encryption_type:
        raise VolumeSealed(f"the volume {record.name} is not encrypted")
