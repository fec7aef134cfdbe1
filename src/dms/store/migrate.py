"""Bringing a database to the newest schema, and back to an older one.

A new database gets the tables as they are now; Alembic, which takes long to load, is called for older ones only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, Dialect, MetaData, String, Table, insert, inspect, select
from sqlalchemy.schema import CreateIndex, CreateTable

from dms.store.errors import InvalidData, StoreCorrupt, StoreTooNew
from dms.store.schema import HEAD, metadata

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"
"""Its name is Alembic's."""

_versions = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True, nullable=False))

_compiled: dict[str, tuple[str, ...]] = {}
"""The tables as they are now, by dialect: to put them into words takes longer than to make them."""


def bring_to_head(session: Connection, where: object) -> None:
    """Make or upgrade the tables of the database ``where``, within the caller's transaction.

    :raises StoreTooNew: the schema is of a newer release.
    :raises StoreCorrupt: tables that are not ours.
    """
    tables = set(inspect(session).get_table_names())
    if not tables:
        for statement in _definitions(session.dialect):
            session.exec_driver_sql(statement)
        session.execute(insert(_versions).values(version_num=HEAD))
        return
    if VERSION_TABLE not in tables:
        raise StoreCorrupt(
            f"{where} is a database of another program", hint="set another general.work_dir or database.url"
        )
    stored = revision(session)
    if stored != HEAD:
        upgrade(session, where, stored)


def revision(session: Connection) -> str | None:
    """Which revision the tables have; ``None``: before the first one."""
    return session.execute(select(_versions.c.version_num)).scalar()


def upgrade(session: Connection, where: object, stored: str | None, target: str = HEAD) -> None:
    """Run the revisions that are missing, up to ``target``."""
    from alembic import command

    config = _config(session)
    if stored is not None and stored not in _known(config):
        raise StoreTooNew(f"a newer release has written the database {where}: its schema is {stored}, ours {HEAD}")
    command.upgrade(config, target)


def downgrade(session: Connection, target: str) -> None:
    """Undo revisions until ``target`` is the last one, for an older release to go on with; what only the newer ones know
    is lost.

    :raises InvalidData: there is no such revision, or the tables are older.
    """
    from alembic import command

    check_downgrade(session, target)
    command.downgrade(_config(session), target)


def check_downgrade(session: Connection, target: str) -> None:
    """See whether :func:`downgrade` could be done, without doing anything.

    :raises InvalidData: there is no such revision, or the tables are older.
    """
    stored = revision(session)
    if target not in _known(_config(session)) or stored is None or target > stored:
        raise InvalidData(f"invalid data given: no revision {target} below {stored}")


def _definitions(dialect: Dialect) -> tuple[str, ...]:
    """What makes all tables, in the words of a dialect."""
    if dialect.name not in _compiled:
        tables = (*metadata.sorted_tables, _versions)
        made = [str(CreateTable(table).compile(dialect=dialect)) for table in tables]
        indexes = sorted((index for table in tables for index in table.indexes), key=lambda index: str(index.name))
        made += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
        _compiled[dialect.name] = tuple(made)
    return _compiled[dialect.name]


def _config(session: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = session
    return config


def _known(config: Config) -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
