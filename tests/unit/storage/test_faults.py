"""What goes wrong between a description and a directory: disks that are full, archives and keys that lead elsewhere. Nothing
of it is left, and nothing of the machine is touched.
"""

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dms.storage.controller import VolumeController
from dms.storage.egress import OWNER, Egress
from dms.storage.errors import CannotUnseal, StorageError, StorageFull, UnsafeArchive
from dms.storage.gluster import GlusterClient
from dms.storage.http import HttpProvider
from dms.storage.library import Library
from dms.storage.local import LocalDirectories
from dms.storage.mounts import SystemMounter
from dms.storage.prepare import VolumeRequest, Volumes
from dms.storage.s3 import S3Provider
from dms.storage.sealing import SealingKey
from dms.storage.volume import VolumeSource
from dms.storage.web import WebClient
from dms.store import Store
from dms.testing.s3 import CREDENTIALS
from dms.testing.web import Answer, Asked, ranged, web_server

ALICE = "did:key:alice"
SMALL = b"small " * 1000


class Place:
    """A controller with volumes of two providers; ``content`` is what is downloaded."""

    def __init__(self, base: Path, store: Store, url: str, client: WebClient) -> None:
        self.controller = VolumeController(store, base / "storage")
        self.url = url
        self.content = SMALL
        self.volumes = Volumes(
            base / "volumes",
            self.controller,
            Library(self.controller, [HttpProvider(client), S3Provider(OWNER)]),
            LocalDirectories([]),
            GlusterClient(is_allowed=False, egress=Egress()),
            SystemMounter(),
        )

    async def answer(self, asked: Asked) -> Answer:
        digest = hashlib.sha256(self.content).hexdigest()[:32]
        return ranged(asked, self.content, {"etag": f'"{digest}"', "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT"})

    def request(self, kind: str, **params: object) -> VolumeRequest:
        told: dict[str, object] = {"SHA256": hashlib.sha256(self.content).hexdigest(), **params}
        if kind == "http":
            told["URL"] = f"{self.url}/file"
        else:
            told |= {"Bucket": "bucket", "Key": "file", "Endpoint": self.url, **CREDENTIALS}
        return VolumeRequest(kind, "/data", read_only=True, params=told)

    async def assert_nothing_is_left(self) -> None:
        assert await self.controller.list() == ()
        assert [path.name for path in self.controller.base.rglob("*") if not path.name.startswith(".")] == []


@asynccontextmanager
async def opened(base: Path) -> AsyncIterator[Place]:
    place: Place

    async def answer(asked: Asked) -> Answer:
        return await place.answer(asked)

    client = WebClient(OWNER)
    async with web_server(answer) as server, await Store.open(None) as store:
        place = Place(base, store, server.url, client)
        await place.controller.load()
        yield place
        await client.aclose()


@pytest.mark.mounts
@pytest.mark.parametrize("kind", ["http", "s3"])
async def test_a_download_that_fills_the_disk_is_told_and_leaves_room_for_the_next(small_disk: Path, kind: str) -> None:
    async with opened(small_disk) as place:
        place.content = os.urandom(2 << 20)
        with pytest.raises(StorageFull, match="no room left"):
            await place.volumes.prepare("job-1", ALICE, [place.request(kind)])
        await place.assert_nothing_is_left()
        place.content = SMALL
        (bind,) = await place.volumes.prepare("job-2", ALICE, [place.request(kind)])
        assert (bind.source / "file").read_bytes() == SMALL


@pytest.mark.mounts
async def test_encrypting_and_decrypting_on_a_full_disk_leave_the_volume_as_it_was(small_disk: Path) -> None:
    key = SealingKey.generate()
    async with opened(small_disk) as place:
        volume = await place.controller.create(VolumeSource.JOB)
        (volume.path / "file").write_bytes(os.urandom(400 << 10))
        sealed = await place.controller.encrypt(volume.path, key)
        filler = await place.controller.create(VolumeSource.JOB)
        (filler.path / "file").write_bytes(os.urandom(400 << 10))
        with pytest.raises(StorageFull):
            await place.controller.decrypt(sealed.path, key)
        assert (await place.controller.get(volume.path)).is_sealed
        assert not volume.path.exists()
        with pytest.raises(StorageFull):
            await place.controller.encrypt(filler.path, key)
        assert filler.path.exists()
        await place.controller.delete(filler.path)
        await place.controller.decrypt(sealed.path, key)
        assert (volume.path / "file").stat().st_size == 400 << 10


def escaped(base: Path) -> list[Path]:
    """What an archive has written, below ``base`` or where it wants to."""
    return [path for path in (*base.rglob("escaped"), Path("/tmp/escaped")) if path.exists()]


def zip_slip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("fine", "fine")
        archive.writestr("../../../../escaped", "out")
    return out.getvalue()


def absolute_tar() -> bytes:
    return _tar(("fine", None), ("/tmp/escaped", None))


def link_then_file() -> bytes:
    """A link that leads out, and a file that would be written through it."""
    return _tar(("door", "../../.."), ("door/escaped", None))


def link_to_the_system() -> bytes:
    return _tar(("passwd", "/etc/passwd"))


def _tar(*members: tuple[str, str | None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, target in members:
            info = tarfile.TarInfo(name)
            if target is not None:
                info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info, io.BytesIO(b""))
    return out.getvalue()


@pytest.mark.parametrize("make", [zip_slip, absolute_tar, link_then_file, link_to_the_system])
async def test_a_download_that_would_leave_its_volume_is_refused_and_nothing_of_it_is_left(
    tmp_path: Path, make: Callable[[], bytes]
) -> None:
    async with opened(tmp_path) as place:
        place.content = make()
        with pytest.raises(UnsafeArchive):
            await place.volumes.prepare("job-1", ALICE, [place.request("http", Unpack=True)])
        await place.assert_nothing_is_left()
        assert escaped(tmp_path) == []


async def test_a_volume_that_was_damaged_while_it_was_encrypted_stays_so(tmp_path: Path) -> None:
    key = SealingKey.generate()
    async with opened(tmp_path) as place:
        volume = await place.controller.create(VolumeSource.JOB)
        (volume.path / "file").write_bytes(SMALL)
        await place.controller.lock(volume.path)
        await place.controller.encrypt(volume.path, key)
        (sealed,) = (place.controller.base / ".sealed").iterdir()
        sealed.write_bytes(sealed.read_bytes()[:-100])
        with pytest.raises(CannotUnseal):
            await place.controller.decrypt(volume.path, key)
        assert (await place.controller.get(volume.path)).is_sealed
        assert not volume.path.exists()


async def test_two_jobs_that_want_one_volume_at_once_both_get_it_or_one_is_told(tmp_path: Path) -> None:
    """A job that is started twice finds what the first start prepared."""
    async with opened(tmp_path) as place:
        named = VolumeRequest("local", "/results", src="results")
        first = await place.volumes.prepare("job-1", ALICE, [named, place.request("http")])
        again = await place.volumes.prepare("job-1", ALICE, [named, place.request("http")])
        other = await place.volumes.prepare("job-2", ALICE, [named])
        assert first == again
        assert other[0].source == first[0].source
        with pytest.raises(StorageError, match=r"in use by job-1, job-2"):
            await place.controller.delete(first[0].source)
        await place.volumes.release("job-1")
        with pytest.raises(StorageError, match="in use by job-2"):
            await place.controller.delete(first[0].source)
