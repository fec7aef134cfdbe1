"""The database: documents and journals that survive the process.

:mod:`~dms.store.database`    :class:`Store`: open, transactions in worker threads, close
:mod:`~dms.store.repository`  :class:`Repository`: many records of one type
:mod:`~dms.store.entity`      :class:`EntityRepository`: one record with its history
:mod:`~dms.store.query`       conditions, order, limit, offset
:mod:`~dms.store.journal`     :class:`DeploymentJournal`: the steps of deployments, appended only
:mod:`~dms.store.schema`      the tables
:mod:`~dms.store.migrate`     bringing an older database to the newest schema
:mod:`~dms.store.errors`      the tree of errors
"""

from dms.store.database import Session, Store
from dms.store.entity import EntityRepository
from dms.store.errors import InvalidData, RecordNotFound, StoreError
from dms.store.journal import DeploymentJournal, JournalEntry
from dms.store.query import Query
from dms.store.repository import Documents, Record, Repository

__all__ = [
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
]
