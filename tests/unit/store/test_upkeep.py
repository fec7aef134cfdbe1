import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from dms.store import Documents, Query, Repository, Session, Store
from dms.store.examine import examine
from dms.store.retention import Retention
from dms.store.schema import reservations
from dms.store.upkeep import CHECK_INTERVAL_S, Upkeep
from dms.types.resources import RAM

MIB = 1 << 20
DAY_S = 86400.0


def fill(session: Session, repository: Repository[RAM], mib: int) -> None:
    documents = repository.on(session)
    for number in range(mib):
        documents.create(RAM(type="x" * MIB), str(number))


def hide(documents: Documents[RAM], count: int) -> None:
    for number in range(count):
        documents.hide(str(number))


def sizes(path: Path) -> tuple[int, int]:
    """Bytes of the file, which must be sound, and of its log."""
    assert examine(path).problems == ()
    return path.stat().st_size, Path(f"{path}-wal").stat().st_size


async def test_what_was_pruned_makes_the_file_smaller_and_the_log_empty(tmp_path: Path) -> None:
    path, now_s = tmp_path / "dms.db", [1000.0]
    async with await Store.open(path, now=lambda: now_s[0]) as store:
        repository = Repository(store, reservations, RAM)
        await store.run(lambda s: fill(s, repository, 5))
        await store.run(lambda s: hide(repository.on(s), 4))
        now_s[0] += 100
        before = sizes(path)[0]
        assert before > 5 * MIB
        await Upkeep(store, Retention(hidden_s=50)).run()
        after, log = sizes(path)
        assert (after < 2 * MIB, log) == (True, 0)
        assert await repository.count() == 1


async def test_a_file_of_an_early_release_is_written_anew_once_that_pays(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    await (await Store.open(path)).aclose()
    early = sqlite3.connect(path, isolation_level=None)
    early.execute("PRAGMA journal_mode=DELETE")
    early.execute("PRAGMA auto_vacuum=NONE")
    early.execute("VACUUM")
    early.close()
    async with await Store.open(path) as store:
        repository = Repository(store, reservations, RAM)
        assert await store.run(lambda s: s.execute(text("PRAGMA auto_vacuum")).scalar()) == 0
        await store.run(lambda s: fill(s, repository, 12))
        upkeep = Upkeep(store, Retention())
        await upkeep.run()
        assert sizes(path)[0] > 12 * MIB
        await store.run(lambda s: s.execute(reservations.delete().where(reservations.c.id != "3")))
        await upkeep.run()
        assert sizes(path)[0] < 2 * MIB
        assert await store.run(lambda s: s.execute(text("PRAGMA auto_vacuum")).scalar()) == 2
        assert (await repository.get("3")).value == RAM(type="x" * MIB)
        assert await store.run(lambda s: s.execute(text("PRAGMA synchronous")).scalar()) == 2


async def test_damage_is_noticed_while_the_node_runs_and_told_once_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, now_s = tmp_path / "dms.db", [0.0]
    async with await Store.open(path, now=lambda: now_s[0]) as store:
        repository = Repository(store, reservations, RAM)
        await store.run(lambda s: [repository.on(s).create(RAM(type="x" * 500)).id for _ in range(200)])
        upkeep = Upkeep(store, Retention(), lambda: now_s[0])
        await upkeep.run()  # all is well, and in the file
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(size // 2)
            file.write(os.urandom(size - size // 2))
        now_s[0] += CHECK_INTERVAL_S / 2
        await upkeep.run()
        assert caplog.records == []
        now_s[0] += CHECK_INTERVAL_S
        await upkeep.run()
        await upkeep.run()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", "database_damaged")]
    assert "nunet db restore" in caplog.records[0].__dict__["event_fields"]["hint"]


async def test_a_database_in_memory_is_only_pruned() -> None:
    async with await Store.open(None) as store:
        await Upkeep(store, Retention(hidden_s=1)).run()
        assert await Repository(store, reservations, RAM).count() == 0


async def test_after_a_leap_of_the_clock_nothing_is_too_old_until_the_next_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wall_s, now_s = [1_000_000.0], [50.0]
    async with await Store.open(None, now=lambda: wall_s[0]) as store:
        repository = Repository(store, reservations, RAM)
        await repository.create(RAM(), "a")
        await repository.hide("a")
        upkeep = Upkeep(store, Retention(hidden_s=DAY_S), lambda: now_s[0])

        async def kept_after(wall: float, elapsed: float) -> int:
            wall_s[0], now_s[0] = wall_s[0] + wall, now_s[0] + elapsed
            await upkeep.run()
            return await repository.count(Query(with_hidden=True))

        assert await kept_after(0, 0) == 1
        assert await kept_after(100 * DAY_S, 3600) == 1  # somebody set it to another year
        assert await kept_after(-100 * DAY_S, 3600) == 1  # and back
        assert [record.getMessage() for record in caplog.records] == ["database_not_pruned"] * 2
        assert await kept_after(3600, 3600) == 1
        assert await kept_after(DAY_S, DAY_S) == 0
