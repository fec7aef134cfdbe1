"""A PostgreSQL server of its own for tests: in a temporary folder, on a socket in it, gone in the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from dms.store.address import DatabaseURL

USER = "postgres"
DATABASE = "postgres"
START_LIMIT_S = 60
_DEBIAN = Path("/usr/lib/postgresql")


def missing_for_postgres() -> str:
    """Why no server can be started here; empty when one can."""
    if _programs() is None:
        return "needs PostgreSQL: apt-get install postgresql"
    if os.geteuid() == 0 and _account() is None:
        return f"needs the account {USER}, as the server refuses to run as root"
    return ""


@dataclass(slots=True)
class PostgresServer:
    """A server that runs."""

    directory: Path
    is_synced: bool = False
    """Whether it waits for the disk; tests ask it to store, not to survive."""
    _numbers: Iterator[int] = field(default_factory=count)

    def url(self, schema: str = "") -> DatabaseURL:
        """The address of its database, or of one schema in it."""
        options = f"&options=-csearch_path%3D{schema}" if schema else ""
        return DatabaseURL(f"postgresql://{USER}@/{DATABASE}?host={self.directory}{options}")

    def new_schema(self) -> DatabaseURL:
        """The address of a new, empty schema."""
        name = f"node_{next(self._numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        return self.url(name)

    def execute(self, sql: str) -> None:
        """Run statements, each committed by itself, on a connection of their own."""
        import psycopg

        with psycopg.connect(host=str(self.directory), user=USER, dbname=DATABASE, autocommit=True) as connection:
            connection.execute(sql.encode())

    def stop(self) -> None:
        """End it as a shutdown does: connections are cut."""
        _control(self.directory, "stop", "-m", "fast")

    def start(self) -> None:
        """Let it run again."""
        settings = f"-k {self.directory} -c listen_addresses= -c max_connections=20 -c shared_buffers=16MB"
        if not self.is_synced:
            settings += " -c fsync=off -c full_page_writes=off"
        _control(self.directory, "start", "-w", "-l", str(self.directory / "log"), "-o", settings)


@contextlib.contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """A new server; its language orders text as dictionaries do, so that nothing leans on the order of bytes."""
    directory = Path(tempfile.mkdtemp(prefix="nunet-pg-", dir="/tmp"))
    server = PostgresServer(directory)
    try:
        account = _account()
        if account is not None and os.geteuid() == 0:
            os.chown(directory, account.pw_uid, account.pw_gid)
        _call(
            "initdb", directory, "-D", str(directory / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync",
            "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en",
        )  # fmt: skip
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _control(directory: Path, *arguments: str) -> None:
    _call("pg_ctl", directory, "-D", str(directory / "data"), "-t", str(START_LIMIT_S), *arguments)


def _call(program: str, directory: Path, *arguments: str) -> None:
    folder = _programs()
    assert folder is not None, missing_for_postgres()
    is_root = os.geteuid() == 0
    with (directory / f"{program}.out").open("ab") as output:
        done = subprocess.run(
            [folder / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,  # not a pipe: the server would hold it open
            stderr=subprocess.STDOUT,
            cwd=directory,
            user=USER if is_root else None,
            group=USER if is_root else None,
            extra_groups=[] if is_root else None,
            timeout=2 * START_LIMIT_S,
            check=False,
        )
    if done.returncode != 0:
        said = "".join(p.read_text() for p in (directory / f"{program}.out", directory / "log") if p.exists())
        raise RuntimeError(f"{program} {' '.join(arguments)} ended with {done.returncode}: {said}")


def _programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(_DEBIAN.glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists() and (folder / "postgres").exists()), None)


def _account() -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(USER)
    return None
