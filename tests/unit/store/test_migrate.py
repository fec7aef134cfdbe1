import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from dms.store import Session, Store
from dms.store.migrate import MIGRATIONS, upgrade
from dms.store.schema import HEAD, metadata


def schema(session: Session) -> dict[str, object]:
    """Columns and indexes of every table, however its SQL was worded."""
    tables = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
    return {
        name: (
            [tuple(row) for row in session.execute(text(f"PRAGMA table_info({name})"))],
            sorted(
                (row.unique, tuple(c.name for c in session.execute(text(f"PRAGMA index_info({row.name})"))))
                for row in session.execute(text(f"PRAGMA index_list({name})"))
            ),
        )
        for name in tables
        if not name.startswith("sqlite_")
    }


async def test_the_revisions_lead_to_the_same_tables_as_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    async with await Store.open(path) as store:
        new = await store.run(schema)

        def start_over(session: Session) -> None:
            metadata.drop_all(session)
            session.execute(text("DELETE FROM alembic_version"))

        await store.run(start_over)
    async with await Store.open(path) as store:
        assert await store.run(schema) == new
        assert await store.run(lambda s: s.execute(text("SELECT version_num FROM alembic_version")).scalar()) == HEAD
        await store.run(lambda s: upgrade(s, path, HEAD))
    assert set(new) == {*metadata.tables, "alembic_version"}


def test_the_named_head_is_the_last_revision() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_an_up_to_date_database_opens_without_loading_alembic_or_the_orm(tmp_path: Path) -> None:
    program = (
        "import sys, trio; from pathlib import Path; from dms.store import Store\n"
        f"for _ in range(2): trio.run((trio.run(Store.open, Path({str(tmp_path / 'dms.db')!r}))).aclose)\n"
        "print(sorted(m for m in ('alembic', 'sqlalchemy.orm') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "[]\n", done.stderr
