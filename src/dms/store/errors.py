"""Errors of the store; the texts of the first four are fixed by ``spec/platform.md`` 3.5.

::

    DMSError
    └── StoreError            the database failed
        ├── InvalidData       a query or record that cannot be stored          (BadInput)
        ├── RecordNotFound    no such record                                   (NotFound)
        ├── BadRecord         a stored record that is not of its type
        ├── StoreInUse        another process has the database open            (Conflict)
        ├── StoreTooNew       written by a newer release                       (Conflict)
        ├── StoreCorrupt      not a database, or a damaged one                 (Conflict)
        ├── StoreFull         no room left on the file system                  (Unavailable)
        ├── StoreReadOnly     the file system, the file or the server refuses  (Unavailable)
        ├── StoreUnreachable  the server does not answer, or went away         (Unavailable)
        ├── StoreClosed       the store has been closed
        ├── StoreOnServer     that can be done with a file only                (Conflict)
        ├── BadDatabaseURL    not the address of a PostgreSQL database         (BadInput)
        ├── NoDatabase        none has been made yet                           (NotFound)
        ├── NoBackup          there is no such file                            (NotFound)
        ├── BadBackup         a file that is no whole backup of a database     (BadInput)
        └── BackupExists      there is a file of that name already             (Conflict)
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


class StoreCorrupt(Conflict, StoreError):
    """The database is damaged."""

    code = "database_corrupt"
    default_hint = (
        "put back a backup with nunet db restore FILE, or start anew with nunet db restore --empty; "
        "both keep the damaged one aside"
    )


class StoreFull(Unavailable, StoreError):
    """There is no room left for the database."""

    code = "database_full"
    default_hint = "free some space on the file system of general.work_dir"


class StoreReadOnly(Unavailable, StoreError):
    """The database cannot be written."""

    code = "database_read_only"
    default_hint = "see that the file system of general.work_dir is mounted read-write and that the files are yours"


class StoreUnreachable(Unavailable, StoreError):
    """The database server does not answer."""

    code = "database_unreachable"
    default_hint = "see that the server of database.url runs and lets this user in: psql with that address"


class StoreClosed(StoreError):
    """The database has been closed."""

    code = "database_closed"


class BadDatabaseURL(BadInput, StoreError):
    """This is not the address of a PostgreSQL database."""

    code = "bad_database_url"
    default_hint = "write database.url like postgresql://user@host/name"


class StoreOnServer(Conflict, StoreError):
    """The database is on a server, which has its own programs for this."""

    code = "database_on_server"


class NoDatabase(NotFound, StoreError):
    """There is no database yet."""

    code = "no_database"
    default_hint = "the node makes it when it starts: nunet run"


class BadBackup(BadInput, StoreError):
    """This file is no whole backup of a database."""

    code = "bad_backup"
    default_hint = "nunet db check FILE tells more; take another backup"


class NoBackup(NotFound, StoreError):
    """There is no such backup."""

    code = "no_backup"
    default_hint = "nunet db backup FILE takes one"


class BackupExists(Conflict, StoreError):
    """There is a file of this name already."""

    code = "backup_exists"
    default_hint = "choose another name; backups are never overwritten"
