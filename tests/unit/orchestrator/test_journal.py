"""What is kept of a deployment: state and events in one transaction, the ensemble once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.journal import DeploymentRecord, Journal, StoredDeployment
from dms.orchestrator.lifecycle.events import (
    AllocationEnded,
    Begun,
    BidsCollected,
    Event,
    ShutdownDone,
)
from dms.orchestrator.lifecycle.machine import begin, step
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.store import Documents, Session, Store, StoreError
from dms.store.schema import deployments, ensembles
from dms.testing.nodes import ensemble
from dms.types import gojson
from dms.types.ids import EnsembleID

S = 10**9
ENSEMBLE = EnsembleID("e" * 64)
CONFIG = ensemble({"n1": {"a": "task"}}, metadata={"owner": "me"}, scripts={"big": "x" * 100_000})


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with await Store.open(None) as store:
        yield store


def fresh(id_: EnsembleID = ENSEMBLE, created_ns: int = S) -> DeploymentRecord:
    return DeploymentRecord(id_, CONFIG, begin(id_, CONFIG, now_ns=created_ns, deadline_ns=100 * S))


async def feed(journal: Journal, state: DeploymentState, event: Event) -> DeploymentState:
    after, _ = step(state, CONFIG, event)
    await journal.write_event(ENSEMBLE, event, state, after)
    return after


async def test_what_was_written_is_read_again(store: Store) -> None:
    journal = Journal(store)
    record = fresh()
    await journal.submit(record)
    assert await journal.load() == (record,)
    state = await feed(journal, record.state, Begun(at_ns=2 * S))
    assert await journal.load() == (DeploymentRecord(ENSEMBLE, CONFIG, state),)


async def test_the_ensemble_is_written_once(store: Store) -> None:
    journal = Journal(store)
    record = fresh()
    await journal.submit(record)
    await feed(journal, record.state, Begun(at_ns=2 * S))

    def sizes(session: Session) -> tuple[int, int]:
        kept = Documents(session, deployments, StoredDeployment).get(ENSEMBLE).value
        whole = Documents(session, ensembles, EnsembleConfig).get(ENSEMBLE).value
        return len(gojson.encode(kept)), len(gojson.encode(whole))

    kept, whole = await store.run(sizes)
    assert kept < 2_000 < 100_000 < whole


async def test_events_tell_people_what_happened(store: Store) -> None:
    journal = Journal(store)
    record = fresh()
    await journal.submit(record)
    state = await feed(journal, record.state, Begun(at_ns=2 * S))
    state = await feed(journal, state, BidsCollected(at_ns=3 * S, round=1, bids=()))
    await journal.write(ENSEMBLE, None, "bid_refused", {"peer": "p", "reason": "late"})
    events = await journal.events(ENSEMBLE, 0)
    assert [(e.seq, e.kind, e.payload) for e in events] == [
        (1, "submitted", {"metadata": {"owner": "me"}}),
        (2, "begun", {}),
        (3, "bids_collected", {"round": 1, "bids": [], "chosen": {}, "error": "no bids for n1"}),
        (4, "bid_refused", {"peer": "p", "reason": "late"}),
    ]
    assert [e.seq for e in await journal.events(ENSEMBLE, 3)] == [4]


async def test_an_entry_tells_of_a_new_status_and_error(store: Store) -> None:
    journal = Journal(store)
    record = fresh()
    await journal.submit(record)
    state = await feed(journal, record.state, Begun(at_ns=2 * S))
    await feed(journal, state, BidsCollected(at_ns=99 * S, round=1, bids=()))
    (last,) = await journal.events(ENSEMBLE, 2)
    assert last.payload["status"] == "Failed"
    assert last.payload["error"] == "failed to create deployment: no bids for n1"


async def test_state_and_event_are_written_together_or_not_at_all(store: Store) -> None:
    journal = Journal(store)
    record = fresh()
    await journal.submit(record)

    def refuse_states(session: Session) -> None:
        session.exec_driver_sql("CREATE TRIGGER full BEFORE UPDATE ON deployments BEGIN SELECT RAISE(FAIL, 'no'); END")

    await store.run(refuse_states)
    with pytest.raises(StoreError):
        await feed(journal, record.state, Begun(at_ns=2 * S))
    assert [e.kind for e in await journal.events(ENSEMBLE, 0)] == ["submitted"]
    assert await journal.load() == (record,)


async def test_a_submission_that_fails_leaves_nothing(store: Store) -> None:
    journal = Journal(store)
    await journal.submit(fresh())
    with pytest.raises(StoreError):
        await journal.submit(fresh())
    assert [e.kind for e in await journal.events(ENSEMBLE, 0)] == ["submitted"]


async def test_the_oldest_comes_first_and_a_deleted_one_not_at_all(store: Store) -> None:
    journal = Journal(store)
    young, old = fresh(EnsembleID("b" * 64), 5 * S), fresh(EnsembleID("a" * 64), 3 * S)
    await journal.submit(young)
    await journal.submit(old)
    assert [r.id for r in await journal.load()] == [old.id, young.id]
    await journal.delete(old.id)
    assert [r.id for r in await journal.load()] == [young.id]
    assert await journal.events(old.id, 0) == ()
    assert len(await journal.events(young.id, 0)) == 1


async def test_it_lies_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "dms.sqlite"
    async with await Store.open(path) as store:
        await Journal(store).submit(fresh())
    async with await Store.open(path) as store:
        (record,) = await Journal(store).load()
    assert (record.config, record.state.phase) == (CONFIG, Phase.PREPARING)


async def test_ends_and_shutdowns_are_described(store: Store) -> None:
    journal = Journal(store)
    record = fresh()
    await journal.submit(record)
    ended = AllocationEnded(at_ns=S, key="n1.a", status="failed", error="exit code 3", exit_code=3)
    await journal.write_event(ENSEMBLE, ended, record.state, record.state)
    await journal.write_event(ENSEMBLE, ShutdownDone(at_ns=S, unreached=("n1.a",)), record.state, record.state)
    assert [e.payload for e in await journal.events(ENSEMBLE, 1)] == [
        {"allocation": "n1.a", "state": "failed", "why": "exit code 3", "exit_code": 3},
        {"unreached": ["n1.a"]},
    ]
