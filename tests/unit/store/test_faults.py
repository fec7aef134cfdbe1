"""Disks that are full or cannot be written, for real: what was acknowledged stays, and the error says what it is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dms.store import Repository, Store
from dms.store.backup import restore, take
from dms.store.errors import StoreError, StoreFull, StoreReadOnly
from dms.store.examine import examine
from dms.store.schema import reservations
from dms.types.resources import RAM

BLOCK = "x" * 50_000


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def fill(repository: Repository[RAM]) -> list[str]:
    """Write until there is no room; what was acknowledged."""
    written: list[str] = []
    for number in range(100):
        try:
            await repository.create(RAM(type=BLOCK), str(number))
        except StoreFull as exc:
            return written if exc.retryable and "no room left" in exc.message else []
        written.append(str(number))
    raise AssertionError("there was room for all")


@pytest.mark.mounts
async def test_a_full_disk_costs_nothing_that_was_acknowledged_and_passes(small: Path) -> None:
    ballast, path = small / "ballast", small / "dms.db"
    ballast.write_bytes(bytes(500_000))
    async with await Store.open(path) as store:
        repository = Repository(store, reservations, RAM)
        written = await fill(repository)
        assert len(written) > 3
        assert [record.id for record in await repository.find_all()] == written
        ballast.unlink()
        await repository.create(RAM(), "after")
    assert examine(path).problems == ()
    async with await Store.open(path) as store:
        found = [record.id for record in await Repository(store, reservations, RAM).find_all()]
    assert found == [*written, "after"]


@pytest.mark.mounts
async def test_a_node_that_starts_on_a_full_disk_says_so(small: Path) -> None:
    (small / "ballast").write_bytes(bytes(2 * 1024 * 1024))
    with pytest.raises(StoreFull, match=r"no room left|No space left"):
        await Store.open(small / "dms.db")
    (small / "ballast").unlink()
    await (await Store.open(small / "dms.db")).aclose()


@pytest.mark.mounts
async def test_a_backup_or_a_restore_that_finds_no_room_leaves_nothing(
    small: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    async with await Store.open(elsewhere / "dms.db") as store:
        for number in range(60):
            await Repository(store, reservations, RAM).create(RAM(type=BLOCK), str(number))
    with pytest.raises(StoreFull, match=r"copy\.db"):
        take(elsewhere / "dms.db", small / "copy.db")
    assert names(small) == []
    async with await Store.open(small / "dms.db") as store:
        await Repository(store, reservations, RAM).create(RAM(), "a")
    take(elsewhere / "dms.db", elsewhere / "copy.db")
    with pytest.raises(StoreFull):
        restore(elsewhere / "copy.db", small / "dms.db")
    assert names(small) == ["dms.db", "dms.db.lock"]
    assert examine(small / "dms.db").records["reservations"] == 1


@pytest.mark.mounts
async def test_a_file_system_that_became_read_only_is_told_and_can_still_be_read(small: Path) -> None:
    path = small / "dms.db"
    async with await Store.open(path) as store:
        await Repository(store, reservations, RAM).create(RAM(), "a")
    mount("-o", "remount,ro", small)
    with pytest.raises(StoreReadOnly, match="Read-only file system") as caught:
        await Store.open(path)
    assert caught.value.retryable
    assert "read-write" in caught.value.hint
    found = examine(path)
    assert (found.problems, found.records["reservations"]) == ((), 1)
    with pytest.raises(StoreReadOnly):
        restore(None, path)


async def test_a_connection_that_may_not_write_is_told_as_such(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "dms.db") as store:
        repository = Repository(store, reservations, RAM)
        await store.run(lambda s: s.execute(text("PRAGMA query_only=ON")))
        with pytest.raises(StoreReadOnly, match="cannot be written: attempt to write a readonly database"):
            await repository.create(RAM())


async def test_a_large_file_is_checked_at_the_start_after_its_node_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    async with await Store.open(path) as store:
        repository = Repository(store, reservations, RAM)
        await store.run(lambda s: [repository.on(s).create(RAM(type="x" * 1_000_000)).id for _ in range(18)])
        await repository.create(RAM(), "last")
    size = path.stat().st_size
    with path.open("r+b") as file:  # a page of the middle, which nobody reads at the start
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xff" * 8192)
    assert examine(path).problems
    await (await Store.open(path)).aclose()
    (tmp_path / "dms.db-wal").write_bytes(b"left behind")
    with pytest.raises(StoreError, match="damaged"):
        await Store.open(path)


LIMITED = """
import resource, signal, sys, trio
from pathlib import Path
from dms.store import Repository, Store
from dms.store.errors import StoreError
from dms.store.schema import reservations
from dms.types.resources import RAM

async def main():
    async with await Store.open(Path(sys.argv[1])) as store:
        repository = Repository(store, reservations, RAM)
        await repository.create(RAM(), "before")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        try:
            await repository.create(RAM(type="x" * 1_000_000), "too much")
        except StoreError as exc:
            print(exc.message, exc.hint, sep="\\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await repository.create(RAM(), "after")
        print(*[record.id for record in await repository.find_all()])

trio.run(main)
"""


def test_a_disk_that_fails_is_told_as_such_and_nothing_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    message, hint, records = done.stdout.splitlines()
    assert message.startswith(f"the disk under the database {path} fails: disk I/O error (SQLITE_IOERR_WRITE")
    assert "dmesg" in hint
    assert records == "before after"
    assert (done.returncode, done.stderr, examine(path).problems) == (0, "", ())
