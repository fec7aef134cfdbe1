import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from dms.storage.controller import MAX_LABELS, VolumeController
from dms.storage.errors import (
    CannotUnseal,
    ContentMismatch,
    InvalidStorageSpec,
    InvalidVolumeName,
    StorageError,
    StorageFull,
    TooLarge,
    UnsupportedIdentifier,
    VolumeInUse,
    VolumeLocked,
    VolumeNotFound,
    VolumeNotLocked,
    VolumeSealed,
)
from dms.storage.ledger import BUSY, VolumeLedger
from dms.storage.sealing import SealingKey
from dms.storage.tree import remove_tree, set_read_only, set_shared
from dms.storage.volume import EncryptionType, IDType, Use, Volume, VolumeRecord, VolumeSource
from dms.store import Store


@asynccontextmanager
async def opened(directory: Path, *, limit_bytes: int = 0) -> AsyncIterator[VolumeController]:
    async with await Store.open(directory / "db.sqlite") as store:
        controller = VolumeController(store, directory / "storage", limit_bytes=limit_bytes)
        await controller.load()
        yield controller


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[VolumeController]:
    async with await Store.open(None) as store:
        controller = VolumeController(store, tmp_path / "storage")
        await controller.load()
        yield controller


async def filled(controller: VolumeController, text: str = "hello\n", **options: bool) -> Volume:
    volume = await controller.create(VolumeSource.JOB, **options)  # type: ignore[arg-type]
    (volume.path / "sub").mkdir()
    (volume.path / "sub/hello").write_text(text)
    return volume


async def test_a_new_volume_is_an_empty_directory_that_every_sandbox_may_write(controller: VolumeController) -> None:
    volume = await controller.create(VolumeSource.S3)
    assert volume.path.name.startswith("s3-")
    assert len(volume.path.name) == len("s3-") + 16
    assert volume.path.stat().st_mode & 0o777 == 0o777
    assert controller.base.stat().st_mode & 0o777 == 0o700
    assert list(volume.path.iterdir()) == []
    assert (volume.is_locked, volume.is_private, volume.cid, volume.encryption) == (
        False,
        False,
        "",
        EncryptionType.NULL,
    )
    assert await controller.list() == (volume,)
    assert await controller.get(volume.path) == volume


async def test_a_locked_volume_has_its_content_id_and_cannot_be_written(controller: VolumeController) -> None:
    volume = await filled(controller)
    locked = await controller.lock(volume.path, private=True)
    assert locked.cid == content_id(locked)
    assert (locked.is_locked, locked.is_private) == (True, True)
    assert (locked.record.size_bytes, locked.record.files) == (6, 1)
    assert [oct(p.stat().st_mode & 0o777) for p in (locked.path, locked.path / "sub", locked.path / "sub/hello")] == [
        "0o555",
        "0o555",
        "0o444",
    ]
    assert await controller.get(locked.cid, IDType.CID) == await controller.get(locked.path)


def content_id(volume: Volume) -> str:
    from dms.storage.content import read_content

    return str(read_content(volume.path).cid)


async def test_a_volume_is_locked_once(controller: VolumeController) -> None:
    volume = await filled(controller)
    locked = await controller.lock(volume.path)
    with pytest.raises(VolumeLocked):
        await controller.lock(volume.path)
    assert await controller.get(volume.path) == await controller.get(locked.path)
    with pytest.raises(VolumeLocked):
        await controller.acquire(volume, "writer", write=True)


async def test_of_two_who_lock_at_once_one_succeeds(controller: VolumeController) -> None:
    volume = await filled(controller)
    outcomes: list[str] = []

    async def lock() -> None:
        try:
            await controller.lock(volume.path)
            outcomes.append("locked")
        except (VolumeLocked, VolumeInUse):
            outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock)
        nursery.start_soon(lock)
    assert sorted(outcomes) == ["locked", "refused"]
    assert (await controller.get(volume.path)).is_locked
    await controller.delete(volume.path)


async def test_a_content_id_that_is_given_must_be_right(controller: VolumeController) -> None:
    volume = await filled(controller)
    right = content_id(volume)
    with pytest.raises(ContentMismatch):
        await controller.lock(volume.path, cid="bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am")
    with pytest.raises(InvalidStorageSpec):
        await controller.lock(volume.path, cid="no cid")
    (volume.path / "still-open").touch()
    (volume.path / "still-open").unlink()
    assert (await controller.lock(volume.path, cid=right)).cid == right


async def test_deleting_by_path_and_by_content_removes_record_and_directory(controller: VolumeController) -> None:
    first, second, other = await filled(controller), await filled(controller), await filled(controller, "other")
    cid = (await controller.lock(first.path)).cid
    await controller.lock(second.path)
    await controller.delete(cid, IDType.CID)
    assert not first.path.exists()
    assert not second.path.exists()
    await controller.delete(other.path)
    assert await controller.list() == ()
    with pytest.raises(VolumeNotFound):
        await controller.delete(other.path)
    with pytest.raises(VolumeNotFound):
        await controller.delete(cid, IDType.CID)
    assert not list((controller.base / ".trash").iterdir())


async def test_identifiers_of_other_kinds_are_refused(controller: VolumeController) -> None:
    volume = await filled(controller)
    with pytest.raises(UnsupportedIdentifier, match="identifier type not supported"):
        await controller.delete(volume.path, IDType.UNDEFINED)
    with pytest.raises(UnsupportedIdentifier):
        await controller.get_size(volume.path, IDType.UNDEFINED)
    with pytest.raises(InvalidStorageSpec):
        await controller.get("no cid", IDType.CID)


@pytest.mark.parametrize("path", ["/etc", "..", "job-x", ".trash", "job-0123456789abcdef/sub", ""])
async def test_paths_that_are_no_volumes_are_not_touched(controller: VolumeController, path: str) -> None:
    for identifier in (controller.base / path, Path(path)):
        with pytest.raises(VolumeNotFound):
            await controller.delete(identifier)
        with pytest.raises(VolumeNotFound):
            await controller.lock(identifier)


async def test_sizes_are_counted_in_bytes_of_content(controller: VolumeController) -> None:
    volume = await filled(controller)
    assert await controller.get_size(volume.path) == 6
    (volume.path / "more").write_bytes(bytes(1000))
    assert await controller.get_size(volume.path) == 1006
    locked = await controller.lock(volume.path)
    assert await controller.get_size(locked.cid, IDType.CID) == 1006
    assert await controller.used_bytes() == 1006


async def test_a_volume_in_use_is_neither_deleted_nor_encrypted_nor_locked_under_a_writer(
    controller: VolumeController,
) -> None:
    volume = await filled(controller)
    await controller.acquire(volume, "reader")
    await controller.acquire(volume, "writer", write=True)
    await controller.acquire(volume, "writer", write=True)
    with pytest.raises(VolumeInUse, match="reader, writer"):
        await controller.delete(volume.path)
    with pytest.raises(VolumeInUse):
        await controller.encrypt(volume.path, SealingKey.generate())
    with pytest.raises(VolumeInUse):
        await controller.lock(volume.path)
    await controller.release("writer")
    cid = (await controller.lock(volume.path)).cid
    with pytest.raises(VolumeInUse):
        await controller.delete(cid, IDType.CID)
    assert volume.path.exists()
    await controller.release("reader")
    await controller.release("reader")
    await controller.delete(volume.path)


async def test_of_several_with_the_same_content_none_is_deleted_while_one_is_in_use(
    controller: VolumeController,
) -> None:
    first, second = await filled(controller), await filled(controller)
    cid = (await controller.lock(first.path)).cid
    await controller.lock(second.path)
    await controller.acquire(second, "reader")
    with pytest.raises(VolumeInUse):
        await controller.delete(cid, IDType.CID)
    assert len(await controller.list()) == 2
    assert first.path.exists()


async def test_private_volumes_go_with_their_last_user(controller: VolumeController) -> None:
    private, kept = await filled(controller, private=True), await filled(controller)
    for owner in ("one", "two"):
        for volume in (private, kept):
            await controller.acquire(volume, owner)
    await controller.release("one")
    assert private.path.exists()
    await controller.release_all_but({"three"})
    assert not private.path.exists()
    assert [volume.id for volume in await controller.list()] == [kept.id]
    await controller.delete(kept.path)


async def test_tenants_see_their_own_named_volumes_only(controller: VolumeController) -> None:
    mine = await controller.named("did:key:alice", "data")
    assert await controller.named("did:key:alice", "data") == mine
    assert (await controller.named("did:key:bob", "data")).id != mine.id
    for label in ("", "../data", "a/b", ".hidden", "x" * 200, "a b"):
        with pytest.raises(InvalidVolumeName):
            await controller.named("did:key:alice", label)


async def test_a_tenant_cannot_have_named_volumes_without_end(controller: VolumeController) -> None:
    for index in range(MAX_LABELS):
        await controller.named("did:key:alice", f"v{index}")
    with pytest.raises(TooLarge):
        await controller.named("did:key:alice", "one-more")
    await controller.named("did:key:alice", "v0")
    await controller.named("did:key:bob", "v0")


async def test_downloads_are_shared_unless_they_are_private(controller: VolumeController) -> None:
    volume = await controller.create(VolumeSource.HTTP, origin="here")
    assert await controller.downloaded("here") is None
    locked = await controller.lock(volume.path)
    assert await controller.downloaded("here") == await controller.get(locked.path)
    await controller.lock((await controller.create(VolumeSource.HTTP, origin="there")).path, private=True)
    assert await controller.downloaded("there") is None


async def test_room_is_what_the_limit_leaves(tmp_path: Path) -> None:
    async with opened(tmp_path, limit_bytes=100) as controller:
        volume = await filled(controller, "x" * 60)
        assert await controller.room_bytes() == 40
        (volume.path / "more").write_bytes(bytes(40))
        with pytest.raises(StorageFull):
            await controller.room_bytes()
        await controller.delete(volume.path)
        assert await controller.room_bytes() == 100


async def test_an_encrypted_volume_lies_in_one_file_and_comes_back(controller: VolumeController) -> None:
    key = SealingKey.generate()
    volume = await filled(controller, "secret" * 100)
    locked = await controller.lock(volume.path)
    sealed = await controller.encrypt(volume.path, key)
    assert sealed.is_sealed
    assert not volume.path.exists()
    files = [path for path in controller.base.rglob("*") if path.is_file()]
    assert [oct(path.stat().st_mode & 0o777) for path in files] == ["0o600"]
    assert b"secret" not in files[0].read_bytes()
    assert await controller.get_size(volume.path) == 600
    for refused in (
        controller.acquire(sealed, "reader"),
        controller.lock(volume.path),
        controller.encrypt(volume.path, key),
    ):
        with pytest.raises(VolumeSealed):
            await refused
    with pytest.raises(CannotUnseal):
        await controller.decrypt(volume.path, SealingKey.generate())
    back = await controller.decrypt(volume.path, key)
    assert (back.cid, back.is_locked, back.is_sealed) == (locked.cid, True, False)
    assert content_id(back) == locked.cid
    assert back.path.stat().st_mode & 0o777 == 0o555
    assert not list((controller.base / ".sealed").iterdir())
    with pytest.raises(VolumeSealed, match="not encrypted"):
        await controller.decrypt(volume.path, key)


async def test_an_open_volume_is_encrypted_too_and_open_again_after(controller: VolumeController) -> None:
    key = SealingKey.generate()
    volume = await filled(controller)
    await controller.encrypt(volume.path, key)
    back = await controller.decrypt(volume.path, key)
    (back.path / "more").write_text("more")
    assert await controller.get_size(back.path) == 10
    await controller.encrypt(back.path, key)
    await controller.delete(back.path)
    assert not [path for path in controller.base.rglob("*") if path.is_file()]


async def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    key = SealingKey.generate()
    async with opened(tmp_path) as controller:
        volume = await filled(controller)
        locked = await controller.lock(volume.path)
        sealed = await filled(controller)
        await controller.encrypt(sealed.path, key)
        await controller.acquire(locked, "reader")
    async with opened(tmp_path) as controller:
        again = await controller.get(locked.path)
        assert (again.cid, again.path) == (locked.cid, locked.path)
        with pytest.raises(VolumeInUse):
            await controller.delete(locked.path)
        await controller.decrypt(sealed.path, key)


async def test_what_was_half_done_is_finished_or_undone_at_the_start(tmp_path: Path) -> None:
    key = SealingKey.generate()
    async with opened(tmp_path) as controller:
        kept = await filled(controller)
        sealed = await filled(controller)
        await controller.encrypt(sealed.path, key)
        base = controller.base
    (base / "job-0123456789abcdef").mkdir()  # made, never acknowledged; or its record went, and then the power
    (base / ".trash/job-x").mkdir()
    (base / f".sealed/{kept.id}.sealed").touch()  # encryption that did not end
    (base / ".sealed/job-unknown.sealed").touch()  # of a database that is away, who knows
    (sealed.path).mkdir()  # decryption that did not end
    (base / f".staging/{sealed.id}").mkdir()
    (base / "somebody-elses").mkdir()
    (base / "job-aaaaaaaaaaaaaaaa").mkdir()  # no record, but data
    (base / "job-aaaaaaaaaaaaaaaa/precious").touch()
    async with opened(tmp_path) as controller:
        names = {path.name for path in base.iterdir()}
        assert names == {kept.id, ".sealed", ".staging", ".trash", "somebody-elses", "job-aaaaaaaaaaaaaaaa"}
        assert {path.name for path in (base / ".sealed").iterdir()} == {f"{sealed.id}.sealed", "job-unknown.sealed"}
        assert not list((base / ".trash").iterdir())
        assert not list((base / ".staging").iterdir())
        assert content_id(await controller.decrypt(sealed.path, key)) == content_id(kept)


async def test_what_somebody_removed_by_hand_is_forgotten_unless_the_whole_disk_is_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as controller:
        kept, removed = await filled(controller), await controller.named("did:key:alice", "data")
    removed.path.rmdir()
    async with opened(tmp_path) as controller:
        assert [volume.id for volume in await controller.list()] == [kept.id]
        named = await controller.named("did:key:alice", "data")
        named.path.rmdir()
        assert (await controller.named("did:key:alice", "data")).path.is_dir()
        base = controller.base
    away = base.rename(tmp_path / "away")
    async with opened(tmp_path) as controller:
        assert len(await controller.list()) == 2
    remove_tree(base)
    away.rename(base)
    async with opened(tmp_path) as controller:
        assert content_id(await controller.get(kept.path)) == content_id(kept)


async def test_an_unlocked_volume_can_be_written_again_and_is_no_download_any_more(
    controller: VolumeController,
) -> None:
    volume = await controller.create(VolumeSource.HTTP, origin="o" * 32)
    (volume.path / "program").write_text("#!/bin/sh")
    (volume.path / "program").chmod(0o755)
    locked = await controller.lock(volume.path)
    assert await controller.downloaded("o" * 32) == locked
    await controller.acquire(locked, "reader")
    with pytest.raises(VolumeInUse, match="in use by reader"):
        await controller.unlock(volume.path)
    await controller.release("reader")
    opened_ = await controller.unlock(volume.path)
    assert (opened_.is_locked, opened_.cid, await controller.downloaded("o" * 32)) == (False, "", None)
    assert [oct(p.stat().st_mode & 0o777) for p in (volume.path, volume.path / "program")] == ["0o777", "0o777"]
    with pytest.raises(VolumeNotLocked, match="is not locked"):
        await controller.unlock(volume.path)
    assert (await controller.lock(volume.path)).cid == locked.cid
    key = SealingKey.generate()
    await controller.encrypt(volume.path, key)
    with pytest.raises(VolumeSealed):
        await controller.unlock(volume.path)


async def test_a_lock_or_unlock_that_was_cut_off_is_undone_at_the_start(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "db.sqlite") as store:
        controller = VolumeController(store, tmp_path / "storage")
        await controller.load()
        locking, unlocking, deleting = [await filled(controller) for _ in range(3)]
        cid = (await controller.lock(unlocking.path)).cid
        ledger = VolumeLedger(store, controller.base)
        for volume in (locking, unlocking, deleting):  # as if the process had died with all three under way
            await ledger.change(volume.id, _busy)
        set_read_only(locking.path)
        set_shared(unlocking.path)
        deleting.path.chmod(0o700)
    async with opened(tmp_path) as controller:
        assert {oct(v.path.stat().st_mode & 0o777) for v in (locking, deleting)} == {"0o777"}
        assert not (await controller.get(locking.path)).is_locked
        again = await controller.get(unlocking.path)
        assert (again.is_locked, again.cid, content_id(again)) == (True, cid, cid)
        assert (again.path / "sub/hello").stat().st_mode & 0o222 == 0
        await controller.acquire(locking, "writer", write=True)
        await controller.delete(deleting.path)


def _busy(record: VolumeRecord) -> VolumeRecord:
    return msgspec.structs.replace(record, uses=(Use(owner=BUSY, is_writing=True),))


KILLED = """
import sys, trio
from pathlib import Path
from dms.storage.controller import VolumeController
from dms.storage.sealing import SealingKey
from dms.storage.volume import VolumeSource
from dms.store import Store

KEY = SealingKey(bytes(32))

async def main(directory):
    async with await Store.open(directory / "db.sqlite") as store:
        controller = VolumeController(store, directory / "storage")
        await controller.load()
        for number in range(10**6):
            volume = await controller.create(VolumeSource.JOB)
            (volume.path / "file").write_text(str(number))
            print("created", volume.id, flush=True)
            print("locked", (await controller.lock(volume.path)).id, flush=True)
            print("changing", volume.id, flush=True)
            if number % 3 == 0:
                await controller.unlock(volume.path)
                print("created", volume.id, flush=True)
            if number % 3 == 1:
                await controller.encrypt(volume.path, KEY)
                print("sealed", volume.id, flush=True)
                print("changing", volume.id, flush=True)
                await controller.decrypt(volume.path, KEY)
                print("locked", volume.id, flush=True)
            if number % 2:
                print("deleting", volume.id, flush=True)
                await controller.delete(volume.path)
                print("deleted", volume.id, flush=True)

trio.run(main, Path(sys.argv[1]))
"""


def said_until_killed(directory: Path, lines: int) -> list[list[str]]:
    environment = {"PYTHONPATH": ":".join(sys.path), **os.environ}
    command = [sys.executable, "-c", KILLED, str(directory)]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.split())
            if len(said) == lines:
                process.send_signal(signal.SIGKILL)
    return said


@pytest.mark.parametrize("lines_said", [24, 27, 34])
async def test_what_was_acknowledged_survives_a_kill_and_nothing_else_does(tmp_path: Path, lines_said: int) -> None:
    lines = await trio.to_thread.run_sync(said_until_killed, tmp_path, lines_said)
    said: dict[str, str] = {id_: what for what, id_ in (line for line in lines if len(line) == 2)}
    async with opened(tmp_path) as controller:
        found = {volume.id: volume for volume in await controller.list()}
        for id_, what in said.items():
            if what == "locked":
                assert found[id_].is_locked
                assert content_id(found[id_]) == found[id_].cid
            elif what == "created":
                assert id_ in found
            elif what == "sealed":
                assert found[id_].is_sealed
            elif what == "changing":  # before or after, and nothing in between
                volume = found[id_]
                if volume.is_sealed:
                    volume = await controller.decrypt(volume.path, SealingKey(bytes(32)))
                assert volume.cid in ("", content_id(volume))
                assert volume.path.stat().st_mode & 0o777 == (0o555 if volume.is_locked else 0o777)
            elif what == "deleted":
                assert id_ not in found
        assert not [use for volume in found.values() for use in volume.record.uses]
        directories = {path.name for path in controller.base.iterdir() if not path.name.startswith(".")}
        assert directories == {volume.id for volume in await controller.list() if not volume.is_sealed}
        assert not list((controller.base / ".trash").iterdir())
        for volume in found.values():
            await controller.delete(volume.path)


async def test_a_full_disk_is_told_and_leaves_nothing_half_made(controller: VolumeController) -> None:
    volume = await filled(controller)
    (controller.base / ".sealed").rmdir()
    with pytest.raises((StorageError, OSError)):
        await controller.encrypt(volume.path, SealingKey.generate())
    assert volume.path.exists()
    assert not (await controller.get(volume.path)).record.uses


@pytest.mark.mounts
async def test_volumes_on_a_disk_that_is_full(small_disk: Path) -> None:
    async with await Store.open(None) as store:
        controller = VolumeController(store, small_disk / "storage")
        await controller.load()
        volume = await controller.create(VolumeSource.JOB)
        (volume.path / "large").write_bytes(os.urandom(700 << 10))
        with pytest.raises(StorageFull):
            await controller.encrypt(volume.path, SealingKey.generate())
        assert not list((controller.base / ".sealed").iterdir())
        assert not (await controller.get(volume.path)).is_sealed
        made = [volume]
        while len(made) < 100:
            try:
                made.append(await controller.create(VolumeSource.JOB))
            except StorageFull:
                break
        assert len(await controller.list()) == len(made) < 30
        for each in made:
            await controller.delete(each.path)
        assert not [path for path in controller.base.iterdir() if not path.name.startswith(".")]
