"""The database of a node: a SQLite file that is written by one transaction at a time, in a worker thread.

Acknowledged means fsynced: WAL with ``synchronous=FULL``. There is one connection and one user of it at a time, so a
transaction never meets another. ``Store.open(None)`` is the twin in memory: it runs in the caller's own thread, because
a virtual clock with autojump does not wait for threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import trio
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from dms.store.errors import InvalidData, StoreClosed, StoreCorrupt, StoreError, StoreFull, StoreInUse
from dms.store.migrate import bring_to_head
from dms.types import gojson

T = TypeVar("T")

Session = Connection
"""What a transaction's function gets: SQLAlchemy Core suffices, and loads in half the time of its ORM."""

BUSY_TIMEOUT_MS = 5000
MAX_CHECKED_BYTES = 16 << 20
"""A file up to this size is checked for damage when it is opened; a larger one would make the start slow."""

NS_PER_S = 1_000_000_000

_NOW = "now_ns"


class Store:
    """An open database; make one with :meth:`open`, end it with :meth:`aclose` or ``async with``."""

    def __init__(self, engine: Engine, path: Path | None, lock: int | None, now: Callable[[], float]) -> None:
        self.path = path
        self._engine = engine
        self._lock = lock
        self._now = now
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._closed = False

    @classmethod
    async def open(cls, path: Path | None, *, now: Callable[[], float] = time.time) -> Store:
        """Open or make the database file at ``path``, bring it to the newest schema; ``None``: one in memory.

        ``now`` is the wall clock in seconds since 1970.

        :raises StoreInUse: another process, or another store here, has it open.
        :raises StoreTooNew: a newer release has written it.
        :raises StoreCorrupt: it is damaged or something else.
        """
        if path is None:
            await trio.lowlevel.checkpoint()
            return cls(_open_engine(None), None, None, now)
        engine, lock = await trio.to_thread.run_sync(_open_file, path)
        return cls(engine, path, lock, now)

    async def run(self, fn: Callable[[Session], T]) -> T:
        """Run ``fn`` in one transaction; when this returns, what it wrote is on the disk. An error undoes all of it.

        Once begun it is not cancelled: either nothing happened or all did. ``fn`` runs in another thread and
        may use nothing but its session and values that do not change.

        :raises StoreError: the database failed.
        """
        if self._closed:
            raise StoreClosed
        if self.path is None:
            await trio.lowlevel.checkpoint()
            return self._transact(fn, self._now_ns())
        return await trio.to_thread.run_sync(self._transact, fn, self._now_ns(), limiter=self._one_at_a_time)

    async def aclose(self) -> None:
        """Close the file once the transactions that wait are done; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        with trio.CancelScope(shield=True):
            if self.path is None:
                self._dispose()
            else:
                await trio.to_thread.run_sync(self._dispose, limiter=self._one_at_a_time)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _transact(self, fn: Callable[[Session], T], now_ns: int) -> T:
        with translated(self.path), self._engine.begin() as session:
            session.info[_NOW] = now_ns
            return fn(session)

    def _now_ns(self) -> int:
        """Read in trio's thread, so that the clock may be trio's."""
        return int(self._now() * NS_PER_S)

    def _dispose(self) -> None:
        self._engine.dispose()
        if self._lock is not None:
            os.close(self._lock)


def now_ns(session: Session) -> int:
    """When the transaction was asked for, in nanoseconds since 1970: what its records are stamped with."""
    stamp: int = session.info[_NOW]
    return stamp


@contextlib.contextmanager
def translated(path: Path | None) -> Iterator[None]:
    """Errors of the database as errors of ours."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OverflowError) as exc:
        orig = getattr(exc, "orig", None)
        if isinstance(orig, TypeError | ValueError) or isinstance(exc, OverflowError):
            raise InvalidData(f"invalid data given: {orig or exc}") from exc
        cause = str(orig or exc)
        where = path or "in memory"
        if "disk image is malformed" in cause or "not a database" in cause:
            raise StoreCorrupt(f"the database {where} is damaged: {cause}") from exc
        if "disk is full" in cause:
            raise StoreFull(f"no room left for the database {where}") from exc
        raise StoreError(f"database error: {cause}") from exc


def _open_file(path: Path) -> tuple[Engine, int]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StoreError(f"cannot open the database {path}: {exc.strerror}", hint="see general.work_dir") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _make_private(path)
        return _open_engine(path), lock
    except BlockingIOError:
        os.close(lock)
        raise StoreInUse(f"another process uses the database {path}") from None
    except OSError as exc:
        os.close(lock)
        raise StoreError(f"cannot open the database {path}: {exc.strerror}", hint="see general.work_dir") from None
    except BaseException:
        os.close(lock)
        raise


def _make_private(path: Path) -> None:
    """An existing or new file that only its owner reads, and that the directory remembers after a power cut."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _open_engine(path: Path | None) -> Engine:
    engine = create_engine(
        "sqlite://" if path is None else f"sqlite:///{path}",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False},
        json_serializer=lambda value: gojson.encode(value).decode(),
        json_deserializer=str,  # documents stay text until their type is known
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        with translated(path), engine.begin() as session:
            if path is not None and path.stat().st_size <= MAX_CHECKED_BYTES:
                _check(session, path)
            bring_to_head(session, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _configure(connection: Any, _record: object) -> None:  # a DB-API connection has no type
    connection.isolation_level = None  # sqlite3 would begin transactions late and not at all for DDL
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "fullfsync=ON",
        "foreign_keys=ON",
        "trusted_schema=OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(session: Session) -> None:
    session.exec_driver_sql("BEGIN IMMEDIATE")


def _check(session: Session, path: Path) -> None:
    verdict = session.execute(text("PRAGMA quick_check(1)")).scalar()
    if verdict != "ok":
        raise StoreCorrupt(f"the database {path} is damaged: {verdict}")
