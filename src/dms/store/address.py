"""Where the database of a node is: a file, unless the settings name a PostgreSQL server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from dms.store.errors import BadDatabaseURL

DATABASE: Final = "dms.sqlite"
"""The file in ``general.work_dir``."""

DRIVER = "postgresql+psycopg"
_SEARCH_PATH = re.compile(r"-c\s*search_path=(\w+)")
_SCHEMES = ("postgresql", "postgres")


class DatabaseURL:
    """The address of a PostgreSQL database; its password never prints.

    One node uses one schema: several share a database if each names another one,
    ``postgresql://…/name?options=-csearch_path%3Dalice``.
    """

    __slots__ = ("_url",)

    def __init__(self, text: str) -> None:
        """Read an address.

        :raises BadDatabaseURL: it is none, of another database, or has its password in the query.
        """
        try:
            url = make_url(text)
            port = url.port
        except (ArgumentError, ValueError):
            raise BadDatabaseURL from None
        if url.drivername not in _SCHEMES or not url.database or port == 0:
            raise BadDatabaseURL(f"not the address of a PostgreSQL database: {url.render_as_string()}")
        if "password" in url.query:
            raise BadDatabaseURL("the password is in the query of database.url, where it would be printed")
        self._url = url

    @property
    def engine_url(self) -> URL:
        """For the engine, password included."""
        return self._url.set(drivername=DRIVER)

    @property
    def dump_command(self) -> str:
        """What saves this database; the password is left to ``PGPASSWORD`` or ``~/.pgpass``."""
        schema = f"--schema={self._schema} " if self._schema else ""
        return f"pg_dump --format=custom {schema}--file=nunet.dump '{self._bare}'"

    @property
    def restore_command(self) -> str:
        """What puts it back."""
        return f"pg_restore --clean --if-exists --single-transaction --dbname='{self._bare}' nunet.dump"

    @property
    def _bare(self) -> str:
        url = self._url
        bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
        return bare.render_as_string()

    @property
    def _schema(self) -> str:
        found = _SEARCH_PATH.search(str(self._url.query.get("options", "")))
        return found[1] if found else ""

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"DatabaseURL({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseURL) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)


def locate(url: str, work_dir: Path) -> Path | DatabaseURL:
    """What the settings ``database.url`` and ``general.work_dir`` mean.

    :raises BadDatabaseURL: not an address.
    """
    return DatabaseURL(url) if url else work_dir / DATABASE
