from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import trio

from dms.store import DATABASE, Repository, Store
from dms.store.schema import HEAD, reservations
from dms.testing.commandline import Nunet
from dms.types.resources import RAM


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of a node which does not run, with one record."""
    monkeypatch.setenv("DMS_GENERAL_WORK_DIR", str(tmp_path))
    add(tmp_path / DATABASE, "a")
    return tmp_path / DATABASE


def add(path: Path, name: str) -> None:
    async def create() -> None:
        async with await Store.open(path) as store:
            await Repository(store, reservations, RAM).create(RAM(), name)

    trio.run(create)


def records(path: Path) -> list[str]:
    async def find() -> list[str]:
        async with await Store.open(path) as store:
            return [record.id for record in await Repository(store, reservations, RAM).find_all()]

    return trio.run(find)


def test_a_sound_database_is_told_with_what_it_holds(nunet: Nunet, database: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in database.parent.iterdir()}
    done = nunet("db", "check")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["database", str(database)]
    assert lines[1].split() == ["schema", HEAD]
    assert lines[3:] == ["records   1 reservations", "sound"]
    found = json.loads(nunet("db", "check", "--json").out)
    assert (found["is_sound"], found["records"]["reservations"], found["problems"]) == (True, 1, [])
    assert nunet("db", "check", "-o", "yaml").out.startswith("is_sound: true\n")
    assert {path: path.stat().st_mtime_ns for path in database.parent.iterdir()} == before


def test_a_damaged_database_ends_the_check_with_the_way_out(nunet: Nunet, database: Path) -> None:
    database.write_bytes(b"rubbish" * 5000)
    done = nunet("db", "check", "--json")
    found = json.loads(done.out)
    assert (done.code, found["is_sound"], len(found["problems"])) == (5, False, 1)
    assert done.err.startswith(f"Error: the database {database} is not sound: ")
    assert "nunet db restore FILE" in done.err
    assert "problem " in nunet("db", "check").out


def test_there_may_be_no_database_yet(nunet: Nunet, database: Path) -> None:
    database.unlink()
    for command in (("check",), ("backup",)):
        done = nunet("db", *command)
        assert (done.code, done.out, list(database.parent.glob("backups"))) == (4, "", [])


def test_a_backup_is_taken_checked_and_restored(nunet: Nunet, database: Path) -> None:
    done = nunet("db", "backup")
    copy = Path(done.out.strip())
    assert (done.code, copy.parent) == (0, database.parent / "backups")
    assert re.fullmatch(r"dms-\d{8}T\d{6}Z\.sqlite", copy.name)
    assert re.fullmatch(r"\d+ records, .*B, SHA-256 [0-9a-f]{64}\n", done.err)
    assert (copy.parent.stat().st_mode & 0o777, copy.stat().st_mode & 0o777) == (0o700, 0o600)
    assert nunet("db", "check", copy).code == 0
    add(database, "b")
    missing = nunet("db", "restore", f"{copy}.no", "--yes")
    assert (missing.code, missing.err.splitlines()[0]) == (4, f"Error: there is no backup {copy}.no")
    assert nunet("db", "restore", f"{copy}.no").err == missing.err, "before anything is asked"
    done = nunet("db", "restore", copy, "--yes")
    assert (done.code, done.out) == (0, f"{database}\n")
    aside = Path(done.err.removeprefix("the old one is kept as ").strip())
    assert (records(database), records(aside)) == (["a"], ["a", "b"])


def test_results_for_programs(nunet: Nunet, database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    made = json.loads(nunet("db", "backup", copy, "--json").out)
    assert (made["database"], made["is_sound"], len(made["sha256"])) == (str(copy), True, 64)
    done = nunet("db", "backup", copy)
    assert (done.code, done.out) == (5, "")
    restored = json.loads(nunet("db", "restore", copy, "-y", "--json").out)
    assert (restored["database"], restored["restored"]) == (str(database), str(copy))
    assert Path(restored["aside"]).exists()


def test_many_backups_may_be_made_in_one_second(nunet: Nunet, database: Path) -> None:
    made = [nunet("db", "backup") for _ in range(4)]
    assert {done.code for done in made} == {0}
    assert len({done.out for done in made}) == 4


def test_a_restore_begins_anew_only_when_told_so(nunet: Nunet, database: Path) -> None:
    for wrong in ((), (database, "--empty")):
        done = nunet("db", "restore", *wrong, "-y")
        assert (done.code, done.err.splitlines()[0]) == (2, "Error: say what to restore: a backup, or --empty")
    done = nunet("db", "restore", "--empty", "-y")
    assert (done.code, database.exists()) == (0, False)
    assert records(database) == []


def test_a_restore_is_refused_while_the_node_runs(nunet: Nunet, database: Path) -> None:
    async def try_it() -> int:
        async with await Store.open(database):
            copied = await trio.to_thread.run_sync(nunet, "db", "backup")
            assert copied.code == 0
            done = await trio.to_thread.run_sync(nunet, "db", "restore", copied.out.strip(), "-y")
            assert "another process uses the database" in done.err
            return done.code

    assert trio.run(try_it) == 5
    assert records(database) == ["a"]


def test_what_is_no_backup_is_refused(nunet: Nunet, database: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(os.urandom(10_000))
    done = nunet("db", "restore", bad, "-y")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {bad} is not a sound backup: ")
    assert records(database) == ["a"]


def test_a_database_can_be_made_readable_for_an_older_release(nunet: Nunet, database: Path) -> None:
    done = nunet("db", "downgrade", "0002", "-y")
    assert (done.code, done.out, done.err.startswith("backup: ")) == (0, "0002\n", True)
    found = json.loads(nunet("db", "check", "--json").out)
    assert (found["revision"], found["is_sound"], found["records"]["reservations"]) == ("0002", True, 1)
    backups = set((database.parent / "backups").iterdir())
    assert nunet("db", "downgrade", "9999", "-y").code == 2
    assert set((database.parent / "backups").iterdir()) == backups
    assert records(database) == ["a"]


def test_a_database_on_a_server_has_its_own_programs(nunet: Nunet, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "postgresql://ann:s3cret@db.example.org/node?options=-csearch_path%3Dalice"
    monkeypatch.setenv("DMS_DATABASE_URL", address)
    for command, program in ((("backup",), "pg_dump"), (("restore", "x", "-y"), "pg_restore")):
        done = nunet("db", *command)
        assert (done.code, done.out) == (5, "")
        assert f"Hint: use its own program: {program} " in done.err
        assert "db.example.org/node" in done.err
        assert "s3cret" not in done.err
    assert "--schema=alice " in nunet("db", "backup").err


def test_a_node_does_not_start_on_a_damaged_database_and_names_the_command(
    nunet: Nunet, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.write_bytes(b"rubbish" * 5000)
    for name, value in {"PASSPHRASE": "p", "REST_PORT": "0", "GENERAL_USER_DIR": str(tmp_path / "user")}.items():
        monkeypatch.setenv(f"DMS_{name}", value)
    done = nunet("run")
    assert done.code == 5
    message, hint = done.err.splitlines()[-2:]
    assert message.startswith(f"Error: the database {database} is damaged")
    assert hint.startswith("Hint: put back a backup with nunet db restore FILE, or start anew")
    assert database.read_bytes() == b"rubbish" * 5000
