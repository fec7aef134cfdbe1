import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from sqlalchemy import text

from dms.store import Repository, Session, Store
from dms.store.errors import (
    InvalidData,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreInUse,
    StoreTooNew,
)
from dms.store.schema import reservations
from dms.types.ids import PeerID
from dms.types.resources import RAM


async def test_the_file_is_private_and_every_commit_is_synced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "dms.db"
    async with await Store.open(path) as store:
        pragmas = {}
        for name in ("journal_mode", "synchronous", "foreign_keys"):
            pragmas[name] = await store.run(lambda s, name=name: s.execute(text(f"PRAGMA {name}")).scalar())  # type: ignore[misc]
        modes = {p.name: p.stat().st_mode & 0o777 for p in path.parent.iterdir()}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert set(modes.values()) == {0o600}
    assert {"dms.db", "dms.db-wal"} <= set(modes)
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    path.touch(mode=0o644)
    path.chmod(0o644)
    await (await Store.open(path)).aclose()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("in_memory", [True, False])
async def test_an_error_undoes_the_whole_transaction(tmp_path: Path, in_memory: bool) -> None:
    async with await Store.open(None if in_memory else tmp_path / "dms.db") as store:
        repository = Repository(store, reservations, RAM)

        def half(session: Session) -> None:
            repository.on(session).create(RAM(size=1), "a")
            raise KeyError("on purpose")

        with pytest.raises(KeyError):
            await store.run(half)
        assert await repository.count() == 0
        await repository.create(RAM(size=1), "a")
        assert await repository.count() == 1


async def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    async with await Store.open(path) as store:
        await Repository(store, reservations, RAM).create(RAM(size=7), "a")
    async with await Store.open(path) as store:
        assert (await Repository(store, reservations, RAM).get("a")).value == RAM(size=7)


async def test_two_stores_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    async with await Store.open(path):
        with pytest.raises(StoreInUse) as caught:
            await Store.open(path)
    assert "general.work_dir" in caught.value.hint
    await (await Store.open(path)).aclose()


async def test_concurrent_transactions_happen_one_after_the_other(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "dms.db") as store:
        repository = Repository(store, reservations, RAM)
        await repository.create(RAM(size=0), "counter")

        def increment(session: Session) -> None:
            documents = repository.on(session)
            documents.update("counter", RAM(size=documents.get("counter").value.size + 1))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(store.run, increment)
        assert (await repository.get("counter")).value.size == 20


async def test_a_transaction_that_began_is_not_cancelled_half_way(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "dms.db") as store:
        repository = Repository(store, reservations, RAM)
        with trio.CancelScope() as scope:

            def write(session: Session) -> str:
                trio.from_thread.run_sync(scope.cancel)
                return repository.on(session).create(RAM(size=1), "a").id

            assert await store.run(write) == "a"
        assert await repository.count() == 1
        with trio.CancelScope() as scope:
            scope.cancel()
            await repository.create(RAM(size=1), "b")
        assert await repository.count() == 1


async def test_the_twin_in_memory_needs_no_thread_so_that_virtual_time_stands_still(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with await Store.open(None) as store:
        repository = Repository(store, reservations, RAM)
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 3600)
            await repository.create(RAM(size=1))
            assert trio.current_time() == begun
            nursery.cancel_scope.cancel()


async def test_stores_in_memory_are_apart() -> None:
    async with await Store.open(None) as one, await Store.open(None) as two:
        await Repository(one, reservations, RAM).create(RAM(size=1))
        assert await Repository(two, reservations, RAM).count() == 0


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "dms.db")
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreClosed):
        await Repository(store, reservations, RAM).count()


@pytest.mark.parametrize(
    "raw", [b"not a database at all, but long enough to look like one" * 100, b"SQLite format 3\0oops"]
)
async def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "dms.db"
    path.write_bytes(raw)
    with pytest.raises(StoreCorrupt) as caught:
        await Store.open(path)
    assert str(path) in caught.value.message
    assert "backup" in caught.value.hint
    path.unlink()
    await (await Store.open(path)).aclose()


async def test_damage_in_the_middle_is_found_when_opening(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    async with await Store.open(path) as store:
        repository = Repository(store, reservations, RAM)
        await store.run(lambda s: [repository.on(s).create(RAM(size=n, type="x" * 500)).id for n in range(100)])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 :] = os.urandom(len(raw) - len(raw) // 2)
    path.write_bytes(raw)
    with pytest.raises(StoreCorrupt, match="damaged"):
        await Store.open(path)


async def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE things (a)")
    other.close()
    with pytest.raises(StoreCorrupt, match="another program"):
        await Store.open(path)


async def test_the_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    async with await Store.open(path) as store:
        await store.run(lambda s: s.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match="its schema is 9999"):
        await Store.open(path)
    assert path.read_bytes() == before


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot open the database"):
        await Store.open(tmp_path / "file" / "dms.db")
    (tmp_path / "directory").mkdir()
    with pytest.raises(StoreError, match="cannot open the database"):
        await Store.open(tmp_path / "directory")


async def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "dms.db") as store:
        repository = Repository(store, reservations, RAM)
        pages = await store.run(lambda s: s.execute(text("PRAGMA page_count")).scalar_one())
        await store.run(lambda s: s.execute(text(f"PRAGMA max_page_count = {pages}")).scalar())
        with pytest.raises(StoreFull) as caught:
            await repository.create(RAM(type="x" * 1_000_000))
        assert caught.value.retryable
        await store.run(lambda s: s.execute(text("PRAGMA max_page_count = 100000")).scalar())
        await repository.create(RAM(type="x" * 10_000))


async def test_errors_of_statements_keep_their_cause() -> None:
    async with await Store.open(None) as store:
        with pytest.raises(StoreError, match="database error: no such table: nowhere"):
            await store.run(lambda s: s.execute(text("SELECT * FROM nowhere")))
        with pytest.raises(InvalidData):
            await Repository(store, reservations, RAM).create(RAM(type=PeerID(object())))  # type: ignore[arg-type]


WRITER = """
import sys, trio
from pathlib import Path
from dms.store import Repository, Store
from dms.store.schema import reservations
from dms.types.resources import RAM

async def main():
    store = await Store.open(Path(sys.argv[1]))
    repository = Repository(store, reservations, RAM)
    for n in range(1000000):
        await repository.create(RAM(size=n), str(n))
        print(n, flush=True)

trio.run(main)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=env)
    assert writer.stdout is not None
    try:
        acknowledged = [writer.stdout.readline() for _ in range(25)]
    finally:
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0]
    numbers = [int(line) for line in acknowledged + rest.split(b"\n") if line.strip().isdigit()]
    assert len(numbers) >= 25

    async def stored() -> set[int]:
        async with await Store.open(path) as store:
            return {record.value.size for record in await Repository(store, reservations, RAM).find_all()}

    found = trio.run(stored)
    assert set(numbers) <= found
    assert len(found) <= len(numbers) + 1  # the one that was written but not yet acknowledged
