"""From what an allocation wants to see to directories of this machine that its sandbox can be given, and back.

:meth:`Volumes.prepare` before the workload, :meth:`Volumes.finish` after it; both may be called again, also after a
restart: what an allocation uses is kept with the volumes, under its id and the path in its sandbox.
"""

from __future__ import annotations

import posixpath
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from dms.identity.files import make_private_directory
from dms.observe import get_logger
from dms.storage.controller import VolumeController
from dms.storage.errors import InvalidStorageSpec, StorageError, TooLarge
from dms.storage.gluster import GlusterClient, GlusterParams
from dms.storage.library import Library
from dms.storage.local import LocalDirectories
from dms.storage.mounts import Mounter
from dms.storage.room import room_taken
from dms.storage.transfer import OnProgress
from dms.storage.tree import open_file, remove_tree, room_watched, walk
from dms.types.errors import DMSError
from dms.types.resources import SpecConfig

MAX_VOLUMES = 32
REMOTE = ("s3", "http", "https", "ipfs")
_OWNER = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,255}")
_SECRETS = ".secrets-"
_READER = ".reading-"
_CLOSED_TARGETS = ("/proc", "/sys", "/dev")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """One volume that an allocation wants to see at ``target``.

    ``type`` ``local``: ``src`` is an absolute path, or the name of a volume of the tenant's own. ``glusterfs``: ``name`` and
    ``servers``. ``s3``, ``http`` and ``ipfs``: ``params`` of the provider. ``upload``: where its content goes in the end.
    """

    type: str
    target: str
    read_only: bool = False
    src: str = ""
    name: str = ""
    servers: tuple[str, ...] = ()
    client_private_key: str = field(default="", repr=False)
    client_pem: str = field(default="", repr=False)
    client_ca: str = field(default="", repr=False)
    params: dict[str, object] = field(default_factory=dict, repr=False)
    upload: SpecConfig | None = field(default=None, repr=False)

    @property
    def source(self) -> SpecConfig:
        """What a remote one is downloaded from."""
        return SpecConfig(type=self.type, params=self.params)

    @property
    def gluster(self) -> GlusterParams:
        """What one of glusterfs is mounted from.

        :raises InvalidStorageSpec: it cannot be.
        """
        return GlusterParams(self.name, self.servers, self.client_private_key, self.client_pem, self.client_ca)


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory of this machine and where a sandbox sees it."""

    source: Path
    target: str
    read_only: bool


class Volumes:
    """Prepares volumes below ``base`` (``<base>/<owner>/<directory>``) and cleans up."""

    def __init__(
        self,
        base: Path,
        controller: VolumeController,
        library: Library,
        local: LocalDirectories,
        gluster: GlusterClient,
        mounter: Mounter,
    ) -> None:
        self._base = base
        self._controller = controller
        self._library = library
        self._local = local
        self._gluster = gluster
        self._mounter = mounter
        self._counting = trio.Lock()

    @property
    def controller(self) -> VolumeController:
        """All volumes of this machine, for its owner."""
        return self._controller

    def check(self, requests: Sequence[VolumeRequest]) -> None:
        """See whether all of it could be prepared here, without doing anything.

        :raises StorageError: it could not, with the reason.
        """
        if len(requests) > MAX_VOLUMES:
            raise InvalidStorageSpec(f"an allocation has at most {MAX_VOLUMES} volumes")
        targets = [_check_target(request.target) for request in requests]
        if len(set(targets)) < len(targets):
            raise InvalidStorageSpec("two volumes have the same place in the sandbox")
        for request in requests:
            if request.type == "local" and request.src.startswith("/"):
                self._local.check(request.src)
            elif request.type == "glusterfs":
                _ = request.gluster
                self._gluster.check()
            elif self._is_remote(request):
                self._library.check(request.source)
            elif request.type != "local":
                raise InvalidStorageSpec(f"unsupported storage type: {request.type[:80]}")
            if request.upload is not None:
                if request.read_only:
                    raise InvalidStorageSpec("what is read-only has nothing to upload")
                self._library.check_target(request.upload)

    def _is_remote(self, request: VolumeRequest) -> bool:
        return request.type in REMOTE or self._library.knows(request.type)

    async def prepare(
        self,
        owner: str,
        tenant: str,
        requests: Sequence[VolumeRequest],
        *,
        max_bytes: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[Bind, ...]:
        """Make everything ready, in order; ``max_bytes`` bounds what is downloaded together.

        ``owner`` is the allocation, ``tenant`` whose named volumes it sees.

        :raises StorageError: it cannot be; nothing is held then that was not held before.
        """
        if not _OWNER.fullmatch(owner):
            raise InvalidStorageSpec(f"{owner[:80]!r} cannot have volumes")
        self.check(requests)
        held = await self._controller.used_by(owner)
        binds: list[Bind] = []
        left = max_bytes
        try:
            for index, request in enumerate(requests):
                target = _check_target(request.target)
                known = held.get(target)
                if known is not None:
                    binds.append(Bind(known.path, target, request.read_only))
                elif request.type == "local" and not request.src.startswith("/"):
                    volume = await self._controller.named(tenant, request.src)
                    await self._controller.acquire(volume, owner, write=not request.read_only, target=target)
                    binds.append(Bind(volume.path, target, request.read_only))
                elif self._is_remote(request):
                    volume = await self._library.fetch(
                        request.source, writable=not request.read_only, max_bytes=left, on_progress=on_progress
                    )
                    await self._controller.acquire(volume, owner, write=not request.read_only, target=target)
                    left = None if left is None else max(0, left - await self._controller.size(volume))
                    binds.append(Bind(volume.path, target, request.read_only))
                else:
                    binds.append(await self._mounted(owner, index, request, target))
        except BaseException:
            with trio.CancelScope(shield=True):
                if not held:
                    await self.release(owner)
            raise
        return tuple(binds)

    async def read_file(self, source: SpecConfig, *, max_bytes: int) -> bytes:
        """The content of the one file that ``source`` names, such as a program. What is named by its hash is downloaded
        once and kept, as volumes are.

        :raises StorageError: it cannot be had, is larger, or is not one file.
        """
        volume = await self._library.fetch(source, max_bytes=max_bytes)
        reader = f"{_READER}{secrets.token_hex(8)}"
        await self._controller.acquire(volume, reader)
        try:
            return await trio.to_thread.run_sync(_only_file, volume.path, max_bytes)
        finally:
            with trio.CancelScope(shield=True):
                await self._controller.release(reader)

    async def finish(self, owner: str, requests: Sequence[VolumeRequest]) -> tuple[SpecConfig, ...]:
        """:meth:`upload`, then :meth:`release`.

        :raises StorageError: an upload failed; nothing is released then, and it may be tried again.
        """
        sent = await self.upload(owner, requests)
        await self.release(owner)
        return sent

    async def upload(
        self, owner: str, requests: Sequence[VolumeRequest], *, on_progress: OnProgress | None = None
    ) -> tuple[SpecConfig, ...]:
        """After the workload: upload what is to be uploaded; where it is then, without secrets.

        :raises StorageError: an upload failed; it may be tried again.
        """
        if not any(request.upload for request in requests):
            return ()
        places = {target: volume.path for target, volume in (await self._controller.used_by(owner)).items()}
        sent = []
        for index, request in enumerate(requests):
            if request.upload is None:
                continue
            directory = places.get(_check_target(request.target)) or self._place(owner, index, request)
            if not await trio.to_thread.run_sync(directory.is_dir):
                continue  # it never came so far
            sent.append(await self._library.send(directory, request.upload, on_progress=on_progress))
        return tuple(sent)

    async def check_room(self, owner: str, limit_bytes: int) -> None:
        """Look how much disk the volumes take that ``owner`` can write; of directories that the machine's owner opened,
        and of other machines' volumes, nothing counts.

        :raises TooLarge: more than ``limit_bytes``, or more files than are allowed.
        """
        used = (await self._controller.used_by(owner)).values()
        paths = {volume.path for volume in used for use in volume.record.uses if use.owner == owner and use.is_writing}
        async with self._counting:  # one at a time, so that many workloads cost no more than one
            await trio.to_thread.run_sync(room_taken, sorted(paths), limit_bytes, abandon_on_cancel=True)

    async def release(self, owner: str) -> None:
        """Unmount and let go; downloads that only it had are deleted. Again is fine."""
        directory = self._base / owner
        with trio.CancelScope(shield=True):
            await self._unmount_below(directory)
            try:
                await self._controller.release(owner)
            except DMSError as exc:  # what cannot be removed must not keep everything else
                log.error("volumes_not_released", owner=owner, error=exc.message)

    async def restore(self, owners: Collection[str]) -> None:
        """After a restart: whoever is not among ``owners`` holds nothing any more."""
        await self._controller.release_all_but(owners)
        for directory in await trio.to_thread.run_sync(_directories, self._base):
            if directory.name not in owners:
                await self._unmount_below(directory)

    async def _mounted(self, owner: str, index: int, request: VolumeRequest, target: str) -> Bind:
        place = self._place(owner, index, request)
        if place in self._mounter.mounted_below(self._base / owner):
            return Bind(place, target, request.read_only)
        if request.type == "glusterfs":
            await self._make(place)
            await self._gluster.mount(
                request.gluster, place, self._base / owner / f"{_SECRETS}{index}", read_only=request.read_only
            )
            return Bind(place, target, request.read_only)
        with self._local.opened(request.src) as opened:
            if not self._mounter.can_bind():
                # the sandbox's engine looks the path up again: whoever may change directories above it could swap it
                return Bind(opened.path, target, request.read_only)
            await self._make(place)
            await self._mounter.bind(opened.descriptor, place, read_only=request.read_only)
        return Bind(place, target, request.read_only)

    async def _make(self, place: Path) -> None:
        with room_watched(place):
            for directory in (self._base, place.parent, place):
                await trio.to_thread.run_sync(make_private_directory, directory)

    def _place(self, owner: str, index: int, request: VolumeRequest) -> Path:
        source = request.src or request.name
        cleaned = re.sub(r"[^0-9A-Za-z_.-]", "_", posixpath.normpath(source).lstrip("/"))[:100]
        return self._base / owner / f"{index}-{cleaned}"

    async def _unmount_below(self, directory: Path) -> None:
        """And remove what is left, which is empty directories and TLS material; never what is still mounted."""
        try:
            for place in self._mounter.mounted_below(directory):
                await self._mounter.unmount(place)
            if self._mounter.mounted_below(directory):
                return
            await trio.to_thread.run_sync(_clear, directory)
        except StorageError as exc:
            log.error("volumes_not_unmounted", directory=str(directory), error=exc.message)


def _directories(base: Path) -> tuple[Path, ...]:
    return tuple(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else ()


def _clear(directory: Path) -> None:
    """Remove empty directories and TLS material. Nothing else: where something is mounted after all, in whichever
    namespace, its content is not ours."""
    if not directory.is_dir():
        return
    try:
        for path in directory.iterdir():
            if path.name.startswith(_SECRETS):
                remove_tree(path)
            else:
                path.rmdir()
        directory.rmdir()
    except OSError as exc:
        raise StorageError(f"cannot remove {directory}: {exc.strerror}") from exc


def _only_file(directory: Path, max_bytes: int) -> bytes:
    found = [*walk(directory)]
    if len(found) != 1 or found[0].kind != "file":
        raise InvalidStorageSpec("what it names is not one file")
    with open_file(directory, found[0].path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TooLarge(f"this is more than the {max_bytes} bytes that are allowed")
    return content


def _check_target(target: str) -> str:
    """An absolute path in the sandbox, in its shortest form.

    :raises InvalidStorageSpec: it is none, or one that nothing may be mounted over.
    """
    cleaned = posixpath.normpath(target) if target.startswith("/") and "\0" not in target else ""
    cleaned = cleaned.replace("//", "/")
    if not cleaned or cleaned == "/" or ".." in target.split("/"):
        raise InvalidStorageSpec(f"{target[:80]!r} is no place in a sandbox; write an absolute path")
    if any(cleaned == closed or cleaned.startswith(f"{closed}/") for closed in _CLOSED_TARGETS):
        raise InvalidStorageSpec(f"nothing may be mounted at {cleaned[:80]}")
    return cleaned
