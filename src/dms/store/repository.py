"""Collections of many records (``spec/platform.md`` 3.3).

:class:`Repository` does one operation per transaction. Several operations that must happen together share a session::

    await store.run(lambda session: (deployments.on(session).create(a), allocations.on(session).delete(b)))
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Table, func, select

from dms.store.collection import Collection, collection
from dms.store.database import Session, Store, now_ns
from dms.store.errors import BadRecord, InvalidData, RecordNotFound
from dms.store.query import EVERYTHING, Query, statement
from dms.store.statements import ID, statements, values_of
from dms.types.errors import BadJSON

T = TypeVar("T", bound=msgspec.Struct)

MAX_ID_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Record(Generic[T]):
    """A stored value with what the store knows of it; times in nanoseconds since 1970."""

    id: str
    value: T
    created_at_ns: int
    updated_at_ns: int
    deleted_at_ns: int = 0
    """When it was hidden; 0: it is not."""


class Documents(Generic[T]):
    """The records of one table within one transaction."""

    def __init__(self, session: Session, table: Table, type_: type[T]) -> None:
        self._session = session
        self._table = table
        self._records = collection(table, type_)
        self._dialect = session.dialect.name
        self._sql = statements(table, self._dialect)
        self._now_ns = now_ns(session)

    def create(self, value: T, record_id: str | None = None) -> Record[T]:
        """Store a new record under ``record_id``, or under a new UUID.

        :raises InvalidData: the id is taken, empty or too long, or the value has no JSON.
        """
        key = str(uuid.uuid4()) if record_id is None else record_id
        if self._session.execute(self._sql.insert, self._parameters(key, value)).first() is None:
            raise InvalidData(f"invalid data given: there is a record {key} already")
        return Record(key, value, self._now_ns, self._now_ns)

    def get(self, record_id: str) -> Record[T]:
        """The record ``record_id``.

        :raises RecordNotFound: there is none.
        """
        row = self._session.execute(self._sql.get, {ID: record_id}).mappings().first()
        if row is None:
            raise RecordNotFound
        return record(row, self._records)

    def update(self, record_id: str, value: T) -> Record[T]:
        """Replace the value of the record ``record_id``.

        :raises RecordNotFound: there is none.
        """
        parameters = values_of({"updated_at": self._now_ns, **self._columns(value)})
        created_at_ns = self._session.execute(self._sql.update, {ID: record_id, **parameters}).scalar()
        if created_at_ns is None:
            raise RecordNotFound
        return Record(record_id, value, created_at_ns, self._now_ns)

    def put(self, record_id: str, value: T) -> Record[T]:
        """Replace the value of the record ``record_id``, or create it.

        :raises InvalidData: the id is that of a hidden record, empty or too long, or the value has no JSON.
        """
        created_at_ns = self._session.execute(self._sql.put, self._parameters(record_id, value)).scalar()
        if created_at_ns is None:
            raise InvalidData(f"invalid data given: there is a record {record_id} already, which is hidden")
        return Record(record_id, value, created_at_ns, self._now_ns)

    def delete(self, record_id: str) -> None:
        """Remove the record ``record_id`` for good.

        :raises RecordNotFound: there is none.
        """
        if self._session.execute(self._sql.delete, {ID: record_id}).rowcount == 0:
            raise RecordNotFound

    def hide(self, record_id: str) -> None:
        """Keep the record ``record_id`` in the database but show it no more; its id stays taken.

        :raises RecordNotFound: there is none.
        """
        parameters = values_of({"deleted_at": max(self._now_ns, 1)})
        if self._session.execute(self._sql.hide, {ID: record_id, **parameters}).rowcount == 0:
            raise RecordNotFound

    def unhide(self, record_id: str) -> Record[T]:
        """Show a hidden record again.

        :raises RecordNotFound: there is none, or it is not hidden.
        """
        if self._session.execute(self._sql.unhide, {ID: record_id}).rowcount == 0:
            raise RecordNotFound
        return self.get(record_id)

    def find(self, query: Query) -> Record[T]:
        """The first record that matches.

        :raises RecordNotFound: none does.
        """
        row = self._session.execute(statement(self._records, query, self._dialect).limit(1)).mappings().first()
        if row is None:
            raise RecordNotFound
        return record(row, self._records)

    def find_all(self, query: Query = EVERYTHING) -> tuple[Record[T], ...]:
        """All records that match, none is fine."""
        rows = self._session.execute(statement(self._records, query, self._dialect)).mappings()
        return tuple(record(row, self._records) for row in rows)

    def count(self, query: Query = EVERYTHING) -> int:
        """How many records match."""
        return self._session.execute(
            select(func.count()).select_from(statement(self._records, query, self._dialect).subquery())
        ).scalar_one()

    def _parameters(self, key: str, value: T) -> dict[str, object]:
        if not 0 < len(key) <= MAX_ID_LENGTH:
            raise InvalidData(f"invalid data given: an id has 1 to {MAX_ID_LENGTH} characters")
        stamps = {"id": key, "created_at": self._now_ns, "updated_at": self._now_ns, "deleted_at": 0}
        return values_of({**stamps, **self._columns(value)})

    def _columns(self, value: T) -> dict[str, object]:
        type_ = self._records.type
        if not isinstance(value, type_):
            raise InvalidData(f"invalid data given: a {type(value).__name__} is not a {type_.__name__}")
        return self._records.columns(value)


class Repository(Generic[T]):
    """The records of one table, each operation a transaction of its own; see :class:`Documents` for their meaning."""

    def __init__(self, store: Store, table: Table, type_: type[T]) -> None:
        self._store = store
        self._table = table
        self._type = type_

    def on(self, session: Session) -> Documents[T]:
        """The same operations within a transaction that goes on."""
        return Documents(session, self._table, self._type)

    async def create(self, value: T, record_id: str | None = None) -> Record[T]:
        """Store a new record under ``record_id``, or under a new UUID."""
        return await self._store.run(lambda session: self.on(session).create(value, record_id))

    async def get(self, record_id: str) -> Record[T]:
        """The record ``record_id``."""
        return await self._store.run(lambda session: self.on(session).get(record_id))

    async def update(self, record_id: str, value: T) -> Record[T]:
        """Replace the value of the record ``record_id``."""
        return await self._store.run(lambda session: self.on(session).update(record_id, value))

    async def put(self, record_id: str, value: T) -> Record[T]:
        """Replace the value of the record ``record_id``, or create it."""
        return await self._store.run(lambda session: self.on(session).put(record_id, value))

    async def delete(self, record_id: str) -> None:
        """Remove the record ``record_id`` for good."""
        await self._store.run(lambda session: self.on(session).delete(record_id))

    async def hide(self, record_id: str) -> None:
        """Keep the record ``record_id`` in the database but show it no more."""
        await self._store.run(lambda session: self.on(session).hide(record_id))

    async def unhide(self, record_id: str) -> Record[T]:
        """Show a hidden record again."""
        return await self._store.run(lambda session: self.on(session).unhide(record_id))

    def get_query(self) -> Query:
        """A query that asks for everything, to be narrowed."""
        return EVERYTHING

    async def find(self, query: Query) -> Record[T]:
        """The first record that matches."""
        return await self._store.run(lambda session: self.on(session).find(query))

    async def find_all(self, query: Query = EVERYTHING) -> tuple[Record[T], ...]:
        """All records that match."""
        return await self._store.run(lambda session: self.on(session).find_all(query))

    async def count(self, query: Query = EVERYTHING) -> int:
        """How many records match."""
        return await self._store.run(lambda session: self.on(session).count(query))


def record(row: Mapping[Any, Any], records: Collection[T]) -> Record[T]:
    """A row as a record.

    :raises BadRecord: its value is not of the type.
    """
    try:
        value = records.value(row)
    except BadJSON as exc:
        raise BadRecord(f"error parsing model: {records.table.name} {row['id']}: {exc}") from None
    return Record(row["id"], value, row["created_at"], row["updated_at"], max(row["deleted_at"], 0))
