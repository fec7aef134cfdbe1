from pathlib import Path

import pytest
import trio

from dms.store import DeploymentJournal, InvalidData, Store
from dms.types.resources import RAM


async def test_steps_are_read_in_the_order_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    async with await Store.open(path, now=lambda: 5.0) as store:
        journal = DeploymentJournal(store)
        assert await journal.append("b", "created", {"x": [1, None, "é"]}) == 1
        assert await journal.append("a", "created", {}) == 1
        assert await journal.append_all("b", [("bids", RAM(size=4)), ("matched", [])]) == (2, 3)
        assert await journal.append_all("b", []) == ()
    async with await Store.open(path) as store:
        journal = DeploymentJournal(store)
        steps = await journal.read("b")
        assert [(s.seq, s.kind, s.payload) for s in steps] == [
            (1, "created", {"x": [1, None, "é"]}),
            (2, "bids", {"size": 4}),
            (3, "matched", []),
        ]
        assert {(s.ensemble_id, s.at_ns) for s in steps} == {("b", 5 * 10**9)}
        assert [s.seq for s in await journal.read("b", after=2)] == [3]
        assert await journal.append("b", "running", {}) == 4
        assert await journal.ensembles() == ("b", "a")
        await journal.forget("b")
        assert await journal.read("b") == ()
        assert await journal.ensembles() == ("a",)


async def test_steps_written_at_once_get_numbers_of_their_own(store: Store) -> None:
    journal = DeploymentJournal(store)
    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(journal.append, "at once", "step", {"n": n})
    assert [s.seq for s in await journal.read("at once")] == list(range(1, 21))
    assert "at once" in await journal.ensembles()
    await journal.forget("at once")
    assert "at once" not in await journal.ensembles()


async def test_a_payload_is_what_it_was(store: Store) -> None:
    journal = DeploymentJournal(store)
    payload = {
        "x": [1, None, "é", 1.5, True, 2**60],
        "\u2028": {"": "%s :x"},
        "nul": "a\0b" if store.url is None else "",
    }
    await journal.append_all("whole", [("one", payload), ("two", RAM(size=4))])
    assert [s.payload for s in await journal.read("whole")] == [payload, {"size": 4}]
    await journal.forget("whole")


async def test_a_payload_without_json_is_refused(store: Store) -> None:
    journal = DeploymentJournal(store)
    for bad in ({"x": float("inf")}, object()):
        with pytest.raises(InvalidData):
            await journal.append("refused", "step", bad)
    assert await journal.read("refused") == ()
