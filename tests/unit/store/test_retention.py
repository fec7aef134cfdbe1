from sqlalchemy import Table, text
from tests.unit.store.engines import Clock

from dms.config.schema import Database
from dms.store import DeploymentJournal, EntityRepository, Query, Repository, Store
from dms.store.retention import BATCH, STEPS_KEPT, Retention, prune, retention_of
from dms.store.schema import benchmarks, deployment_journal, reservations
from dms.types.resources import RAM

DAY_S = 86400.0


async def clear(store: Store, *tables: Table) -> None:
    for table in tables:
        await store.run(lambda session, table=table: session.execute(table.delete()))  # type: ignore[misc]


async def test_hidden_records_go_once_they_were_hidden_long_enough(store: Store, clock: Clock) -> None:
    await clear(store, reservations)
    repository = Repository(store, reservations, RAM)
    for name in ("old", "new", "shown"):
        await repository.create(RAM(type=name), name)
    await repository.hide("old")
    clock.now_s += 2 * DAY_S
    await repository.hide("new")
    assert await prune(store, Retention()) == {}
    assert await prune(store, Retention(hidden_s=DAY_S)) == {"reservations": 1}
    assert await prune(store, Retention(hidden_s=DAY_S)) == {}
    assert [r.id for r in await repository.find_all(Query(with_hidden=True))] == ["new", "shown"]
    await clear(store, reservations)


async def test_old_versions_go_and_the_newest_one_stays_however_old(store: Store, clock: Clock) -> None:
    await clear(store, benchmarks)
    entity = EntityRepository(store, benchmarks, RAM)
    for size in range(3):
        await entity.save(RAM(size=size))
    clock.now_s += 10 * DAY_S
    assert await prune(store, Retention(history_s=DAY_S)) == {"benchmarks": 2}
    assert (await entity.get()).value == RAM(size=2)
    await clear(store, benchmarks)


async def test_of_a_deployment_that_goes_on_the_first_step_and_the_last_ones_stay(store: Store, clock: Clock) -> None:
    await clear(store, deployment_journal)
    journal = DeploymentJournal(store)
    many = STEPS_KEPT + 2 * BATCH + 51
    await journal.append_all("busy", [("health_changed", {})] * many)
    await journal.append_all("quiet", [("submitted", {}), ("running", {})])
    clock.now_s += 10 * DAY_S
    assert await journal.append("busy", "running", {}) == many + 1
    removed = many + 1 - STEPS_KEPT - 1
    assert removed > 2 * BATCH
    assert await prune(store, Retention(steps_s=DAY_S)) == {"deployment_journal": removed}
    steps = [entry.seq for entry in await journal.read("busy")]
    assert steps == [1, *range(many + 2 - STEPS_KEPT, many + 2)]
    assert len(await journal.read("quiet")) == 2
    assert await journal.append("busy", "running", {}) == many + 2
    await clear(store, deployment_journal)


async def test_young_steps_stay_however_many(store: Store) -> None:
    await clear(store, deployment_journal)
    journal = DeploymentJournal(store)
    await journal.append_all("busy", [("health_changed", {})] * (STEPS_KEPT + 50))
    assert await prune(store, Retention(steps_s=DAY_S)) == {}
    assert await store.run(lambda s: s.execute(text("SELECT count(*) FROM deployment_journal")).scalar()) == 150
    await clear(store, deployment_journal)


def test_the_settings_say_how_long() -> None:
    assert retention_of(Database()) == Retention(hidden_s=30 * DAY_S, history_s=365 * DAY_S, steps_s=90 * DAY_S)
    chosen = Database(keep_hidden="0s", keep_history="1h", keep_events="2d")
    assert retention_of(chosen) == Retention(hidden_s=0, history_s=3600, steps_s=2 * DAY_S)
