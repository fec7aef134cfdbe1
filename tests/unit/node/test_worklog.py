"""The diary of requests for bids: what it counts, how much it keeps, and that it outlives the node."""

from __future__ import annotations

import stat
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dms.node.reasons import Reason, Rule
from dms.node.worklog import HOUR_NS, MAX_HOURS, MAX_REASONS, MAX_REQUESTS, MAX_STRANGERS, WorkLog
from dms.types.ids import EnsembleID, PeerID

NOW = 500_000 * HOUR_NS
ALICE = PeerID("alice")
FULL = Reason(Rule.FREE, "not enough free resources now")


def job(number: int) -> EnsembleID:
    return EnsembleID(f"{number:064x}")


def hear(work: WorkLog, number: int, at_ns: int = NOW, *, bids: bool = True, is_dry_run: bool = False) -> None:
    work.heard(
        job(number),
        ALICE,
        "did:key:alice",
        at_ns,
        nodes=2,
        bid=["n1"] if bids else [],
        refused={FULL: ["n2"]},
        expiry_ns=at_ns + 100,
        is_dry_run=is_dry_run,
    )


def test_bids_are_won_by_the_first_commit_and_lost_when_they_expire() -> None:
    work = WorkLog()
    for number in (1, 2):
        hear(work, number)
        hear(work, number, NOW + 1)  # the next round
    work.committed(job(1), NOW + 2)
    work.committed(job(1), NOW + 3)  # of another allocation
    work.committed(job(9), NOW + 3)  # never heard of
    work.sweep(NOW + 50)
    assert work.counts(NOW, 1) == {"bids": 2, "refused.free": 4, "requests": 4, "won": 1}
    work.sweep(NOW + 200)
    assert work.counts(NOW, 1)["lost"] == 1
    assert {r.ensemble: (r.outcome, r.rounds) for r in work.requests(0)} == {job(1): ("won", 2), job(2): ("lost", 2)}


def test_dry_runs_are_told_apart_and_never_lost() -> None:
    work = WorkLog()
    hear(work, 1, is_dry_run=True)
    work.sweep(NOW + 200)
    assert work.counts(NOW, 1) == {"dry_runs": 1, "refused.free": 1}
    assert [r.is_dry_run for r in work.requests(0)] == [True]


def test_hours_are_summed_and_old_ones_forgotten() -> None:
    work = WorkLog()
    for hour in range(MAX_HOURS + 10):
        work.passed_over(NOW + hour * HOUR_NS)
    now_ns = NOW + (MAX_HOURS + 9) * HOUR_NS
    work.sweep(now_ns)
    assert work.counts(now_ns, 1) == {"out_of_turn": 1}
    assert work.counts(now_ns, 5) == {"out_of_turn": 5}
    assert work.counts(now_ns, 1_000) == {"out_of_turn": MAX_HOURS}


def test_requests_and_strangers_are_bounded_and_the_newest_stay() -> None:
    work = WorkLog()
    for number in range(MAX_REQUESTS + 5):
        hear(work, number, NOW + number)
        work.denied(PeerID(f"p{number}"), "did:key:" + "x" * 10_000, NOW + number, "y" * 10_000, "")
    work.heard(
        job(1),
        ALICE,
        "",
        NOW,
        nodes=99,
        bid=[],
        refused={Reason(Rule.MACHINE, f"{n}" * 999): ["n"] for n in range(99)},
        expiry_ns=0,
    )
    requests, strangers = work.requests(0), work.strangers(0)
    assert (len(requests), len(strangers)) == (MAX_REQUESTS, MAX_STRANGERS)
    assert requests[0].ensemble == job(1)
    assert len(requests[0].refused) == MAX_REASONS
    assert strangers[0].peer == f"p{MAX_REQUESTS + 4}"
    assert all(len(s.did) <= 200 and len(s.reason) <= 300 for s in strangers)
    work.denied(strangers[0].peer, "did:key:x", NOW, "again", "")
    assert work.strangers(0)[0].times == 2


async def test_it_is_found_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "provider" / "work-log.json"
    work = WorkLog(path)
    await work.load()
    await work.save()
    assert not path.exists(), "nothing to tell"
    hear(work, 1)
    work.denied(PeerID("mallory"), "did:key:mallory", NOW, "not authorized", "ask")
    await work.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = WorkLog(path)
    await again.load()
    assert again.counts(NOW, 1) == work.counts(NOW, 1)
    assert again.requests(0) == work.requests(0)
    assert again.strangers(0) == work.strangers(0)


async def test_a_damaged_or_unwritable_file_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "work-log.json"
    for data in (b"", b"{", b'{"hours":{"x":{}}}', b'{"requests":7}', b"\xff"):
        path.write_bytes(data)
        work = WorkLog(path)
        await work.load()
        assert work.requests(0) == ()
    blocked = WorkLog(path / "below" / "a" / "file")
    hear(blocked, 1)
    await blocked.save()
    assert len(blocked.requests(0)) == 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("hcsd"), st.integers(0, 5), st.integers(0, 500)), max_size=60))
def test_what_is_won_and_lost_never_exceeds_what_was_bid(steps: list[tuple[str, int, int]]) -> None:
    work, now_ns = WorkLog(), NOW
    for what, number, later in steps:
        now_ns += later
        if what == "h":
            hear(work, number, now_ns)
        elif what == "c":
            work.committed(job(number), now_ns)
        elif what == "s":
            work.sweep(now_ns)
        else:
            hear(work, number, now_ns, is_dry_run=True)
    counts = work.counts(now_ns, MAX_HOURS)
    assert counts.get("won", 0) + counts.get("lost", 0) <= counts.get("bids", 0)
    work.sweep(now_ns + 1_000)
    counts = work.counts(now_ns, MAX_HOURS)
    assert counts.get("won", 0) + counts.get("lost", 0) == counts.get("bids", 0)
