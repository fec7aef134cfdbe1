"""Two flavours of a table of records, which repositories use alike.

*Documents*: one column with the JSON of the value, which may change its form without a migration. *Relational*: a column
for each scalar, those of inner structures included, and one with JSON for each list or map; what other programs read with
SQL, and the database checks. Everything but the columns of the value is the same in both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Generic, TypeVar, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, ColumnElement, Integer, MetaData, String, Table, func, literal

from dms.store.errors import InvalidData
from dms.store.members import Member, Part, leaves, resolve
from dms.types import gojson
from dms.types.errors import BadJSON

T = TypeVar("T", bound=msgspec.Struct)

POSTGRESQL = "postgresql"
BYTEWISE = "C"
"""The collation that orders text as SQLite does: by its bytes."""

KEY = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself in SQLite
_TEXT = sa.Text().with_variant(sa.Text(collation=BYTEWISE), POSTGRESQL)
_TYPES: dict[type, sa.types.TypeEngine[Any]] = {
    bool: sa.Boolean(),
    int: BigInteger(),
    float: sa.Double(),
    str: _TEXT,
}
_BASE = ("seq", "id", "created_at", "updated_at", "deleted_at")
_RELATIONAL = "relational"


def document_table(name: str, metadata: MetaData, **info: object) -> Table:
    """A table of documents; ``seq`` keeps the order of writing, which clocks do not."""
    return _table(name, metadata, [Column("data", sa.JSON, nullable=False)], dict(info))


def relational_table(name: str, metadata: MetaData, type_: type[msgspec.Struct], **info: object) -> Table:
    """A table with columns for the members of ``type_``, named by their path in the JSON with ``_`` between and, where
    that is a name that every record has, ``_`` behind.
    """
    columns: list[Column[Any]] = []
    for leaf in leaves(type_):
        if isinstance(leaf, Part):
            columns.append(Column(_column_name(leaf.path), sa.JSON(none_as_null=True), nullable=True))
        else:
            columns.append(Column(_column_name(leaf.path), _TYPES[leaf.kind], nullable=leaf.is_optional))
    return _table(name, metadata, columns, {**info, _RELATIONAL: type_})


def collection(table: Table, type_: type[T]) -> Collection[T]:
    """What turns values into rows of ``table`` and back."""
    return cast("Collection[T]", _collection(table, type_))


class Collection(ABC, Generic[T]):
    """How values of one type lie in one table."""

    def __init__(self, table: Table, type_: type[T]) -> None:
        self.table = table
        self.type = type_

    @abstractmethod
    def columns(self, value: T) -> dict[str, object]:
        """What the columns of a value hold.

        :raises InvalidData: it cannot be stored.
        """

    @abstractmethod
    def value(self, row: Mapping[Any, Any]) -> T:
        """The value of a row.

        :raises BadJSON: it is not of the type.
        """

    @abstractmethod
    def _element(self, member: Member, dialect: str) -> ColumnElement[Any]: ...

    def field(self, name: str, dialect: str) -> tuple[ColumnElement[Any], Member]:
        """What stands for a member in SQL, or for one of the fields that every record has.

        :raises InvalidData: there is none of this name.
        """
        member = resolve(self.type, name)
        element = self._element(member, dialect) if member.path else self.table.c[name]
        return element.collate(BYTEWISE) if member.kind is str and dialect == POSTGRESQL else element, member


class DocumentCollection(Collection[T]):
    """A column ``data`` with the canonical JSON."""

    def columns(self, value: T) -> dict[str, object]:
        """See :meth:`Collection.columns`."""
        return {"data": value}

    def value(self, row: Mapping[Any, Any]) -> T:
        """See :meth:`Collection.value`."""
        return gojson.decode(row["data"].encode(), self.type)

    def _element(self, member: Member, dialect: str) -> ColumnElement[Any]:
        inside = self.table.c.data[member.path]
        element: ColumnElement[Any]
        if member.kind is bool:
            element = inside.as_boolean()
        elif member.kind is float:
            element = inside.as_float()
        elif member.kind is str:
            element = inside.as_string()
        elif dialect == POSTGRESQL:
            element = sa.cast(inside.as_string(), sa.Numeric)  # its own choice has 32 bits
        else:
            element = inside.as_integer()
        if member.default is None:
            return element
        return func.coalesce(element, literal(member.default), type_=element.type)


class RelationalCollection(Collection[T]):
    """A column for each member."""

    def __init__(self, table: Table, type_: type[T]) -> None:
        super().__init__(table, type_)
        self._leaves = tuple((leaf, _column_name(leaf.path)) for leaf in leaves(type_))

    def columns(self, value: T) -> dict[str, object]:
        """See :meth:`Collection.columns`."""
        found: dict[str, object] = {}
        for leaf, name in self._leaves:
            inside: Any = value
            for attribute in leaf.attributes:
                inside = getattr(inside, attribute)
            if isinstance(leaf, Part):
                found[name] = sa.JSON.NULL if inside is None else inside
                continue
            found[name] = inside.value if isinstance(inside, Enum) else inside
            if leaf.kind is float and inside is not None and not math.isfinite(inside):
                raise InvalidData(f"invalid data given: {'.'.join(leaf.path)} is {inside}")
        return found

    def value(self, row: Mapping[Any, Any]) -> T:
        """See :meth:`Collection.value`."""
        document: dict[str, Any] = {}
        for leaf, name in self._leaves:
            inside = row[name]
            if isinstance(leaf, Part):
                if inside is None:
                    continue
                inside = gojson.parse(inside.encode())
            elif inside is None and not leaf.is_optional:
                continue
            _put(document, leaf.path, inside)
        try:
            return msgspec.convert(document, self.type)
        except msgspec.ValidationError as exc:
            raise BadJSON(str(exc)) from None

    def _element(self, member: Member, dialect: str) -> ColumnElement[Any]:
        column: ColumnElement[Any] | None = self.table.c.get(_column_name(member.path))
        if column is None:  # inside of a structure that may be missing
            raise InvalidData(f'invalid data given: "{".".join(member.path)}" has no column in {self.table.name}')
        return column


@cache
def _collection(table: Table, type_: type[msgspec.Struct]) -> Collection[Any]:
    made_for = table.info.get(_RELATIONAL)
    if made_for is None:
        return DocumentCollection(table, type_)
    if made_for is not type_:
        raise TypeError(f"the table {table.name} is for {made_for}, not for {type_}")
    return RelationalCollection(table, type_)


def _table(name: str, metadata: MetaData, columns: list[Column[Any]], info: dict[Any, Any]) -> Table:
    return Table(
        name,
        metadata,
        Column("seq", KEY, primary_key=True, autoincrement=True),
        Column("id", String(200), nullable=False, unique=True),
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("deleted_at", BigInteger, nullable=False, default=0),
        *columns,
        sqlite_autoincrement=True,
        info=info,
    )


def _column_name(path: tuple[str, ...]) -> str:
    name = "_".join(path)
    return f"{name}_" if name in _BASE else name


def _put(document: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for name in path[:-1]:
        document = document.setdefault(name, {})
    document[path[-1]] = value
