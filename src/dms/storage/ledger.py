"""What is known of the volumes of this machine, and who uses which: the records, without what they are about.

Who works with a volume is noted before it does. Whoever locks, encrypts or decrypts one has it for itself meanwhile; a
process that dies in the middle leaves that note behind, and the next one knows by it which volumes to look after.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from dms.storage.cid import CID
from dms.storage.errors import UnsupportedIdentifier, VolumeInUse, VolumeLocked, VolumeNotFound, VolumeSealed
from dms.storage.volume import IDType, Use, Volume, VolumeRecord, is_volume_name
from dms.store import Record, RecordNotFound, Repository, Session, Store
from dms.store.schema import volumes as table

BUSY = "(this program)"
"""Who uses a volume while it is being locked, encrypted or decrypted."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the last process left of one volume."""

    is_sealed: bool
    is_locked: bool
    was_busy: bool
    """It was being changed when the process ended."""


class VolumeLedger:
    """The records of all volumes below ``base``."""

    def __init__(self, store: Store, base: Path) -> None:
        self._base = base
        self._store = store
        self._volumes = Repository(store, table, VolumeRecord)

    async def all(self) -> tuple[Volume, ...]:
        """Oldest first."""
        return tuple(self._volume(record) for record in await self._volumes.find_all())

    async def add(self, record: VolumeRecord) -> Volume:
        """A new one; on the disk when this returns."""
        return self._volume(await self._volumes.create(record, record.name))

    async def find(self, identifier: Path | str, kind: IDType) -> tuple[Volume, ...]:
        """Those of a path or content id; at least one.

        :raises VolumeNotFound: there is none.
        :raises UnsupportedIdentifier: an identifier of another kind.
        """
        if kind is IDType.PATH:
            path = Path(identifier)
            if path.parent == self._base and is_volume_name(path.name):
                try:
                    return (self._volume(await self._volumes.get(path.name)),)
                except RecordNotFound:
                    pass
            raise VolumeNotFound(f"volume not found: {path}")
        if kind is IDType.CID:
            wanted = CID.parse(str(identifier))
            found = tuple(v for v in await self.all() if v.cid and CID.parse(v.cid).same_content(wanted))
            if not found:
                raise VolumeNotFound(f"volume not found: {identifier}")
            return found
        raise UnsupportedIdentifier

    async def change(self, name: str, change: Callable[[VolumeRecord], VolumeRecord]) -> Volume:
        """Put ``change`` of a record in its place; what it raises leaves all as it is.

        :raises VolumeNotFound: there is none.
        """

        def apply(session: Session) -> Record[VolumeRecord]:
            documents = self._volumes.on(session)
            try:
                record = documents.get(name).value
            except RecordNotFound:
                raise VolumeNotFound(f"volume not found: {self._base / name}") from None
            return documents.update(name, change(record))

        return self._volume(await self._store.run(apply))

    @asynccontextmanager
    async def busy(self, volume: Volume, check: Callable[[VolumeRecord], None]) -> AsyncIterator[None]:
        """Keep everybody else from it; ``check`` says whether that may be.

        :raises VolumeInUse: somebody writes to it.
        """

        def begin(record: VolumeRecord) -> VolumeRecord:
            check(record)
            if any(use.is_writing for use in record.uses):
                raise VolumeInUse(f"the volume {record.name} is in use")
            return msgspec.structs.replace(record, uses=(*record.uses, Use(owner=BUSY, is_writing=True)))

        def end(record: VolumeRecord) -> VolumeRecord:
            return msgspec.structs.replace(record, uses=tuple(use for use in record.uses if use.owner != BUSY))

        await self.change(volume.id, begin)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self.change(volume.id, end)

    async def claim(self, volumes: Collection[Volume]) -> None:
        """All of them for us alone, or none, before they are deleted.

        :raises VolumeInUse: somebody works with one.
        :raises VolumeNotFound: one is gone.
        """

        def begin(session: Session) -> None:
            documents = self._volumes.on(session)
            for volume in volumes:
                try:
                    record = documents.get(volume.id).value
                except RecordNotFound:
                    raise VolumeNotFound(f"volume not found: {volume.path}") from None
                refuse_used(record)
                documents.update(volume.id, msgspec.structs.replace(record, uses=(Use(owner=BUSY, is_writing=True),)))

        await self._store.run(begin)

    async def unclaim(self, volumes: Collection[Volume]) -> None:
        """They are not deleted after all."""
        for volume in volumes:
            await self.change(volume.id, lambda record: msgspec.structs.replace(record, uses=()))

    async def forget(self, names: Collection[str]) -> None:
        """They are gone."""

        def forget(session: Session) -> None:
            for name in names:
                self._volumes.on(session).delete(name)

        await self._store.run(forget)

    async def settle(self) -> dict[str, Remembered]:
        """All that there are by name, as the last process left them; that it was busy with some is forgotten with this."""

        def settle(session: Session) -> dict[str, Remembered]:
            documents, found = self._volumes.on(session), {}
            for record in documents.find_all():
                uses = tuple(use for use in record.value.uses if use.owner != BUSY)
                was_busy = uses != record.value.uses
                if was_busy:
                    documents.update(record.id, msgspec.structs.replace(record.value, uses=uses))
                found[record.id] = Remembered(bool(record.value.encryption_type), record.value.read_only, was_busy)
            return found

        return await self._store.run(settle)

    async def acquire(self, volume: Volume, owner: str, *, write: bool, target: str) -> None:
        """See :meth:`dms.storage.controller.VolumeController.acquire`."""

        def use(record: VolumeRecord) -> VolumeRecord:
            refuse_sealed(record)
            if write and record.read_only:
                raise VolumeLocked(f"the volume {record.name} is locked")
            if any(other.owner == BUSY for other in record.uses):
                raise VolumeInUse(f"the volume {record.name} is being changed")
            others = tuple(other for other in record.uses if (other.owner, other.target) != (owner, target))
            return msgspec.structs.replace(record, uses=(*others, Use(owner=owner, is_writing=write, target=target)))

        await self.change(volume.id, use)

    async def release(self, owner: str) -> tuple[Volume, ...]:
        """``owner`` works with none any more; those that it did work with."""

        def drop(session: Session) -> list[Record[VolumeRecord]]:
            documents, touched = self._volumes.on(session), []
            for record in documents.find_all():
                uses = tuple(use for use in record.value.uses if use.owner != owner)
                if uses != record.value.uses:
                    touched.append(documents.update(record.id, msgspec.structs.replace(record.value, uses=uses)))
            return touched

        return tuple(self._volume(record) for record in await self._store.run(drop))

    def _volume(self, record: Record[VolumeRecord]) -> Volume:
        return Volume(record.id, self._base / record.id, record.value, record.created_at_ns, record.updated_at_ns)


def refuse_locked(record: VolumeRecord) -> None:
    """:raises VolumeLocked: it changes no more."""
    refuse_sealed(record)
    if record.read_only:
        raise VolumeLocked(f"the volume {record.name} is locked")


def refuse_sealed(record: VolumeRecord) -> None:
    """:raises VolumeSealed: it is encrypted."""
    if record.encryption_type:
        raise VolumeSealed(f"the volume {record.name} is encrypted")


def refuse_used(record: VolumeRecord) -> None:
    """:raises VolumeInUse: somebody works with it."""
    if record.uses:
        owners = ", ".join(sorted({use.owner for use in record.uses}))
        raise VolumeInUse(f"the volume {record.name} is in use by {owners[:200]}")
