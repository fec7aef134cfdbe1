"""Errors of the store; the texts of the first four are fixed by ``spec/platform.md`` 3.5.

::

    DMSError
    └── StoreError            the database failed
        ├── InvalidData       a query or record that cannot be stored          (BadInput)
        ├── RecordNotFound    no such record                                   (NotFound)
        ├── BadRecord         a stored record that is not of its type
        ├── StoreInUse        another process has the database open            (Conflict)
        ├── StoreTooNew       written by a newer release                       (Conflict)
        ├── StoreCorrupt      not a database, or a damaged one
        ├── StoreFull         no room left on the file system                  (Unavailable)
        └── StoreClosed       the store has been closed
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, DMSError, NotFound, Unavailable


class StoreError(DMSError):
    """database error"""

    code = "database_error"


class InvalidData(BadInput, StoreError):
    """invalid data given"""

    code = "invalid_data"


class RecordNotFound(NotFound, StoreError):
    """record not found"""

    code = "record_not_found"


class BadRecord(StoreError):
    """error parsing model"""

    code = "bad_record"


class StoreInUse(Conflict, StoreError):
    """Another process uses this database."""

    code = "database_in_use"
    default_hint = "stop the other node, or give this one its own general.work_dir"


class StoreTooNew(Conflict, StoreError):
    """A newer release has written this database."""

    code = "database_too_new"
    default_hint = "run that release or a later one, or set another general.work_dir"


class StoreCorrupt(StoreError):
    """The database is damaged."""

    code = "database_corrupt"
    default_hint = "move it away with its -wal and -shm files; put back a backup, or start empty and onboard again"


class StoreFull(Unavailable, StoreError):
    """There is no room left for the database."""

    code = "database_full"
    default_hint = "free some space on the file system of general.work_dir"


class StoreClosed(StoreError):
    """The database has been closed."""

    code = "database_closed"
