"""A database in a SQLite file, or in memory.

Acknowledged means fsynced: a write-ahead log with ``synchronous=FULL``. There is one connection, and one process has the
file open (a lock beside it says so).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.pool import StaticPool

from dms.store.errors import StoreCorrupt, StoreError, StoreInUse
from dms.store.faults import of_system, translated
from dms.store.migrate import bring_to_head
from dms.types import gojson

BUSY_TIMEOUT_MS = 5000
WAL_LIMIT_BYTES = 16 << 20
"""What the write-ahead log is cut back to once it is no longer needed."""
MAX_CHECKED_BYTES = 16 << 20
"""A file up to this size is checked for damage whenever it is opened; a larger one after the process was killed only, and
while the node runs (:mod:`dms.store.upkeep`), as it would make each start slow."""
FREE_SHARE = 0.25
FREE_BYTES = 8 << 20
"""A file that cannot give back free pages one by one is written anew when so much of it is free."""
FREED_AT_ONCE_PAGES = 2000
"""Given back in one transaction, that others do not wait for long."""


def open_file(path: Path) -> tuple[Engine, int]:
    """The engine of a file, made if need be, and the descriptor of its lock, to be closed in the end."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise of_system(exc, path) from None
    try:
        take_lock(lock, path)
        was_killed = _has_log(path)
        _make_private(path)
        is_checked = was_killed or path.stat().st_size <= MAX_CHECKED_BYTES
        return open_engine(path, is_checked=is_checked), lock
    except OSError as exc:
        os.close(lock)
        raise of_system(exc, path) from None
    except BaseException:
        os.close(lock)
        raise


def take_lock(descriptor: int, path: Path) -> None:
    """Be the one process that uses the database ``path``.

    :raises StoreInUse: another one does.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreInUse(f"another process uses the database {path}") from None


def open_engine(path: Path | None, *, is_checked: bool = False, image: bytes = b"") -> Engine:
    """The engine of ``path``, or of a new database in memory, at the newest schema; ``image``, what SQLite has serialised of
    another one, is in it at first.
    """
    engine = create_engine(
        "sqlite://" if path is None else f"sqlite:///{path}",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False},
        json_serializer=lambda value: gojson.encode(value).decode(),
        json_deserializer=str,  # documents stay text until their type is known
    )
    event.listen(engine, "connect", _configure_memory if path is None else _configure_file)
    event.listen(engine, "begin", _begin)
    where = path or "in memory"
    if image:
        with _bare(engine) as cursor:
            cursor.connection.deserialize(image)
        return engine
    try:
        with translated(where), engine.begin() as session:
            if is_checked:
                check(session, where)
            bring_to_head(session, where)
    except BaseException:
        engine.dispose()
        raise
    return engine


def image_of(engine: Engine) -> bytes:
    """All that is in a database in memory."""
    with _bare(engine) as cursor:
        return bytes(cursor.connection.serialize())


def check(session: Connection, where: object) -> None:
    """Look for damage.

    :raises StoreCorrupt: there is some.
    """
    verdict = session.execute(text("PRAGMA quick_check(1)")).scalar()
    if verdict != "ok":
        raise StoreCorrupt(f"the database {where} is damaged: {' '.join(str(verdict).split())}")


def free_bytes(session: Connection) -> int:
    """What the file holds and nobody uses."""
    pages = session.execute(text("PRAGMA freelist_count")).scalar_one()
    return int(pages * session.execute(text("PRAGMA page_size")).scalar_one())


def give_back(engine: Engine) -> int:
    """Outside of transactions: give some free pages back to the file system; how many. 0: there are none, or it cannot be
    done so.
    """
    with _bare(engine) as cursor:
        mode, before = _pragma(cursor, "auto_vacuum"), _pragma(cursor, "freelist_count")
        if mode != _INCREMENTAL or before == 0:
            return 0
        # as a script: it frees a page per row of its result, of which the driver would fetch only the first
        cursor.executescript(f"PRAGMA incremental_vacuum({FREED_AT_ONCE_PAGES})")
        return before - _pragma(cursor, "freelist_count")


def compact(engine: Engine) -> None:
    """Outside of transactions: empty the write-ahead log into the file, and write a file of an early release anew, in
    the form in which it gives back free pages, once that pays.
    """
    with _bare(engine) as cursor:
        free, page_bytes = _pragma(cursor, "freelist_count"), _pragma(cursor, "page_size")
        pays = free > _pragma(cursor, "page_count") * FREE_SHARE and free * page_bytes > FREE_BYTES
        if pays and _pragma(cursor, "auto_vacuum") != _INCREMENTAL:
            cursor.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}")
            cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextlib.contextmanager
def _bare(engine: Engine) -> Iterator[Any]:  # a DB-API cursor has no type
    """A cursor without the transaction that the engine would begin, inside which VACUUM cannot run."""
    connection = engine.raw_connection()
    try:
        yield connection.cursor()
    finally:
        connection.close()


def _pragma(cursor: Any, name: str) -> int:  # as above
    return int(cursor.execute(f"PRAGMA {name}").fetchone()[0])


_INCREMENTAL = 2


def _has_log(path: Path) -> bool:
    """Whether whoever wrote it last was ended before it could close it."""
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def _make_private(path: Path) -> None:
    """An existing or new file that only its owner reads, and that the directory remembers after a power cut."""
    if path.is_dir():
        raise StoreError(f"cannot open the database {path}: it is a directory", hint="see general.work_dir")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _configure_file(connection: Any, record: object) -> None:  # a DB-API connection has no type
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:  # a new one: it must come before the first table
        connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}").close()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        f"journal_size_limit={WAL_LIMIT_BYTES}",
        "synchronous=FULL",
        "fullfsync=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()
    _configure_memory(connection, record)


def _configure_memory(connection: Any, _record: object) -> None:  # as above
    connection.isolation_level = None  # sqlite3 would begin transactions late and not at all for DDL
    for pragma in ("foreign_keys=ON", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(session: Connection) -> None:
    driver: Any = (
        session.connection.driver_connection
    )  # without the engine's care for a statement: it is one per transaction
    driver.execute("BEGIN IMMEDIATE").close()
