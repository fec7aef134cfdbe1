"""A single record with its history (``spec/platform.md`` 3.4): the newest version counts, older ones stay readable."""

from __future__ import annotations

import uuid
from typing import Generic, TypeVar

import msgspec
from sqlalchemy import Table, delete, insert, select

from dms.store.collection import collection
from dms.store.database import Session, Store, now_ns
from dms.store.errors import InvalidData, RecordNotFound
from dms.store.query import EVERYTHING, Query, statement
from dms.store.repository import Record, record

T = TypeVar("T", bound=msgspec.Struct)

HISTORY = 100
"""Versions that are kept."""


class EntityRepository(Generic[T]):
    """One record and its last :data:`HISTORY` versions."""

    def __init__(self, store: Store, table: Table, type_: type[T], *, history: int = HISTORY) -> None:
        self._store = store
        self._table = table
        self._records = collection(table, type_)
        self._history = history

    async def save(self, value: T) -> Record[T]:
        """Store a new version."""
        return await self._store.run(lambda session: self.save_on(session, value))

    async def get(self) -> Record[T]:
        """The newest version.

        :raises RecordNotFound: there is none.
        """
        return await self._store.run(self.get_on)

    async def clear(self) -> None:
        """Remove all versions."""
        await self._store.run(self.clear_on)

    async def history(self, query: Query = EVERYTHING) -> tuple[Record[T], ...]:
        """The versions that match, newest first unless the query says otherwise."""

        def find(session: Session) -> tuple[Record[T], ...]:
            sql = statement(self._records, query, session.dialect.name, descending=True)
            return tuple(record(row, self._records) for row in session.execute(sql).mappings())

        return await self._store.run(find)

    def get_query(self) -> Query:
        """A query that asks for all versions, to be narrowed."""
        return EVERYTHING

    def save_on(self, session: Session, value: T) -> Record[T]:
        """As :meth:`save`, within a transaction that goes on."""
        if not isinstance(value, self._records.type):
            raise InvalidData(f"invalid data given: a {type(value).__name__} is not a {self._records.type.__name__}")
        key, stamp = str(uuid.uuid4()), now_ns(session)
        session.execute(
            insert(self._table).values(
                id=key, created_at=stamp, updated_at=stamp, deleted_at=0, **self._records.columns(value)
            )
        )
        kept = select(self._table.c.seq).order_by(self._table.c.seq.desc()).limit(self._history)
        session.execute(delete(self._table).where(self._table.c.seq.not_in(kept)))
        return Record(key, value, stamp, stamp)

    def get_on(self, session: Session) -> Record[T]:
        """As :meth:`get`, within a transaction that goes on."""
        sql = statement(self._records, Query(limit=1), session.dialect.name, descending=True)
        row = session.execute(sql).mappings().first()
        if row is None:
            raise RecordNotFound
        return record(row, self._records)

    def clear_on(self, session: Session) -> None:
        """As :meth:`clear`, within a transaction that goes on."""
        session.execute(delete(self._table))
