"""What only a server can do to a node; what both engines promise is in the other modules."""

import subprocess
from pathlib import Path

import pytest
import trio
from sqlalchemy import text

from dms.store import DatabaseURL, Repository, Session, Store
from dms.store.errors import (
    InvalidData,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreInUse,
    StoreReadOnly,
    StoreUnreachable,
)
from dms.store.examine import examine
from dms.store.schema import HEAD, reservations
from dms.testing.postgres import PostgresServer, run_postgres
from dms.types.resources import RAM

pytestmark = pytest.mark.postgres


def other(url: DatabaseURL, *, password: str | None = None, **query: str) -> DatabaseURL:
    changed = url.engine_url.set(drivername="postgresql", password=password)
    return DatabaseURL(changed.update_query_dict(query).render_as_string(hide_password=False))


async def test_what_is_acknowledged_is_on_the_servers_disk_whatever_its_default(postgres: PostgresServer) -> None:
    url = other(postgres.new_schema(), options="-csynchronous_commit=off")
    async with await Store.open(url) as store:
        assert await store.run(lambda s: s.execute(text("SHOW synchronous_commit")).scalar()) == "on"


async def test_a_server_that_does_not_wait_for_its_disk_is_told(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    await (await Store.open(postgres.new_schema())).aclose()
    assert [record.getMessage() for record in caplog.records] == ["database_not_durable"]


async def test_two_nodes_do_not_share_a_schema_but_may_share_a_database(postgres: PostgresServer) -> None:
    one, two = postgres.new_schema(), postgres.new_schema()
    async with await Store.open(one) as first, await Store.open(two) as second:
        with pytest.raises(StoreInUse, match="another node uses"):
            await Store.open(one)
        await Repository(first, reservations, RAM).create(RAM(), "a")
        assert await Repository(second, reservations, RAM).count() == 0
    async with await Store.open(one) as first:
        assert await Repository(first, reservations, RAM).count() == 1


async def test_an_error_undoes_the_whole_transaction(postgres: PostgresServer) -> None:
    async with await Store.open(postgres.new_schema()) as store:
        repository = Repository(store, reservations, RAM)

        def half(session: Session) -> None:
            repository.on(session).create(RAM(size=1), "a")
            raise KeyError("on purpose")

        with pytest.raises(KeyError):
            await store.run(half)
        assert await repository.count() == 0
    with pytest.raises(StoreClosed):
        await repository.count()


async def test_concurrent_transactions_happen_one_after_the_other(postgres: PostgresServer) -> None:
    async with await Store.open(postgres.new_schema()) as store:
        repository = Repository(store, reservations, RAM)
        await repository.create(RAM(size=0), "counter")

        def increment(session: Session) -> None:
            documents = repository.on(session)
            documents.update("counter", RAM(size=documents.get("counter").value.size + 1))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(store.run, increment)
        assert (await repository.get("counter")).value.size == 10


def test_a_node_goes_on_once_its_server_is_back() -> None:
    async def go_on(server: PostgresServer) -> None:
        async with await Store.open(server.new_schema()) as store:
            repository = Repository(store, reservations, RAM)
            await repository.create(RAM(), "before")
            await trio.to_thread.run_sync(server.stop)
            for _ in range(2):
                with pytest.raises(StoreUnreachable) as caught:
                    await repository.create(RAM(), "meanwhile")
                assert caught.value.retryable
            await trio.to_thread.run_sync(server.start)
            await repository.create(RAM(), "after")
            assert [record.id for record in await repository.find_all()] == ["before", "after"]

    with run_postgres() as server:
        trio.run(go_on, server)


async def test_a_connection_that_is_cut_in_a_transaction_undoes_it(postgres: PostgresServer) -> None:
    async with await Store.open(postgres.new_schema()) as store:
        repository = Repository(store, reservations, RAM)

        def cut(session: Session) -> None:
            repository.on(session).create(RAM(), "a")
            own = session.execute(text("SELECT pg_backend_pid()")).scalar()
            postgres.execute(f"SELECT pg_terminate_backend({own})")
            repository.on(session).create(RAM(), "b")

        with pytest.raises(StoreUnreachable):
            await store.run(cut)
        assert await repository.count() == 0


async def test_a_server_that_is_not_there_is_told_without_the_password(tmp_path: Path) -> None:
    url = DatabaseURL(f"postgresql://ann:s3cret@/node?host={tmp_path}")
    with pytest.raises(StoreUnreachable, match="does not answer") as caught:
        await Store.open(url)
    assert "ann:***@/node" in caught.value.message
    assert "s3cret" not in f"{caught.value} {caught.value.hint} {url!r}"


async def test_a_database_that_cannot_be_written_is_told_as_such(postgres: PostgresServer) -> None:
    url = postgres.new_schema()
    schema = str(url.engine_url.query["options"])
    with pytest.raises(StoreReadOnly, match="cannot be written"):
        await Store.open(other(url, options=f"{schema} -cdefault_transaction_read_only=on"))


async def test_a_schema_that_is_not_there_is_named_with_the_way_out(postgres: PostgresServer) -> None:
    with pytest.raises(StoreError, match="has no such schema") as caught:
        await Store.open(postgres.url("nowhere"))
    assert "CREATE SCHEMA" in caught.value.hint


@pytest.mark.parametrize(("state", "error"), [("53100", StoreFull), ("XX001", StoreCorrupt), ("22003", InvalidData)])
async def test_what_the_server_complains_of_is_told_by_its_code(
    postgres: PostgresServer, state: str, error: type[Exception]
) -> None:
    async with await Store.open(postgres.new_schema()) as store:
        complain = text(f"DO $$ BEGIN RAISE EXCEPTION 'oh' USING ERRCODE = '{state}'; END $$")
        with pytest.raises(error, match="oh"):
            await store.run(lambda session: session.execute(complain))
        assert await Repository(store, reservations, RAM).count() == 0


async def test_text_that_the_server_cannot_hold_is_refused(postgres: PostgresServer) -> None:
    async with await Store.open(postgres.new_schema()) as store:
        repository = Repository(store, reservations, RAM)
        with pytest.raises(InvalidData, match="NUL"):
            await repository.create(RAM(type="a\0b"))
        await repository.create(RAM(type="a\\u0000b"), "only looks like it")
        assert (await repository.get("only looks like it")).value.type == "a\\u0000b"


async def test_a_database_on_a_server_can_be_examined_while_its_node_runs(postgres: PostgresServer) -> None:
    url = postgres.new_schema()
    assert examine(url).problems == ("an empty database",)
    async with await Store.open(url) as store:
        await Repository(store, reservations, RAM).create(RAM())
        found = await trio.to_thread.run_sync(examine, url)
    assert (found.revision, found.problems, found.records["reservations"]) == (HEAD, (), 1)
    assert found.size_bytes > 0


def test_the_commands_that_are_told_save_and_put_back_one_schema(postgres: PostgresServer, tmp_path: Path) -> None:
    url, beside = postgres.new_schema(), postgres.new_schema()

    async def create(where: DatabaseURL, *names: str) -> list[str]:
        async with await Store.open(where) as store:
            repository = Repository(store, reservations, RAM)
            for name in names:
                await repository.create(RAM(), name)
            return [record.id for record in await repository.find_all()]

    trio.run(create, url, "a")
    trio.run(create, beside, "beside")
    subprocess.run(url.dump_command, shell=True, cwd=tmp_path, check=True)
    trio.run(create, url, "b")
    trio.run(create, beside, "later")
    subprocess.run(url.restore_command, shell=True, cwd=tmp_path, check=True)
    assert (trio.run(create, url), trio.run(create, beside)) == (["a"], ["beside", "later"])
