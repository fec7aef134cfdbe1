"""Content from elsewhere as volumes, and volumes to elsewhere: the providers and the controller together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import trio

from dms.observe import get_logger
from dms.storage.controller import VolumeController
from dms.storage.errors import InvalidStorageSpec, StorageFull, TransferFailed
from dms.storage.transfer import Gathering, Limits, Meter, OnProgress, Provider
from dms.storage.tree import remove_tree, room_watched, set_shared
from dms.storage.volume import Volume, VolumeSource
from dms.types import gojson
from dms.types.resources import SpecConfig

log = get_logger(__name__)


class Library:
    """Downloads and uploads; each download becomes a volume."""

    def __init__(
        self, controller: VolumeController, providers: Iterable[Provider], limits: Limits | None = None
    ) -> None:
        self._controller = controller
        self._providers = {provider.type: provider for provider in providers}
        self._limits = limits or Limits()
        self._locks: dict[str, trio.Lock] = {}

    def knows(self, type_: str) -> bool:
        """Whether there is a provider of this type."""
        return type_ in self._providers

    def check(self, spec: SpecConfig) -> None:
        """Look at a specification without doing anything.

        :raises InvalidStorageSpec: it cannot work, with the reason.
        """
        self._provider(spec).check(spec)

    def check_target(self, spec: SpecConfig) -> None:
        """The same, of one to upload to.

        :raises InvalidStorageSpec: it cannot work, with the reason.
        """
        self._provider(spec).check_target(spec)

    async def size(self, spec: SpecConfig) -> int:
        """Bytes of content behind it."""
        return await self._provider(spec).size(spec)

    async def fetch(
        self,
        spec: SpecConfig,
        *,
        private: bool = False,
        writable: bool = False,
        max_bytes: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Volume:
        """A volume with the content: locked, or, where it must be ``writable``, a copy of its own.

        What is named by its hash is downloaded once, shared and kept, unless it is ``private``; everything else is
        private, and goes with its last user. A download that breaks off
        is resumed by the next one of the same specification, also after a restart.

        :raises StorageError: of the provider, or no room.
        """
        provider = self._provider(spec)
        provider.check(spec)
        origin = gojson.encode(spec).decode()
        is_shared = _is_named_by_hash(spec) and not (private or writable)
        async with self._locks.setdefault(origin, trio.Lock()):
            try:
                found = await self._controller.downloaded(self._controller.staging(origin).name) if is_shared else None
                return found or await self._download(
                    provider, spec, origin, writable, is_shared, max_bytes, on_progress
                )
            finally:
                if not self._locks[origin].statistics().tasks_waiting:
                    self._locks.pop(origin, None)

    async def send(self, directory: Path, target: SpecConfig, *, on_progress: OnProgress | None = None) -> SpecConfig:
        """Upload a directory; where it is then, without secrets."""
        return await self._provider(target).upload(directory, target, Meter(self._limits, on_progress))

    async def _download(
        self,
        provider: Provider,
        spec: SpecConfig,
        origin: str,
        writable: bool,  # noqa: FBT001
        is_shared: bool,  # noqa: FBT001
        max_bytes: int | None,
        on_progress: OnProgress | None,
    ) -> Volume:
        gathering = Gathering(self._controller.staging(origin))
        meter = Meter(await self._limits_now(max_bytes), on_progress)
        try:
            await provider.download(spec, gathering, meter)
        except (TransferFailed, trio.Cancelled):
            raise  # what came stays for the next attempt
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(remove_tree, gathering.root)
            raise
        source = _SOURCES.get(provider.type, VolumeSource.PLUGIN)
        volume = await self._controller.create(
            source, private=not is_shared, origin=gathering.root.name if is_shared else ""
        )
        try:
            with room_watched(volume.path):
                await trio.to_thread.run_sync(_move, gathering.content, volume.path)
            if writable:
                await trio.to_thread.run_sync(set_shared, volume.path)
            else:
                volume = await self._controller.lock(volume.path)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._controller.delete(volume.path)
                await trio.to_thread.run_sync(remove_tree, gathering.root)
            raise
        await trio.to_thread.run_sync(remove_tree, gathering.root)
        log.info("volume_downloaded", volume=volume.id, source=provider.type, bytes=meter.progress.done_bytes)
        return volume

    async def _limits_now(self, max_bytes: int | None) -> Limits:
        try:
            room = await self._controller.room_bytes()
        except StorageFull:
            if not await self._controller.evict():
                raise
            room = await self._controller.room_bytes()
        bounds = [self._limits.max_bytes, room, max_bytes]
        return Limits(min(bound for bound in bounds if bound is not None), self._limits.max_files)

    def _provider(self, spec: SpecConfig) -> Provider:
        kind = spec.type.strip().lower()
        provider = self._providers.get("http" if kind == "https" else kind)
        if provider is None:
            known = ", ".join(sorted(self._providers))
            raise InvalidStorageSpec(f"unsupported storage type: {kind[:80]}", hint=f"known are {known}")
        return provider


_SOURCES = {"s3": VolumeSource.S3, "ipfs": VolumeSource.IPFS, "http": VolumeSource.HTTP}


def _is_named_by_hash(spec: SpecConfig) -> bool:
    names = {name.lower() for name, value in spec.params.items() if value}
    return bool(names & {"cid", "sha256"})


def _move(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)
