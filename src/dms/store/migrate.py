"""Bringing a database to the newest schema.

A new database gets the tables as they are now; Alembic, which takes long to load, is called for older ones only.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text

from dms.store.errors import StoreCorrupt, StoreTooNew
from dms.store.schema import HEAD, metadata

MIGRATIONS = Path(__file__).parent / "migrations"


def bring_to_head(session: Connection, path: Path | None) -> None:
    """Make or upgrade the tables, within the caller's transaction.

    :raises StoreTooNew: the schema is of a newer release.
    :raises StoreCorrupt: tables that are not ours.
    """
    tables = set(session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())
    if not tables:
        metadata.create_all(session, checkfirst=False)
        session.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        session.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
        return
    if "alembic_version" not in tables:
        raise StoreCorrupt(f"{path} is a database of another program", hint="set another general.work_dir")
    stored = session.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if stored != HEAD:
        upgrade(session, path, stored)


def upgrade(session: Connection, path: Path | None, stored: str | None) -> None:
    """Run the revisions that are missing."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    if stored is not None and stored not in known:
        raise StoreTooNew(f"a newer release has written the database {path}: its schema is {stored}, ours {HEAD}")
    config.attributes["connection"] = session
    command.upgrade(config, "head")
