"""The database of a node: a SQLite file or a PostgreSQL schema, written by one transaction at a time, in a worker thread.

Acknowledged means on the disk. There is one connection and one user of it at a time, so a transaction never meets
another. ``Store.open(None)`` is the twin in memory: it runs in the caller's own thread, because a virtual clock with
autojump does not wait for threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import trio
from sqlalchemy import Connection, Engine

from dms.store import sqlite
from dms.store.address import DatabaseURL
from dms.store.errors import StoreClosed
from dms.store.faults import translated

T = TypeVar("T")

Session = Connection
"""What a transaction's function gets: SQLAlchemy Core suffices, and loads in half the time of its ORM."""

NS_PER_S = 1_000_000_000

_NOW = "now_ns"


class Store:
    """An open database; make one with :meth:`open`, end it with :meth:`aclose` or ``async with``."""

    def __init__(
        self,
        engine: Engine,
        path: Path | None,
        lock: int | None,
        now: Callable[[], float],
        *,
        url: DatabaseURL | None = None,
    ) -> None:
        self.path = path
        self.url = url
        self._engine = engine
        self._lock = lock
        self._now = now
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._closed = False

    @classmethod
    async def open(cls, where: Path | DatabaseURL | None, *, now: Callable[[], float] = time.time) -> Store:
        """Open or make the database at ``where``, bring it to the newest schema; ``None``: one in memory.

        ``now`` is the wall clock in seconds since 1970.

        :raises StoreInUse: another process, or another store here, has it open.
        :raises StoreTooNew: a newer release has written it.
        :raises StoreCorrupt: it is damaged or something else.
        :raises StoreError: it cannot be reached, read or written.
        """
        if where is None:
            await trio.lowlevel.checkpoint()
            return cls(sqlite.open_engine(None), None, None, now)
        if isinstance(where, DatabaseURL):
            from dms.store.postgres import open_server  # with its driver, which few need

            return cls(await trio.to_thread.run_sync(open_server, where), None, None, now, url=where)
        engine, lock = await trio.to_thread.run_sync(sqlite.open_file, where)
        return cls(engine, where, lock, now)

    @property
    def where(self) -> object:
        """For messages: the file, the address without its password, or that it is in memory."""
        return self.url or self.path or "in memory"

    async def run(self, fn: Callable[[Session], T]) -> T:
        """Run ``fn`` in one transaction; when this returns, what it wrote is on the disk. An error undoes all of it.

        Once begun it is not cancelled: either nothing happened or all did. ``fn`` runs in another thread and
        may use nothing but its session and values that do not change.

        :raises StoreError: the database failed.
        """
        if self._closed:
            raise StoreClosed
        if self._is_in_memory:
            await trio.lowlevel.checkpoint()
            return self._transact(fn, self._now_ns())
        return await trio.to_thread.run_sync(self._transact, fn, self._now_ns(), limiter=self._one_at_a_time)

    async def compact(self) -> None:
        """Give free space back to the file system, a little at a time, and empty the write-ahead log. Of a server: nothing
        to do.

        :raises StoreError: the database failed.
        """
        if self.path is None:
            return
        while await trio.to_thread.run_sync(self._bare, sqlite.give_back, limiter=self._one_at_a_time):
            pass
        await trio.to_thread.run_sync(self._bare, sqlite.compact, limiter=self._one_at_a_time)

    async def aclose(self) -> None:
        """Close the file once the transactions that wait are done; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        with trio.CancelScope(shield=True):
            if self._is_in_memory:
                self._dispose()
            else:
                await trio.to_thread.run_sync(self._dispose, limiter=self._one_at_a_time)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def _is_in_memory(self) -> bool:
        return self.path is None and self.url is None

    def _transact(self, fn: Callable[[Session], T], now_ns: int) -> T:
        with translated(self.where), self._engine.begin() as session:
            session.info[_NOW] = now_ns
            return fn(session)

    def _bare(self, fn: Callable[[Engine], T]) -> T:
        if self._closed:  # the engine would open the file again
            raise StoreClosed
        with translated(self.where):
            return fn(self._engine)

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
