"""Records written and read through repositories, beside the same rows by bare `sqlite3` with the same care for the disk.

Both write to one disk with a write-ahead log and a sync per commit, and take turns in one run. The bare side does what a
program that does without repositories would do: JSON in a text column, parsed by `json`, in the same thread. Through a
repository come a worker thread, SQLAlchemy, checks of types and the error tree.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import trio
from sqlalchemy import MetaData

from bench.networks import Bench
from bench.report import Report
from dms.store import Query, Repository, Session, Store
from dms.store.collection import relational_table
from dms.store.query import gt
from dms.store.schema import reservations
from dms.types.resources import CPU, RAM, Disk, Resources

V = TypeVar("V", bound=msgspec.Struct)

TURNS = 7
WRITES = 100
READS = 500
BATCH = 1000
FOUND = 100
"""Records of the batch that a query finds."""

columns = relational_table("bench_columns", MetaData(), RAM)


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("store", "what does a record cost that goes through a repository?")
    scratch = bench.scratch / "store"
    scratch.mkdir(parents=True)
    runs = trio.run(_take_turns, scratch)
    for name, count in (("write", WRITES), ("read", READS), ("reads", READS), ("batch", BATCH), ("query", FOUND)):
        for side in ("documents", "columns", "bare"):
            per_us = [seconds / count * 1e6 for seconds in runs[side, name]]
            report.median(f"{_MEANING[name]}, {_SIDES[side]}", per_us, "us")
    for name in _MEANING:
        for side in ("documents", "columns"):
            report.ratio(f"{_MEANING[name]}: {_SIDES[side]} / {_SIDES['bare']}", runs[side, name], runs["bare", name])
    return report


_MEANING = {
    "write": "a record written and synced",
    "read": "a record read by its id",
    "reads": f"a record of {READS} read by their ids in one transaction",
    "batch": f"a record of {BATCH} written in one transaction",
    "query": f"a record of {FOUND} found among {BATCH} by a member",
}
_SIDES = {"documents": "document repository", "columns": "relational repository", "bare": "bare sqlite3"}


def _value(number: int) -> Resources:
    return Resources(cpu=CPU(cores=number % 64, model="x" * 20), ram=RAM(size=number), disk=Disk(size=number << 30))


async def _take_turns(scratch: Path) -> dict[tuple[str, str], list[float]]:
    runs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for turn in range(TURNS + 1):
        directory = scratch / str(turn)
        directory.mkdir()
        async with await Store.open(directory / "dms.sqlite") as store:
            await store.run(lambda session: columns.create(session))
            times = {
                "documents": await _repository(Repository(store, reservations, Resources), store, _value, "ram.size"),
                "columns": await _repository(
                    Repository(store, columns, RAM), store, lambda number: RAM(size=number, type="x" * 20), "size"
                ),
                "bare": _bare(directory / "bare.sqlite"),
            }
        if turn:  # the first warms caches
            for side, found in times.items():
                for name, seconds in found.items():
                    runs[side, name].append(seconds)
        shutil.rmtree(directory)
    return runs


async def _repository(
    repository: Repository[V], store: Store, value: Callable[[int], V], member: str
) -> dict[str, float]:
    ids = [str(uuid.uuid4()) for _ in range(WRITES)]

    async def write() -> None:
        for number, key in enumerate(ids):
            await repository.create(value(number), key)

    async def read() -> None:
        for number in range(READS):
            await repository.get(ids[number % WRITES])

    def look_up(session: Session) -> None:
        documents = repository.on(session)
        for number in range(READS):
            documents.get(ids[number % WRITES])

    async def reads() -> None:
        await store.run(look_up)

    def fill(session: Session) -> None:
        documents = repository.on(session)
        for number in range(BATCH):
            documents.create(value(1000 + number))

    async def batch() -> None:
        await store.run(fill)

    async def query() -> None:
        assert len(await repository.find_all(Query().where(gt(member, 999 + BATCH - FOUND)))) == FOUND

    work = {"write": write, "read": read, "reads": reads, "batch": batch, "query": query}
    return {name: await _timed(one) for name, one in work.items()}


def _bare(path: Path) -> dict[str, float]:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute(
        "CREATE TABLE t (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at INTEGER, updated_at INTEGER, data TEXT)"
    )
    ids = [str(uuid.uuid4()) for _ in range(WRITES)]

    def insert(key: str, number: int) -> None:
        data = json.dumps(
            {"cpu": {"cores": number % 64, "model": "x" * 20}, "ram": {"size": number}, "disk": {"size": number}}
        )
        now = time.time_ns()
        connection.execute(
            "INSERT INTO t (id, created_at, updated_at, data) VALUES (?, ?, ?, ?)", (key, now, now, data)
        )

    def write() -> None:
        for number, key in enumerate(ids):
            connection.execute("BEGIN IMMEDIATE")
            insert(key, number)
            connection.execute("COMMIT")

    def read() -> None:
        for number in range(READS):
            row = connection.execute("SELECT * FROM t WHERE id = ?", (ids[number % WRITES],)).fetchone()
            json.loads(row[4])

    def reads() -> None:
        connection.execute("BEGIN IMMEDIATE")
        read()
        connection.execute("COMMIT")

    def batch() -> None:
        connection.execute("BEGIN IMMEDIATE")
        for number in range(BATCH):
            insert(str(uuid.uuid4()), 1000 + number)
        connection.execute("COMMIT")

    def query() -> None:
        sql = "SELECT * FROM t WHERE json_extract(data, '$.ram.size') > ? ORDER BY seq"
        found = [json.loads(row[4]) for row in connection.execute(sql, (999 + BATCH - FOUND,))]
        assert len(found) == FOUND

    times = {}
    for name, work in (("write", write), ("read", read), ("reads", reads), ("batch", batch), ("query", query)):
        begun = time.perf_counter()
        work()
        times[name] = time.perf_counter() - begun
    connection.close()
    return times


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun
