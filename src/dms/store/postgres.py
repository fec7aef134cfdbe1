"""A database on a PostgreSQL server.

Acknowledged means that the server has it on its disk: each session asks for ``synchronous_commit``, whatever the server's
default. One connection, which is made anew after it was lost. An advisory lock says that this process uses the schema; it
goes with the connection, so a node that was killed leaves none behind.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.pool import QueuePool

from dms.observe import get_logger
from dms.store.address import DatabaseURL
from dms.store.errors import InvalidData, StoreError, StoreInUse
from dms.store.faults import translated
from dms.store.migrate import bring_to_head
from dms.types import gojson

CONNECT_TIMEOUT_S = 5
LOCK_WAIT_S = 3.0
"""How long the server may need to notice that an earlier connection of ours is gone."""
LOCK_PAUSE_S = 0.2
LOCK_NUMBER = 0x6E756E74
"""Ours, beside that of the schema."""

log = get_logger(__name__)


def open_server(url: DatabaseURL) -> Engine:
    """The engine of a database, at the newest schema.

    :raises StoreUnreachable: no server, or it does not let us in.
    :raises StoreInUse: another node uses this schema.
    """
    engine = engine_of(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_pre_ping=True)
    event.listen(engine, "connect", lambda connection, _record: _configure(connection, url))
    try:
        with translated(url), engine.begin() as session:
            _warn_if_not_durable(session, url)
            bring_to_head(session, url)
    except BaseException:
        engine.dispose()
        raise
    return engine


def engine_of(url: DatabaseURL, **options: Any) -> Engine:  # those of create_engine
    """An engine that has not connected yet.

    :raises StoreError: the driver is not installed.
    """
    try:
        return create_engine(
            url.engine_url,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "nunet",
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
            },
            json_serializer=_encode,
            json_deserializer=_as_text,
            **options,
        )
    except ImportError:
        raise StoreError("the driver of PostgreSQL is not installed", hint="pip install 'nunet[postgresql]'") from None


def _encode(value: object) -> str:
    try:
        encoded = gojson.encode(value).decode()
    except (TypeError, ValueError) as exc:
        raise InvalidData(f"invalid data given: {exc}") from None
    if "\\u0000" in encoded and "\0" in _texts(gojson.parse(encoded.encode())):
        raise InvalidData("invalid data given: text with a NUL character, which PostgreSQL cannot hold")
    return encoded


def _texts(value: Any) -> str:  # JSON of unknown shape
    if isinstance(value, dict):
        return "".join(key + _texts(one) for key, one in value.items())
    if isinstance(value, list):
        return "".join(map(_texts, value))
    return value if isinstance(value, str) else ""


def _as_text(data: str | bytes) -> str:
    """Documents stay text until their type is known."""
    return data if isinstance(data, str) else bytes(data).decode()


def _configure(connection: Any, url: DatabaseURL) -> None:  # a DB-API connection has no type
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = on")
            _lock(cursor, url)
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise


def _lock(cursor: Any, url: DatabaseURL) -> None:  # as above
    deadline = time.monotonic() + LOCK_WAIT_S
    while not _try_lock(cursor):
        if time.monotonic() >= deadline:
            raise StoreInUse(
                f"another node uses the database {url}",
                hint="stop it, or give this one its own database or schema in database.url",
            )
        time.sleep(LOCK_PAUSE_S)


def _try_lock(cursor: Any) -> bool:  # as above
    cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(coalesce(current_schema(), '')))", (LOCK_NUMBER,))
    return bool(cursor.fetchone()[0])


def _warn_if_not_durable(session: Connection, url: DatabaseURL) -> None:
    if session.execute(text("SHOW fsync")).scalar() != "on":
        log.warning("database_not_durable", database=str(url), reason="its server runs with fsync=off")
