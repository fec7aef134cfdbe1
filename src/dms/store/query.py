"""Queries over documents: conditions, order, limit and offset (``spec/platform.md`` 3.5).

A field is the dotted name of a member, as the structure or its JSON calls it, or one of ``id``, ``created_at``,
``updated_at``. A member that its JSON leaves out for being empty counts as its default.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Table, func, literal, select

from dms.store.errors import InvalidData

MAX_IN = 1000
"""Values of one ``IN``."""

BASE_FIELDS = ("id", "created_at", "updated_at")

Scalar = str | int | float | bool | None


class Operator(Enum):
    """How a field is compared."""

    EQ = "="
    NE = "!="
    GT = ">"
    GTE = ">="
    LT = "<"
    LTE = "<="
    IN = "IN"
    LIKE = "LIKE"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of one field."""

    field: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


def eq(field: str, value: Scalar) -> Condition:
    """``field = value``; ``None`` matches what is not there."""
    return Condition(field, Operator.EQ, value)


def ne(field: str, value: Scalar) -> Condition:
    """``field != value``."""
    return Condition(field, Operator.NE, value)


def gt(field: str, value: Scalar) -> Condition:
    """``field > value``."""
    return Condition(field, Operator.GT, value)


def gte(field: str, value: Scalar) -> Condition:
    """``field >= value``."""
    return Condition(field, Operator.GTE, value)


def lt(field: str, value: Scalar) -> Condition:
    """``field < value``."""
    return Condition(field, Operator.LT, value)


def lte(field: str, value: Scalar) -> Condition:
    """``field <= value``."""
    return Condition(field, Operator.LTE, value)


def is_in(field: str, *values: Scalar) -> Condition:
    """``field`` is one of ``values``."""
    return Condition(field, Operator.IN, values)


def like(field: str, pattern: str) -> Condition:
    """``field`` matches a SQL pattern: ``%`` stands for any text, ``_`` for any character; ASCII case is ignored."""
    return Condition(field, Operator.LIKE, pattern)


@dataclass(frozen=True, slots=True)
class Query:
    """Which records, in which order, how many; without an order, in that of their creation."""

    conditions: tuple[Condition, ...] = ()
    instance: msgspec.Struct | None = None
    """Each member of it that is not empty must be equal."""
    sort_by: str = ""
    """A field; ``-`` before it turns the order around."""
    limit: int = 0
    """0: all."""
    offset: int = 0

    def where(self, *conditions: Condition) -> Query:
        """This query with more conditions."""
        return dataclasses.replace(self, conditions=self.conditions + conditions)


EVERYTHING = Query()
"""All records in the order of their creation."""


def statement(table: Table, type_: type[msgspec.Struct], query: Query, *, descending: bool = False) -> Select[Any]:
    """``query`` as SQL; ``descending`` is the order of creation where the query names none.

    :raises InvalidData: no such field, or a value that it cannot be compared with.
    """
    if query.limit < 0 or query.offset < 0:
        raise InvalidData("invalid data given: limit and offset cannot be negative")
    sql = select(table).where(table.c.deleted_at <= 0)
    for condition in query.conditions + _conditions_of(query.instance):
        sql = sql.where(_clause(table, type_, condition))
    if query.sort_by:
        field = _field(table, type_, query.sort_by.removeprefix("-"))
        sql = sql.order_by(field.desc() if query.sort_by.startswith("-") else field.asc())
    sql = sql.order_by(table.c.seq.desc() if descending else table.c.seq.asc())
    if query.limit:
        sql = sql.limit(query.limit)
    return sql.offset(query.offset) if query.offset else sql


def _conditions_of(instance: msgspec.Struct | None, prefix: str = "") -> tuple[Condition, ...]:
    if instance is None:
        return ()
    found: list[Condition] = []
    for field in msgspec.structs.fields(instance):
        value = getattr(instance, field.name)
        value = value.value if isinstance(value, Enum) else value
        if isinstance(value, msgspec.Struct):
            found.extend(_conditions_of(value, f"{prefix}{field.name}."))
        elif value and isinstance(value, str | int | float):
            found.append(eq(prefix + field.name, value))
        elif value:
            raise InvalidData(f"invalid data given: {prefix}{field.name} cannot be compared")
    return tuple(found)


def _clause(table: Table, type_: type[msgspec.Struct], condition: Condition) -> ColumnElement[bool]:
    field, value = _field(table, type_, condition.field), condition.value
    kind = _resolve(type_, condition.field)[1]
    values = value if isinstance(value, tuple) else (value,)
    for one in values:
        if not _fits(one, kind):
            raise InvalidData(f"invalid data given: {condition.field} cannot be compared with {one!r}")
    match condition.operator:
        case Operator.IN:
            if len(values) > MAX_IN:
                raise InvalidData(f"invalid data given: more than {MAX_IN} values for {condition.field}")
            return field.in_(values)
        case Operator.EQ:
            return field.is_not_distinct_from(value)
        case Operator.NE:
            return field.is_distinct_from(value)
        case Operator.LIKE:
            if not isinstance(value, str):
                raise InvalidData(f"invalid data given: the pattern for {condition.field} is not text")
            return field.like(value)
        case Operator.GT:
            return field > value
        case Operator.GTE:
            return field >= value
        case Operator.LT:
            return field < value
        case Operator.LTE:
            return field <= value


def _fits(value: object, kind: type) -> bool:
    if value is None:
        return True
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _field(table: Table, type_: type[msgspec.Struct], name: str) -> ColumnElement[Any]:
    path, kind, default = _resolve(type_, name)
    if not path:
        column: ColumnElement[Any] = table.c[name]
        return column
    member = table.c.data[path]
    by_kind = {bool: member.as_boolean, int: member.as_integer, float: member.as_float, str: member.as_string}
    column = by_kind[kind]()
    return column if default is None else func.coalesce(column, literal(default), type_=column.type)


def _resolve(type_: type[msgspec.Struct], name: str) -> tuple[tuple[str, ...], type, Scalar]:
    """The path in the JSON, the kind of scalar and the default of a field; no path: a column of its own."""
    path: list[str] = []
    here: Any = type_
    default: Any = msgspec.NODEFAULT
    for part in name.split("."):
        members = msgspec.structs.fields(here) if _is_struct(here) else ()
        field = next((f for f in members if part in (f.name, f.encode_name)), None)
        if field is None:
            if not path and name in BASE_FIELDS:
                return (), str if name == "id" else int, None
            raise InvalidData(f'invalid data given: {type_.__name__} has no field "{name}"')
        path.append(field.encode_name)
        default = getattr(default, field.name) if isinstance(default, msgspec.Struct) else _default(field)
        here = _bare(field.type)
    if not (isinstance(here, type) and issubclass(here, str | int | float)):
        raise InvalidData(f'invalid data given: "{name}" cannot be compared')
    kind = next(k for k in (bool, int, float, str) if issubclass(here, k))
    default = default.value if isinstance(default, Enum) else default
    return tuple(path), kind, default if isinstance(default, str | int | float) else None


def _default(field: Any) -> Any:  # msgspec does not type FieldInfo's defaults
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _bare(type_: Any) -> Any:
    """Without ``Annotated``, ``NewType`` and ``| None``; an enumeration is its values' type."""
    while True:
        origin = typing.get_origin(type_)
        if origin is typing.Annotated:
            type_ = typing.get_args(type_)[0]
        elif isinstance(type_, typing.NewType):
            type_ = type_.__supertype__
        elif origin in (typing.Union, types.UnionType):
            rest = [a for a in typing.get_args(type_) if a is not type(None)]
            if len(rest) != 1:
                return type_
            type_ = rest[0]
        elif isinstance(type_, type) and issubclass(type_, Enum):
            return type(next(iter(type_)).value)
        else:
            return type_
