"""Looking at a database without changing it: is it whole, is it ours, what is in it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, Table, create_engine, func, inspect, select, text
from sqlalchemy.pool import NullPool

from dms.store.address import DatabaseURL
from dms.store.errors import StoreError
from dms.store.faults import of_system, translated
from dms.store.migrate import VERSION_TABLE, revision
from dms.store.schema import HEAD, metadata
from dms.store.sqlite import free_bytes

MAX_PROBLEMS = 100
BUSY_TIMEOUT_S = 5.0
JSON_COLUMNS = ("data", "payload")


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a database; sound if there are no problems."""

    database: str
    revision: str = ""
    """Of its schema."""
    size_bytes: int = 0
    free_bytes: int = 0
    """Held by the file and not used."""
    records: dict[str, int] = {}
    """How many, by table."""
    problems: tuple[str, ...] = ()


def examine(where: Path | DatabaseURL, *, is_thorough: bool = True) -> Examination:
    """Read all of it, whether a node goes on writing it or not; ``is_thorough``: its indexes and documents too. Of a server,
    which knows its own files, only whether the tables are ours.

    :raises StoreError: it cannot be read at all: no such file, no such server.
    """
    if isinstance(where, DatabaseURL):
        return _examine_server(where)
    try:
        size_bytes = where.stat().st_size
        where.open("rb").close()
    except OSError as exc:
        raise of_system(exc, where) from None
    found = Examination(database=str(where), size_bytes=size_bytes)
    try:
        with reading(where) as session:
            return _examine_file(session, found, is_thorough=is_thorough)
    except StoreError as exc:
        return msgspec.structs.replace(found, problems=(exc.message,))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """A connection of its own to a file, which cannot write.

    :raises StoreError: not a database, or damaged.
    """
    address = address_to_read(path)
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S), poolclass=NullPool
    )
    with translated(path), engine.connect() as session:
        session.execute(text("PRAGMA trusted_schema=OFF"))
        yield session


def address_to_read(path: Path) -> str:
    """For SQLite, to open a file without ever writing anything."""
    # a file without a write-ahead log is in nobody's hands: read so, it gets none from us either
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    return f"file:{quote(str(path))}?{mode}"


def _examine_file(session: Connection, found: Examination, *, is_thorough: bool) -> Examination:
    check = "integrity_check" if is_thorough else "quick_check"
    verdicts = [" ".join(str(v).split()) for v in session.execute(text(f"PRAGMA {check}({MAX_PROBLEMS})")).scalars()]
    problems = [] if verdicts == ["ok"] else verdicts
    found = _describe(session, found)
    if is_thorough and found.revision:
        problems += [bad for table in _present(session) for bad in _without_json(session, table)]
    return msgspec.structs.replace(
        found, free_bytes=free_bytes(session), problems=(*problems, *found.problems)[:MAX_PROBLEMS]
    )


def _examine_server(url: DatabaseURL) -> Examination:
    from dms.store.postgres import engine_of  # with its driver, which few need

    engine = engine_of(url, poolclass=NullPool)
    with translated(url), engine.connect() as session:
        size_bytes = session.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        return _describe(session, Examination(database=str(url), size_bytes=size_bytes))


def _describe(session: Connection, found: Examination) -> Examination:
    tables = set(inspect(session).get_table_names())
    if VERSION_TABLE not in tables:
        problem = "not the database of a node" if tables else "an empty database"
        return msgspec.structs.replace(found, problems=(problem,))
    stored = revision(session) or "none"
    problems = [f"the table {name} is missing" for name in sorted(set(metadata.tables) - tables) if stored == HEAD]
    if stored > HEAD:
        problems.append(f"written by a newer release: its schema is {stored}, ours {HEAD}")
    records = {t.name: session.execute(select(func.count()).select_from(t)).scalar_one() for t in _present(session)}
    return msgspec.structs.replace(found, revision=stored, records=records, problems=tuple(problems))


def _present(session: Connection) -> list[Table]:
    tables = set(inspect(session).get_table_names())
    return [table for table in metadata.sorted_tables if table.name in tables]


def _without_json(session: Connection, table: Table) -> list[str]:
    column = next(table.c[name] for name in JSON_COLUMNS if name in table.c)
    bad = select(table.c.id).where(func.coalesce(func.json_valid(column), 0) == 0).limit(MAX_PROBLEMS)
    return [f"{table.name} {key}: its {column.name} is not JSON" for key in session.execute(bad).scalars()]
