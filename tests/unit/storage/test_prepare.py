import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from dms.storage.controller import VolumeController
from dms.storage.egress import OWNER, Egress
from dms.storage.errors import (
    InvalidStorageSpec,
    PathNotGranted,
    ProviderMissing,
    StorageError,
    StorageFull,
    TooLarge,
    TransferFailed,
    VolumeInUse,
)
from dms.storage.gluster import GlusterClient
from dms.storage.http import HttpProvider
from dms.storage.library import Library
from dms.storage.local import LocalDirectories
from dms.storage.prepare import MAX_VOLUMES, Bind, VolumeRequest, Volumes
from dms.storage.transfer import Limits
from dms.storage.web import WebClient
from dms.store import Store
from dms.testing.web import Answer, Asked, WebServer, ranged, web_server
from dms.types.resources import SpecConfig

CONTENT = b"content " * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ALICE, BOB = "did:key:alice", "did:key:bob"


class Kernel:
    """Remembers what is mounted; without the capability it is not asked."""

    def __init__(self) -> None:
        self.mounts: dict[Path, bool] = {}
        self.is_capable = True

    def can_bind(self) -> bool:
        return self.is_capable

    async def bind(self, descriptor: int, target: Path, *, read_only: bool) -> None:
        assert os.path.isdir(target)  # noqa: ASYNC240, PTH112
        self.mounts[target] = read_only

    async def unmount(self, target: Path) -> None:
        self.mounts.pop(target, None)

    def mounted_below(self, base: Path) -> tuple[Path, ...]:
        return tuple(path for path in self.mounts if path.is_relative_to(base))


class Machine:
    def __init__(self, base: Path, server: WebServer, store: Store, limit_bytes: int = 0) -> None:
        self.base = base
        self.server = server
        self.kernel = Kernel()
        self.client = WebClient(OWNER)
        self.controller = VolumeController(store, base / "storage", limit_bytes=limit_bytes)
        self.library = Library(self.controller, [HttpProvider(self.client)], Limits(max_bytes=1 << 20))
        (base / "open/data").mkdir(parents=True, exist_ok=True)
        self.volumes = Volumes(
            base / "volumes",
            self.controller,
            self.library,
            LocalDirectories([base / "open"]),
            GlusterClient(is_allowed=False, egress=Egress()),
            self.kernel,
        )

    def http(self, target: str = "/data", path: str = "/file", **options: object) -> VolumeRequest:
        params: dict[str, object] = {"URL": self.server.url + path, "SHA256": SHA256}
        return VolumeRequest("http", target, params=params, **options)  # type: ignore[arg-type]

    def asked(self, method: str = "GET") -> int:
        return sum(asked.method == method for asked in self.server.asked)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async def answer(asked: Asked) -> Answer:
        return ranged(asked, CONTENT, {"etag": '"1"'})

    async with web_server(answer) as server, await Store.open(None) as store:
        machine = Machine(tmp_path, server, store)
        await machine.controller.load()
        yield machine
        await machine.client.aclose()


async def test_a_download_is_mounted_read_only_and_shared(machine: Machine) -> None:
    request = machine.http(read_only=True)
    (first,) = await machine.volumes.prepare("job-1", ALICE, [request])
    (second,) = await machine.volumes.prepare("job-2", BOB, [request])
    assert first == second
    assert first.target == "/data"
    assert first.read_only
    assert (first.source / "file").read_bytes() == CONTENT
    assert first.source.stat().st_mode & 0o777 == 0o555
    assert machine.asked() == 1
    with pytest.raises(VolumeInUse):
        await machine.controller.delete(first.source)
    await machine.volumes.finish("job-1", [request])
    await machine.volumes.finish("job-2", [request])
    assert first.source.exists()  # kept for the next one, until room is needed
    assert await machine.controller.evict() == 1
    assert not first.source.exists()


async def test_a_writable_download_is_a_copy_of_ones_own_that_goes_with_the_job(machine: Machine) -> None:
    request = machine.http()
    (first,) = await machine.volumes.prepare("job-1", ALICE, [request])
    (second,) = await machine.volumes.prepare("job-2", ALICE, [request])
    assert first.source != second.source
    assert (first.source / "file").stat().st_mode & 0o777 == 0o666
    (first.source / "file").write_bytes(b"changed")
    assert (second.source / "file").read_bytes() == CONTENT
    await machine.volumes.release("job-1")
    await machine.volumes.release("job-1")
    assert not first.source.exists()
    assert second.source.exists()


async def test_named_volumes_stay_with_their_tenant(machine: Machine) -> None:
    request = VolumeRequest("local", "/data", src="results")
    (first,) = await machine.volumes.prepare("job-1", ALICE, [request])
    (first.source / "kept").write_text("kept")
    await machine.volumes.finish("job-1", [request])
    (again,) = await machine.volumes.prepare("job-2", ALICE, [VolumeRequest("local", "/in", True, src="results")])
    assert (again.source, again.target, again.read_only) == (first.source, "/in", True)
    (other,) = await machine.volumes.prepare("job-3", BOB, [request])
    assert list(other.source.iterdir()) == []


async def test_directories_that_the_owner_opened_are_mounted_below_the_job(machine: Machine) -> None:
    source = f"{machine.base}/open/data"
    request = VolumeRequest("local", "/in", True, src=source)
    (bind,) = await machine.volumes.prepare("job-1", ALICE, [request])
    assert bind.source.parent == machine.base / "volumes/job-1"
    assert machine.kernel.mounts == {bind.source: True}
    assert await machine.volumes.prepare("job-1", ALICE, [request]) == (bind,)
    await machine.volumes.release("job-1")
    assert machine.kernel.mounts == {}
    assert not (machine.base / "volumes/job-1").exists()
    machine.kernel.is_capable = False
    assert await machine.volumes.prepare("job-1", ALICE, [request]) == (Bind(Path(source), "/in", True),)


async def test_what_is_still_mounted_after_all_is_not_emptied(machine: Machine) -> None:
    """As in another namespace, of which nothing is known here."""
    request = VolumeRequest("local", "/in", src=f"{machine.base}/open/data")
    (bind,) = await machine.volumes.prepare("job-1", ALICE, [request])
    (bind.source / "precious").write_text("x")
    await machine.volumes.release("job-1")
    assert (bind.source / "precious").exists()


async def test_when_one_volume_fails_the_others_are_let_go(machine: Machine) -> None:
    async def refuse(_asked: Asked) -> Answer:
        return Answer(500)

    machine.server.handler = refuse
    local = VolumeRequest("local", "/in", src=f"{machine.base}/open/data")
    with pytest.raises(TransferFailed):
        await machine.volumes.prepare("job-1", ALICE, [local, VolumeRequest("local", "/n", src="n"), machine.http()])
    assert machine.kernel.mounts == {}
    assert await machine.controller.used_by("job-1") == {}


async def test_a_download_that_broke_off_is_resumed_by_the_next_job(
    machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    async def cut(asked: Asked) -> Answer:
        whole = ranged(asked, CONTENT, {"etag": '"1"'})
        return Answer(500) if "range" in asked.headers else Answer(200, whole.body, whole.headers, cut_after=50_000)

    fine, machine.server.handler = machine.server.handler, cut
    with pytest.raises(TransferFailed):
        await machine.volumes.prepare("job-1", ALICE, [machine.http()])
    machine.server.handler = fine
    machine.server.asked.clear()
    (bind,) = await machine.volumes.prepare("job-2", ALICE, [machine.http()])
    assert (bind.source / "file").read_bytes() == CONTENT
    assert [asked.headers.get("range") for asked in machine.server.asked] == ["bytes=50000-"]
    assert not list((machine.controller.base / ".staging").iterdir())


async def test_of_two_jobs_that_want_the_same_at_once_one_downloads(machine: Machine) -> None:
    async with trio.open_nursery() as nursery:
        for owner in ("job-1", "job-2", "job-3"):
            nursery.start_soon(machine.volumes.prepare, owner, ALICE, [machine.http(read_only=True)])
    assert machine.asked() == 1
    assert len(await machine.controller.list()) == 1


async def test_results_are_uploaded_and_then_let_go(machine: Machine) -> None:
    kept: dict[str, bytes] = {}

    async def answer(asked: Asked) -> Answer:
        if asked.method == "PUT":
            kept[asked.path] = asked.body
        return Answer(201 if asked.method == "PUT" else 404)

    machine.server.handler = answer
    upload = SpecConfig(type="http", params={"URL": f"{machine.server.url}/out/", "Headers": {"X": "secret"}})
    requests = [
        VolumeRequest("local", "/out", src="results", upload=upload),
        VolumeRequest("local", "/mounted", src=f"{machine.base}/open/data", upload=upload),
    ]
    machine.kernel.is_capable = True
    named, _ = await machine.volumes.prepare("job-1", ALICE, requests)
    (named.source / "sub").mkdir()
    (named.source / "sub/result").write_text("42")
    (named.source / "link").symlink_to("/etc/passwd")
    sent = await machine.volumes.finish("job-1", requests)
    assert kept == {"/out/sub/result": b"42"}
    assert "secret" not in str(sent)
    assert await machine.controller.used_by("job-1") == {}


async def test_an_upload_that_fails_can_be_tried_again(machine: Machine) -> None:
    async def refuse(_asked: Asked) -> Answer:
        return Answer(507)

    machine.server.handler = refuse
    upload = SpecConfig(type="http", params={"URL": f"{machine.server.url}/out/"})
    requests = [VolumeRequest("local", "/out", src="results", upload=upload)]
    (bind,) = await machine.volumes.prepare("job-1", ALICE, requests)
    (bind.source / "result").write_text("42")
    with pytest.raises(TransferFailed):
        await machine.volumes.finish("job-1", requests)
    assert await machine.controller.used_by("job-1")


async def test_after_a_restart_what_lives_keeps_its_volumes_and_the_rest_goes(machine: Machine) -> None:
    requests = [machine.http(), VolumeRequest("local", "/in", src=f"{machine.base}/open/data")]
    before = await machine.volumes.prepare("job-1", ALICE, requests)
    gone = await machine.volumes.prepare("job-2", ALICE, requests)
    await machine.controller.load()
    await machine.volumes.restore({"job-1"})
    assert await machine.volumes.prepare("job-1", ALICE, requests) == before
    assert not gone[0].source.exists()
    assert list(machine.kernel.mounts) == [before[1].source]


async def test_what_is_downloaded_is_bounded_by_the_job_and_by_the_room(tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(TooLarge):
        await machine.volumes.prepare("job-1", ALICE, [machine.http()], max_bytes=len(CONTENT) - 1)
    two = [machine.http("/a"), machine.http("/b")]
    with pytest.raises(TooLarge):
        await machine.volumes.prepare("job-1", ALICE, two, max_bytes=len(CONTENT) * 2 - 1)
    assert len(await machine.volumes.prepare("job-1", ALICE, two, max_bytes=len(CONTENT) * 2)) == 2
    await machine.volumes.release("job-1")
    async with await Store.open(None) as store:
        small = Machine(tmp_path / "small", machine.server, store, limit_bytes=len(CONTENT))
        await small.controller.load()
        await small.volumes.prepare("job-1", ALICE, [small.http(read_only=True)])
        with pytest.raises(StorageFull):
            await small.volumes.prepare("job-2", ALICE, [small.http("/x", "/other")])
        await small.volumes.release("job-1")
        await small.volumes.prepare("job-2", ALICE, [small.http("/x", "/other")])  # what nobody uses made room
        await small.client.aclose()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (VolumeRequest("ftp", "/d"), InvalidStorageSpec),
        (VolumeRequest("s3", "/d"), InvalidStorageSpec),
        (VolumeRequest("http", "/d"), InvalidStorageSpec),
        (VolumeRequest("local", "/d", src="/etc"), PathNotGranted),
        (VolumeRequest("local", "/d", src="../x"), StorageError),
        (VolumeRequest("local", "/d", src=""), StorageError),
        (VolumeRequest("local", "d", src="x"), InvalidStorageSpec),
        (VolumeRequest("local", "/", src="x"), InvalidStorageSpec),
        (VolumeRequest("local", "//", src="x"), InvalidStorageSpec),
        (VolumeRequest("local", "/a/../..", src="x"), InvalidStorageSpec),
        (VolumeRequest("local", "/proc/1", src="x"), InvalidStorageSpec),
        (VolumeRequest("local", "/dev", src="x"), InvalidStorageSpec),
        (VolumeRequest("glusterfs", "/d", name="x", servers=("h",)), ProviderMissing),
        (VolumeRequest("glusterfs", "/d", name="x"), InvalidStorageSpec),
        (VolumeRequest("local", "/d", True, src="x", upload=SpecConfig(type="http")), InvalidStorageSpec),
        (VolumeRequest("local", "/d", src="x", upload=SpecConfig(type="ftp")), InvalidStorageSpec),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_done(
    machine: Machine, request_: VolumeRequest, error: type[StorageError]
) -> None:
    with pytest.raises(error):
        await machine.volumes.prepare("job-1", ALICE, [request_])
    assert await machine.controller.used_by("job-1") == {}
    assert machine.server.asked == []


async def test_places_are_taken_once_and_volumes_are_bounded(machine: Machine) -> None:
    with pytest.raises(InvalidStorageSpec, match="the same place"):
        machine.volumes.check([VolumeRequest("local", "/d", src="x"), VolumeRequest("local", "/d/", src="y")])
    with pytest.raises(InvalidStorageSpec, match="at most"):
        machine.volumes.check([VolumeRequest("local", f"/{i}", src="x") for i in range(MAX_VOLUMES + 1)])
    for owner in ("", "../x", "a/b", ".x", "x" * 300):
        with pytest.raises(InvalidStorageSpec):
            await machine.volumes.prepare(owner, ALICE, [])
