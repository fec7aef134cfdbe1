"""What the tests of the store run on: engines, tables of either flavour, a clock."""

from dataclasses import dataclass

import pytest
from sqlalchemy import MetaData
from tests.unit.store.things import Thing

from dms.store.collection import document_table, relational_table

ENGINES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))

_tables = MetaData()
TABLES = {
    "documents": document_table("thing_documents", _tables),
    "relational": relational_table("thing_columns", _tables, Thing),
}


@dataclass
class Clock:
    """A second further at each look."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s
