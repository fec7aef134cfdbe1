import fcntl
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from dms.store import Repository, Session, Store, StoreError
from dms.store.backup import default_name, restore, take, verify
from dms.store.errors import BackupExists, BadBackup, NoBackup, NoDatabase, StoreCorrupt, StoreInUse, StoreReadOnly
from dms.store.examine import examine
from dms.store.schema import HEAD, reservations
from dms.types.resources import RAM

NOW_S = 1_900_000_000.0


def write(path: Path, *names: str) -> None:
    async def create() -> None:
        async with await Store.open(path) as store:
            for name in names:
                await Repository(store, reservations, RAM).create(RAM(type=name), name)

    trio.run(create)


def names(path: Path) -> list[str]:
    async def find() -> list[str]:
        async with await Store.open(path) as store:
            return [record.id for record in await Repository(store, reservations, RAM).find_all()]

    return trio.run(find)


def listing(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.endswith(".lock")}


def copy_as_killed(source: Path, directory: Path) -> None:
    """What a node that is killed now would leave."""
    directory.mkdir()
    for path in source.parent.glob(f"{source.name}*"):
        shutil.copy(path, directory)


def damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(size // 4))


def test_a_backup_is_private_whole_and_can_be_verified(tmp_path: Path) -> None:
    source, target = tmp_path / "dms.sqlite", tmp_path / "copies" / "one.sqlite"
    target.parent.mkdir()
    write(source, "a", "b")
    made = take(source, target)
    assert {path.name: path.stat().st_mode & 0o777 for path in target.parent.iterdir()} == {
        "one.sqlite": 0o600,
        "one.sqlite.sha256": 0o600,
    }
    assert made.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    subprocess.run(["sha256sum", "--check", "--quiet", "one.sqlite.sha256"], cwd=target.parent, check=True)
    found = verify(target)
    assert found == made.examination
    assert (found.revision, found.problems, found.records["reservations"]) == (HEAD, (), 2)
    assert names(target) == ["a", "b"]


async def test_a_backup_taken_while_the_node_writes_is_of_one_moment(tmp_path: Path) -> None:
    source, target = tmp_path / "dms.sqlite", tmp_path / "copy.sqlite"
    async with await Store.open(source) as store:
        repository = Repository(store, reservations, RAM)

        def pair(session: Session, number: int) -> None:
            for side in ("left", "right"):
                repository.on(session).create(RAM(type="x" * 2000), f"{side}-{number}")

        async def go_on() -> None:
            for number in range(10_000):
                await store.run(lambda session, number=number: pair(session, 100 + number))  # type: ignore[misc]

        for number in range(20):
            await store.run(lambda session, number=number: pair(session, number))  # type: ignore[misc]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            await trio.to_thread.run_sync(take, source, target)
            nursery.cancel_scope.cancel()
    found = await trio.to_thread.run_sync(names, target)
    assert len(found) >= 40
    assert {name.removeprefix("left-") for name in found if name.startswith("left")} == {
        name.removeprefix("right-") for name in found if name.startswith("right")
    }


async def test_what_the_log_of_a_killed_node_holds_is_in_the_backup(tmp_path: Path) -> None:
    source = tmp_path / "dms.sqlite"
    async with await Store.open(source) as store:
        await Repository(store, reservations, RAM).create(RAM(), "in the log")
        killed = tmp_path / "killed"
        copy_as_killed(source, killed)
    take(killed / "dms.sqlite", killed / "copy.sqlite")
    assert await trio.to_thread.run_sync(names, killed / "copy.sqlite") == ["in the log"]


def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    source = tmp_path / "dms.sqlite"
    write(source, "a")
    for taken in (tmp_path / "copy.sqlite", tmp_path / "other.sqlite.sha256"):
        taken.write_text("mine")
        with pytest.raises(BackupExists):
            take(source, tmp_path / taken.name.removesuffix(".sha256"))
        assert taken.read_text() == "mine"
    assert listing(tmp_path) == {"dms.sqlite", "copy.sqlite", "other.sqlite.sha256"}


def test_what_a_killed_backup_left_is_taken_over_and_two_do_not_meet(tmp_path: Path) -> None:
    source, copy = tmp_path / "dms.sqlite", tmp_path / "copy.sqlite"
    write(source, "a")
    left = tmp_path / ".copy.sqlite.partial"
    left.write_bytes(b"left behind" * 1000)
    with left.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BackupExists, match="another process is writing"):
            take(source, copy)
    take(source, copy)
    assert listing(tmp_path) == {"dms.sqlite", "copy.sqlite", "copy.sqlite.sha256"}
    assert names(copy) == ["a"]


async def test_a_backup_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    source = tmp_path / "dms.sqlite"
    with pytest.raises(NoDatabase):
        take(source, tmp_path / "copy.sqlite")
    async with await Store.open(source) as store:
        repository = Repository(store, reservations, RAM)
        await store.run(lambda s: [repository.on(s).create(RAM(type="x" * 500)).id for _ in range(200)])
    damage(source)
    before = source.read_bytes()
    with pytest.raises(StoreCorrupt, match="damaged"):
        take(source, tmp_path / "copy.sqlite")
    with pytest.raises(StoreError, match="cannot open"):
        take(source, tmp_path / "nowhere" / "copy.sqlite")
    assert (listing(tmp_path), source.read_bytes()) == ({"dms.sqlite"}, before)


def test_a_backup_that_was_changed_is_noticed_and_not_restored(tmp_path: Path) -> None:
    source, copy = tmp_path / "dms.sqlite", tmp_path / "copy.sqlite"
    write(source, "a")
    take(source, copy)
    other = sqlite3.connect(copy)
    other.execute("UPDATE reservations SET id = 'b'")
    other.commit()
    other.close()
    (problem,) = verify(copy).problems
    assert problem.startswith("its SHA-256 is ")
    before = source.read_bytes()
    with pytest.raises(BadBackup, match="SHA-256"):
        restore(copy, source)
    assert source.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, None])
def test_what_is_no_backup_is_not_restored(tmp_path: Path, content: bytes | None) -> None:
    source, bad = tmp_path / "dms.sqlite", tmp_path / "bad.sqlite"
    write(source, "a")
    if content is None:
        other = sqlite3.connect(bad)
        other.execute("CREATE TABLE things (a)")
        other.close()
    else:
        bad.write_bytes(content)
    with pytest.raises(BadBackup, match="not a sound backup"):
        restore(bad, source)
    assert listing(tmp_path) == {"dms.sqlite", "bad.sqlite"}
    with pytest.raises(NoBackup, match=r"there is no backup .*nothing"):
        restore(tmp_path / "nothing", source)


def test_a_backup_of_a_newer_release_is_not_restored(tmp_path: Path) -> None:
    source, copy = tmp_path / "dms.sqlite", tmp_path / "copy.sqlite"
    write(source, "a")
    other = sqlite3.connect(source)
    other.execute("UPDATE alembic_version SET version_num = '9999'")
    other.commit()
    other.close()
    with pytest.raises(StoreCorrupt, match="newer release"):
        take(source, copy)
    shutil.copy(source, copy)
    with pytest.raises(BadBackup, match="newer release"):
        restore(copy, source)


def test_restore_puts_the_backup_back_and_keeps_the_old_one(tmp_path: Path) -> None:
    source, copy = tmp_path / "dms.sqlite", tmp_path / "copy.sqlite"
    write(source, "a")
    take(source, copy)
    write(source, "b")
    aside = restore(copy, source, now_s=NOW_S)
    assert aside == tmp_path / "dms-before-20300317T174640Z.sqlite"
    assert (names(source), names(aside)) == (["a"], ["a", "b"])
    assert source.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BackupExists):
        restore(copy, source, now_s=NOW_S)
    assert names(source) == ["a"]
    assert verify(copy).problems == ()


def test_restore_into_nothing_and_to_nothing(tmp_path: Path) -> None:
    source, copy = tmp_path / "dms.sqlite", tmp_path / "copy.sqlite"
    write(source, "a")
    take(source, copy)
    elsewhere = tmp_path / "new" / "work" / "dms.sqlite"
    assert restore(copy, elsewhere) is None
    assert names(elsewhere) == ["a"]
    assert restore(None, elsewhere, now_s=NOW_S) == elsewhere.with_name("dms-before-20300317T174640Z.sqlite")
    assert restore(None, elsewhere, now_s=NOW_S) is None
    assert names(elsewhere) == []


async def test_restore_is_refused_while_the_node_runs(tmp_path: Path) -> None:
    source, copy = tmp_path / "dms.sqlite", tmp_path / "copy.sqlite"
    async with await Store.open(source) as store:
        await Repository(store, reservations, RAM).create(RAM(), "a")
        await trio.to_thread.run_sync(take, source, copy)
        for backup in (copy, None):
            with pytest.raises(StoreInUse):
                restore(backup, source)
        await Repository(store, reservations, RAM).create(RAM(), "b")
    assert await trio.to_thread.run_sync(names, source) == ["a", "b"]


def test_a_damaged_database_is_kept_aside_with_its_log(tmp_path: Path) -> None:
    source, copy = tmp_path / "dms.sqlite", tmp_path / "copy.sqlite"
    write(source, "a")
    take(source, copy)
    source.write_bytes(b"rubbish" * 1000)
    Path(f"{source}-wal").write_bytes(b"more rubbish")
    aside = restore(copy, source)
    assert aside is not None
    assert (aside.read_bytes(), Path(f"{aside}-wal").read_bytes()) == (b"rubbish" * 1000, b"more rubbish")
    assert names(source) == ["a"]


def test_the_default_name_sorts_by_time() -> None:
    assert default_name(Path("/x/dms.sqlite"), NOW_S) == "dms-20300317T174640Z.sqlite"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot open the database"):
        restore(None, tmp_path / "file" / "dms.sqlite")
    assert issubclass(StoreReadOnly, StoreError)


# One child per call that changes the file system: it kills itself before the n-th.
SCRIPT = """
import os, shutil, signal, sys
from pathlib import Path
from dms.store.backup import restore, verify

work, copy, states = map(Path, sys.argv[1:])

def restore_until(step):
    count = 0
    def pass_by():
        nonlocal count
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
    def deadly(function):
        def call(*args, **kwargs):
            pass_by()
            return function(*args, **kwargs)
        return call
    for name in ("fsync", "replace", "rename", "link", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    restore(copy, work / "dms.sqlite", now_s=0.0)

verify(copy)  # what is imported now need not be imported by each child
before, step = {p.name: p.read_bytes() for p in work.iterdir()}, 0
while True:
    child = os.fork()
    if not child:
        restore_until(step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    shutil.copytree(work, states / str(step))
    if not os.WIFSIGNALED(status):
        break
    shutil.rmtree(work)
    work.mkdir()
    for name, data in before.items():
        (work / name).write_bytes(data)
    step += 1
"""


def test_a_kill_at_any_step_of_a_restore_leaves_the_old_database_or_the_new_one(tmp_path: Path) -> None:
    work, copy, states = tmp_path / "work", tmp_path / "copy.sqlite", tmp_path / "states"
    work.mkdir()
    states.mkdir()
    write(work / "dms.sqlite", "new")
    take(work / "dms.sqlite", copy)
    write(work / "dms.sqlite", "old")
    subprocess.run([sys.executable, "-c", SCRIPT, str(work), str(copy), str(states)], check=True, timeout=100)
    found = []
    for step in range(len(list(states.iterdir()))):
        examined = examine(states / str(step) / "dms.sqlite")
        assert examined.problems == (), step
        found.append(examined.records["reservations"])
    assert len(found) > 10, "it was killed at every step"
    changed = found.index(1)
    assert found == [2] * changed + [1] * (len(found) - changed)
    assert changed > 5, "the file is replaced at the end only"
