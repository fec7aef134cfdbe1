"""The database: records and journals that survive the process.

:mod:`~dms.store.database`    :class:`Store`: open, transactions in worker threads, close
:mod:`~dms.store.address`     where it is: a file in ``general.work_dir``, or ``database.url``
:mod:`~dms.store.sqlite`      a SQLite file: durable, private, checked, compacted
:mod:`~dms.store.postgres`    a schema on a PostgreSQL server
:mod:`~dms.store.faults`      what databases complain of, as errors of ours
:mod:`~dms.store.repository`  :class:`Repository`: many records of one type
:mod:`~dms.store.entity`      :class:`EntityRepository`: one record with its history
:mod:`~dms.store.query`       conditions, order, limit, offset
:mod:`~dms.store.collection`  the two flavours of a table: documents and columns
:mod:`~dms.store.statements`  what concerns one record, built once per table
:mod:`~dms.store.members`     the members of a structure by name
:mod:`~dms.store.journal`     :class:`DeploymentJournal`: the steps of deployments, appended only
:mod:`~dms.store.schema`      the tables
:mod:`~dms.store.retention`   what grows, and how long it is kept
:mod:`~dms.store.upkeep`      pruning, giving space back, looking for damage from time to time
:mod:`~dms.store.examine`     looking at a database without changing it
:mod:`~dms.store.backup`      copies: taken, verified, put back
:mod:`~dms.store.migrate`     bringing an older database to the newest schema, and back
:mod:`~dms.store.errors`      the tree of errors
"""

from dms.store.address import DATABASE, DatabaseURL, locate
from dms.store.database import Session, Store
from dms.store.entity import EntityRepository
from dms.store.errors import InvalidData, RecordNotFound, StoreError
from dms.store.journal import DeploymentJournal, JournalEntry
from dms.store.query import Query
from dms.store.repository import Documents, Record, Repository

__all__ = [
    "DATABASE",
    "DatabaseURL",
    "DeploymentJournal",
    "Documents",
    "EntityRepository",
    "InvalidData",
    "JournalEntry",
    "Query",
    "Record",
    "RecordNotFound",
    "Repository",
    "Session",
    "Store",
    "StoreError",
    "locate",
]
