import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, insert, inspect, select, text
from tests.unit.store.engines import ENGINES

from dms.store import DatabaseURL, InvalidData, Session, Store
from dms.store.errors import StoreCorrupt, StoreTooNew
from dms.store.migrate import MIGRATIONS, VERSION_TABLE, downgrade, revision, upgrade
from dms.store.schema import HEAD, metadata

REVISIONS = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | DatabaseURL:
    """A new database of either engine, for this test alone."""
    if request.param == "sqlite":
        return tmp_path / "dms.db"
    url: DatabaseURL = request.getfixturevalue("postgres").new_schema()
    return url


def differences(session: Session) -> list[object]:
    """Between the tables and what the schema says they are."""
    return list(compare_metadata(MigrationContext.configure(session, opts={"compare_type": True}), metadata))


def start_over(session: Session) -> None:
    metadata.drop_all(session)
    session.execute(text(f"DELETE FROM {VERSION_TABLE}"))


def tables(session: Session) -> list[Table]:
    """All tables as they are, without that of Alembic."""
    found = MetaData()
    found.reflect(session)
    return [table for table in found.sorted_tables if table.name != VERSION_TABLE]


def fill(session: Session, mark: str) -> None:
    """One more row in every table that is there, marked."""
    for number, table in enumerate(tables(session)):
        values = {"id": mark, "created_at": 1, "updated_at": 2, "deleted_at": 0, "data": {"mark": mark}}
        if "data" not in table.c:
            values = {"ensemble_id": mark, "seq": number, "kind": mark, "payload": {"mark": mark}, "at": 3}
        session.execute(insert(table), [{**values}])


def contents(session: Session) -> dict[str, list[tuple[object, ...]]]:
    return {
        table.name: [
            tuple(row) for row in session.execute(select(table).order_by(table.primary_key.columns.values()[0]))
        ]
        for table in tables(session)
    }


async def test_the_revisions_lead_to_the_same_tables_as_a_new_database(place: Path | DatabaseURL) -> None:
    async with await Store.open(place) as store:
        assert await store.run(differences) == []
        assert set(await store.run(lambda s: inspect(s).get_table_names())) == {*metadata.tables, VERSION_TABLE}
        await store.run(start_over)
    async with await Store.open(place) as store:
        assert await store.run(differences) == []
        assert await store.run(revision) == HEAD


async def test_every_step_forward_and_back_keeps_the_data(place: Path | DatabaseURL) -> None:
    async with await Store.open(place) as store:
        await store.run(start_over)

        def step_forward(session: Session, target: str) -> None:
            upgrade(session, place, revision(session), target)
            assert revision(session) == target

        kept: dict[str, dict[str, list[tuple[object, ...]]]] = {}
        for target in REVISIONS:
            before = await store.run(contents)
            await store.run(lambda session, target=target: step_forward(session, target))  # type: ignore[misc]
            after = await store.run(contents)
            assert {name: after[name] for name in before} == before
            await store.run(lambda session, target=target: fill(session, target))  # type: ignore[misc]
            kept[target] = await store.run(contents)
            assert all(rows for rows in kept[target].values())
        assert await store.run(differences) == []
        newest = kept[HEAD]
        for target in REVISIONS[-2::-1]:
            await store.run(lambda session, target=target: downgrade(session, target))  # type: ignore[misc]
            assert await store.run(revision) == target
            assert await store.run(contents) == {name: newest[name] for name in kept[target]}
        await store.run(lambda session: upgrade(session, place, revision(session)))
        again = await store.run(contents)
        assert again == {name: newest[name] if name in kept[REVISIONS[0]] else [] for name in newest}
        assert await store.run(differences) == []


async def test_a_step_that_fails_leaves_the_database_as_it_was(place: Path | DatabaseURL) -> None:
    async with await Store.open(place) as store:
        await store.run(lambda session: downgrade(session, "0001"))
        before = await store.run(contents)

        def fail(session: Session) -> None:
            upgrade(session, place, revision(session))
            raise KeyError("after the last step")

        with pytest.raises(KeyError):
            await store.run(fail)
        assert (await store.run(revision), await store.run(contents)) == ("0001", before)


async def test_the_way_back_ends_at_revisions_that_were(place: Path | DatabaseURL) -> None:
    async with await Store.open(place) as store:
        for wrong in ("9999", "", "base", HEAD + "0"):
            with pytest.raises(InvalidData, match="no revision"):
                await store.run(lambda session, wrong=wrong: downgrade(session, wrong))  # type: ignore[misc]
        await store.run(lambda session: downgrade(session, "0002"))
        with pytest.raises(InvalidData, match="no revision 0003 below 0002"):
            await store.run(lambda session: downgrade(session, "0003"))
    async with await Store.open(place) as store:
        assert await store.run(revision) == HEAD


async def test_the_database_of_a_newer_release_is_left_alone(place: Path | DatabaseURL) -> None:
    async with await Store.open(place) as store:
        await store.run(lambda s: s.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")))
    with pytest.raises(StoreTooNew, match="its schema is 9999"):
        await Store.open(place)


async def test_the_tables_of_another_program_are_left_alone(place: Path | DatabaseURL) -> None:
    async with await Store.open(place) as store:
        await store.run(lambda s: s.execute(text(f"DROP TABLE {VERSION_TABLE}")))
    with pytest.raises(StoreCorrupt, match="another program"):
        await Store.open(place)


def test_the_named_head_is_the_last_revision() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_an_up_to_date_database_opens_without_loading_alembic_or_the_orm(tmp_path: Path) -> None:
    program = (
        "import sys, trio; from pathlib import Path; from dms.store import Store\n"
        f"for _ in range(2): trio.run((trio.run(Store.open, Path({str(tmp_path / 'dms.db')!r}))).aclose)\n"
        "print(sorted(m for m in ('alembic', 'sqlalchemy.orm', 'psycopg') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "[]\n", done.stderr
