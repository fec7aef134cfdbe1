"""Queries over documents: conditions, order, limit and offset (``spec/platform.md`` 3.5).

A field is the dotted name of a member, as the structure or its JSON calls it, or one of ``id``, ``created_at``,
``updated_at``. A member that its JSON leaves out for being empty counts as its default.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, or_, select

from dms.store.collection import POSTGRESQL, Collection
from dms.store.errors import InvalidData
from dms.store.members import Member, Scalar

MAX_IN = 1000
"""Values of one ``IN``."""

ESCAPE = "\\"
"""Before ``%``, ``_`` or itself in a pattern: that very character."""


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


_ORDERING = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)


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
    """``field`` matches a SQL pattern: ``%`` stands for any text, ``_`` for any character, ``\\`` before them for
    themselves; ASCII case is ignored.
    """
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
    with_hidden: bool = False
    """Records that were hidden too."""

    def where(self, *conditions: Condition) -> Query:
        """This query with more conditions."""
        return dataclasses.replace(self, conditions=self.conditions + conditions)


EVERYTHING = Query()
"""All records in the order of their creation."""


def statement(
    records: Collection[Any], query: Query, dialect: str, *, descending: bool = False
) -> Select[Any]:  # of any type
    """``query`` as SQL; ``descending`` is the order of creation where the query names none.

    :raises InvalidData: no such field, or a value that it cannot be compared with.
    """
    if query.limit < 0 or query.offset < 0:
        raise InvalidData("invalid data given: limit and offset cannot be negative")
    table = records.table
    sql = select(table)
    if not query.with_hidden:
        sql = sql.where(table.c.deleted_at <= 0)
    for condition in query.conditions + _conditions_of(query.instance):
        field, member = records.field(condition.field, dialect)
        sql = sql.where(_clause(field, member, condition, dialect))
    if query.sort_by:
        field, _ = records.field(query.sort_by.removeprefix("-"), dialect)
        # what is not there comes first, as engines do not agree
        is_down = query.sort_by.startswith("-")
        sql = sql.order_by(field.desc().nulls_last() if is_down else field.asc().nulls_first())
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


def _clause(field: ColumnElement[Any], member: Member, condition: Condition, dialect: str) -> ColumnElement[bool]:
    value = condition.value
    values = value if isinstance(value, tuple) else (value,)
    for one in values:
        if not _fits(one, member.kind):
            raise InvalidData(f"invalid data given: {condition.field} cannot be compared with {one!r}")
    if condition.operator in _ORDERING and (value is None or member.kind is bool):
        raise InvalidData(f"invalid data given: {condition.field} {condition.operator.value} {value} has no meaning")
    match condition.operator:
        case Operator.IN:
            if len(values) > MAX_IN:
                raise InvalidData(f"invalid data given: more than {MAX_IN} values for {condition.field}")
            present = [one for one in values if one is not None]
            among: ColumnElement[bool] = field.in_(present)
            return among if len(present) == len(values) else or_(among, field.is_(None))
        case Operator.EQ:
            return field.is_not_distinct_from(value)
        case Operator.NE:
            return field.is_distinct_from(value)
        case Operator.LIKE:
            return _like(field, value, condition.field, dialect)
        case Operator.GT:
            return field > value
        case Operator.GTE:
            return field >= value
        case Operator.LT:
            return field < value
        case Operator.LTE:
            return field <= value


def _like(field: ColumnElement[Any], pattern: object, name: str, dialect: str) -> ColumnElement[bool]:
    if not isinstance(pattern, str):
        raise InvalidData(f"invalid data given: the pattern for {name} is not text")
    if (len(pattern) - len(pattern.rstrip(ESCAPE))) % 2:
        raise InvalidData(f"invalid data given: the pattern for {name} ends in the middle of an escape")
    # SQLite's LIKE ignores the case of ASCII letters; so does PostgreSQL's ILIKE by the bytewise collation
    return field.ilike(pattern, escape=ESCAPE) if dialect == POSTGRESQL else field.like(pattern, escape=ESCAPE)


def _fits(value: object, kind: type) -> bool:
    if value is None:
        return True
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind
