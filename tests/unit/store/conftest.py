"""Databases of every kind for the tests of the store."""

from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Table, delete
from tests.unit.store.engines import ENGINES, TABLES, Clock

from dms.store import DatabaseURL, Session, Store
from dms.testing.postgres import PostgresServer, run_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def shared_schema(postgres: PostgresServer) -> DatabaseURL:
    """One for all tests that leave it as it was: to make its tables takes a while."""
    return postgres.new_schema()


@pytest.fixture(params=ENGINES)
def where(request: pytest.FixtureRequest) -> DatabaseURL | None:
    """SQLite in memory, or PostgreSQL."""
    return None if request.param == "sqlite" else request.getfixturevalue("shared_schema")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(where: DatabaseURL | None, clock: Clock) -> AsyncIterator[Store]:
    async with await Store.open(where, now=clock) as store:

        def prepare(session: Session) -> None:
            for table in TABLES.values():
                table.create(session, checkfirst=True)
                session.execute(delete(table))

        await store.run(prepare)
        clock.now_s = 1000.0
        yield store


@pytest.fixture(params=list(TABLES))
def table(request: pytest.FixtureRequest) -> Table:
    """A table for things, of either flavour."""
    return TABLES[request.param]
