"""The statements that concern one record by its id, built once per table: to build one costs more than to run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Delete, Select, Table, Update, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from dms.store.collection import POSTGRESQL

ID = "record_id"
"""The parameter with the id; those with what columns hold are called like the columns, as :func:`values_of` has them."""


@dataclass(frozen=True, slots=True)
class Statements:
    """Of one table. Only records that are not hidden are touched, unless it says otherwise."""

    get: Select[Any]
    insert: Any  # of the dialect; leaves alone what is there, and then returns no row
    update: Update
    put: Any  # of the dialect; returns no row if the id belongs to a hidden record
    delete: Delete
    hide: Update
    unhide: Update
    """Of hidden records."""


def values_of(columns: dict[str, object]) -> dict[str, object]:
    """Parameters: what the columns of a record shall hold."""
    return {f"new_{name}": value for name, value in columns.items()}


@cache
def statements(table: Table, dialect: str) -> Statements:
    """Those of ``table`` in the words of a dialect."""
    insert: Callable[[Table], Any] = sqlite_insert
    if dialect == POSTGRESQL:
        from sqlalchemy.dialects.postgresql import insert  # imported where it is spoken: most nodes do not
    new = {c.name: bindparam(f"new_{c.name}", type_=c.type) for c in table.columns if c.name != "seq"}
    changed = {name: value for name, value in new.items() if name not in ("id", "created_at", "deleted_at")}
    is_it = table.c.id == bindparam(ID)
    is_shown = table.c.deleted_at <= 0
    inserted: Any = insert(table).values(new)
    return Statements(
        get=select(table).where(is_it, is_shown),
        insert=inserted.on_conflict_do_nothing(index_elements=["id"]).returning(table.c.created_at),
        update=update(table).where(is_it, is_shown).values(changed).returning(table.c.created_at),
        put=inserted.on_conflict_do_update(index_elements=["id"], set_=changed, where=is_shown).returning(
            table.c.created_at
        ),
        delete=delete(table).where(is_it, is_shown),
        hide=update(table).where(is_it, is_shown).values(deleted_at=new["deleted_at"]),
        unhide=update(table).where(is_it, table.c.deleted_at > 0).values(deleted_at=0),
    )
