"""What databases complain of, as errors of ours: by code, as texts differ between releases and languages."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from dms.store.errors import (
    InvalidData,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnreachable,
)
from dms.types.errors import NoJSON

_UNREACHABLE = ("08", "57P01", "57P02", "57P03", "53300")
"""SQLSTATE: connections, a server that stops or starts, too many clients."""
_INVALID = ("22", "23")
"""SQLSTATE: data that does not fit, constraints."""


@contextlib.contextmanager
def translated(where: object) -> Iterator[None]:
    """Errors of the database ``where`` as errors of ours."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OverflowError, NoJSON) as exc:
        raise _ours(exc, where) from exc


def of_system(exc: OSError, where: object) -> StoreError:
    """What the operating system said of the file ``where``."""
    text = f"cannot open the database {where}: {exc.strerror}"
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(text)
    if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreReadOnly(text)
    return StoreError(text, hint="see general.work_dir")


def _ours(exc: Exception, where: object) -> StoreError:
    cause: Any = getattr(exc, "orig", None) or exc  # of the driver, whose types we do not import
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, TypeError | ValueError | OverflowError):
        return InvalidData(f"invalid data given: {text}")
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(cause, text, where)
    return _of_postgres(cause, text, where)


def _of_sqlite(cause: sqlite3.Error, text: str, where: object) -> StoreError:
    name: str = getattr(cause, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreCorrupt(f"the database {where} is damaged: {text}")
    if name.startswith("SQLITE_FULL"):
        return StoreFull(f"no room left for the database {where}")
    if name.startswith("SQLITE_READONLY"):
        return StoreReadOnly(f"the database {where} cannot be written: {text}")
    if name.startswith("SQLITE_TOOBIG") or isinstance(cause, sqlite3.DataError):
        return InvalidData(f"invalid data given: {text}")
    if name.startswith("SQLITE_IOERR"):
        return StoreError(
            f"the disk under the database {where} fails: {text} ({name})",
            hint="the kernel's log tells more (dmesg); take a backup elsewhere: nunet db backup",
        )
    return StoreError(f"database error: {text}")


def _of_postgres(cause: Any, text: str, where: object) -> StoreError:  # an error of the driver, as above
    state: str = getattr(cause, "sqlstate", None) or ""
    if state.startswith("XX00"):
        return StoreCorrupt(
            f"the database {where} is damaged: {text}", hint="ask whoever runs the server for its last backup"
        )
    if state in ("53100", "53200"):
        return StoreFull(f"no room left for the database {where}: {text}", hint="free some space on its server")
    if state == "25006":
        return StoreReadOnly(f"the database {where} cannot be written: {text}", hint="is its server a standby?")
    if state.startswith(_UNREACHABLE) or (not state and type(cause).__name__ in ("OperationalError", "PoolTimeout")):
        return StoreUnreachable(f"the database {where} does not answer: {text}")
    if state.startswith(_INVALID) or type(cause).__name__ == "DataError":
        return InvalidData(f"invalid data given: {text}")
    if state == "3F000":
        return StoreError(f"the database {where} has no such schema: {text}", hint="make it: CREATE SCHEMA name")
    return StoreError(f"database error: {text}")
