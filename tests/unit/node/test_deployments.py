"""Deployment control: payloads as they travel, key by key."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.identity.ids import did_of
from dms.node import payloads as p
from dms.node.listing import parse_before, rfc3339
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.messages import Reply
from dms.testing.actors import EPOCH_NS
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types import gojson
from dms.types.errors import BadInput
from dms.types.ids import EnsembleID

HOUR_NS = 3600 * 10**9
Json = dict[str, Any]
ID = "e" * 64


async def raw(node: SimulatedNode, name: str, payload: object, timeout_s: float = 60) -> Json:
    """What a behaviour answers, as parsed JSON."""
    return await node.user.call(name, payload, Json, timeout_s=timeout_s)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def two(cluster: Cluster) -> tuple[SimulatedNode, SimulatedNode]:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("a-1", Script(1, exit_code=3, stdout=((0.5, b"hello\n"),)))
    return alice, bob


async def test_new(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _ = await two(cluster)
    config = gojson.to_builtins(ensemble({"n1": {"a": "task"}}))
    answer = await raw(alice, "new", {"Ensemble": config}, 75)
    assert answer.keys() == {"Status", "EnsembleID"}
    assert (answer["Status"], len(answer["EnsembleID"])) == ("OK", 64)


@pytest.mark.parametrize(("given_s", "status"), [(58.9, "ERROR"), (59.1, "OK")])
async def test_less_than_a_minute_is_too_short(
    autojump_clock: MockClock, cluster: Cluster, given_s: float, status: str
) -> None:
    alice, _ = await two(cluster)
    answer = await raw(alice, "new", p.NewDeployment(ensemble=ensemble({"n1": {"a": "task"}})), given_s)
    assert answer["Status"] == status
    if status == "ERROR":
        assert answer == {
            "Status": "ERROR",
            "EnsembleID": "",
            "Error": "requested deployment time too short",
            "Hint": "give the deployment at least 1 minute, for instance with --timeout 2m",
        }
        assert alice.node.deployments.all() == ()


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (None, "invalid ensemble config"),
        ({}, "invalid ensemble config"),
        ({"Ensemble": {"v1": {}}}, "V1.allocations"),
        ({"Ensemble": {"v1": {"allocations": {"a": {"type": "dance"}}}}}, "dance"),
        ({"Ensemble": "text"}, "invalid ensemble config"),
    ],
)
async def test_ensembles_that_are_none_are_refused_with_the_place(
    autojump_clock: MockClock, cluster: Cluster, payload: object, error: str
) -> None:
    alice, _ = await two(cluster)
    answer = await raw(alice, "new", payload, 75)
    assert answer["Status"] == "ERROR"
    assert error in answer["Error"]
    assert alice.node.deployments.all() == ()


async def ended(alice: SimulatedNode) -> EnsembleID:
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}, metadata={"name": "first"}))
    await alice.wait_until_settled(job)
    return job


async def test_status_info_and_manifest_of_an_ended_deployment(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob = await two(cluster)
    job = await ended(alice)
    record = alice.state(job).allocations["n1.a"]
    wanted = alice.node.deployments.get(job).config.v1.allocations["a"]
    allocation = {
        "allocation_id": f"{job}_n1.a",
        "status": "failed",
        "node_id": "n1",
        "peer": bob.peer,
        "type": "task",
        "error": "exit code 3",
        "reason": "exited",
        "exit_code": 3,
        "started_at": rfc3339(record.started_ns),
        "ended_at": rfc3339(record.ended_ns),
        "dns_name": wanted.dns_name,
        "resource_limit": json.loads(gojson.encode(wanted.resources)),
    }
    assert await raw(alice, "status", {"ID": job}) == {
        "status": "Failed",
        "error": "n1.a: exit code 3",
        "version": 1,
        "allocation_info": {"n1.a": allocation},
    }
    info = await raw(alice, "info", {"id": job})
    manifest = (await raw(alice, "manifest", {"ID": job}))["manifest"]
    assert info == {
        "id": job,
        "status": "Failed",
        "error": "n1.a: exit code 3",
        "version": 1,
        "manifest": manifest,
        "allocations": {"n1.a": allocation},
        "owner": did_of(cluster.user_key.public).uri,
        "metadata": {"name": "first"},
        "created_at": rfc3339(alice.state(job).created_ns),
        "updated_at": rfc3339(alice.state(job).updated_ns),
        "completed_at": rfc3339(alice.state(job).completed_ns),
    }
    assert manifest["id"] == job
    assert manifest["orchestrator"]["addr"] == {"host": alice.peer, "inbox": job}
    assert manifest["nodes"]["n1"]["peer"] == bob.peer
    assert manifest["allocations"]["n1.a"]["handle"]["addr"] == {"host": bob.peer, "inbox": f"{job}_n1.a"}
    assert manifest["metadata"] == {"name": "first"}
    some = await raw(alice, "info", {"id": job, "allocation_names": ["n1.b"]})
    assert some["allocations"] == {}


async def test_an_id_may_be_abbreviated_and_called_otherwise(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _ = await two(cluster)
    job = await ended(alice)
    for payload in ({"id": job[:6]}, {"EnsembleID": job}, {"orchestrator_id": job}):
        assert (await raw(alice, "info", payload))["id"] == job
    assert (await raw(alice, "info", {"id": job[:3]}))["error"] == f"deployment not found: {job[:3]}"


UNKNOWN: list[tuple[str, Json, Json]] = [
    ("status", {"ID": ID}, {"status": "", "error": f"deployment not found: {ID}"}),
    ("manifest", {"ID": ID}, {"manifest": None, "error": f"deployment not found: {ID}"}),
    (
        "info",
        {"id": ID},
        {"id": "", "status": "", "error": f"deployment not found: {ID}", "manifest": None, "allocations": {}},
    ),
    ("events", {"id": ID}, {"events": [], "status": "", "error": f"deployment not found: {ID}"}),
    ("logs", {"EnsembleID": ID, "AllocationName": "n1.a"}, {"Error": f"deployment not found: {ID}"}),
    ("shutdown", {"ID": ID}, {"OK": False, "Error": f"deployment not found: {ID}"}),
    ("delete", {"orchestrator_id": ID}, {"ok": False, "error": f"deployment not found: {ID}"}),
    ("prune", {}, {"ok": False, "error": "say which: before a time, or all"}),
    ("prune", {"before": "soon"}, {"ok": False, "error": 'invalid time "soon"'}),
]


async def test_what_is_unknown_or_unclear_is_said_in_the_behaviours_own_words(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    for name, payload, expected in UNKNOWN:
        assert await raw(alice, name, payload) == expected, name


async def test_list(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob = await two(cluster)
    bob.executor.on("good-1", Script(1))
    first = await ended(alice)
    await trio.sleep(3600)
    second = await alice.user.deploy(ensemble({"n1": {"good": "task"}}, metadata={"name": "second"}))
    await alice.wait_until_settled(second)
    await trio.sleep(60)
    third = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(third, Phase.RUNNING)

    async def ids(**request: object) -> list[str]:
        answer = await raw(alice, "list", request)
        assert answer.keys() == {"deployments", "total", "has_more", "next_offset"}
        return [d["orchestrator_id"] for d in answer["deployments"]]

    assert await ids() == [third, second, first]
    assert await ids(sort_by="created_at") == [first, second, third]
    assert await ids(status=["failed", "COMPLETED"]) == [second, first]
    assert await ids(status=["5", "7"]) == [second, first], "the numbers of the original"
    assert await ids(metadata={"name": "second"}) == [second]
    assert await ids(metadata={"name": "x"}) == []
    assert await ids(created_after="30m") == [third, second]
    assert await ids(created_before="30m") == [first]
    assert await ids(created_after=rfc3339(alice.state(second).created_ns)) == [third, second]
    page = await raw(alice, "list", {"limit": 2})
    assert (page["total"], page["has_more"], page["next_offset"]) == (3, True, 2)
    page = await raw(alice, "list", {"limit": 2, "offset": 2})
    assert [d["orchestrator_id"] for d in page["deployments"]] == [first]
    assert (page["has_more"], page["next_offset"]) == (False, 0)
    state = alice.state(first)
    assert page["deployments"][0] == {
        "orchestrator_id": first,
        "status": "Failed",
        "version": 1,
        "created_at": rfc3339(state.created_ns),
        "updated_at": rfc3339(state.updated_ns),
        "completed_at": rfc3339(state.completed_ns),
        "metadata": {"name": "first"},
        "error": "n1.a: exit code 3",
        "allocations": 1,
    }
    wrong = await raw(alice, "list", {"sort_by": "colour"})
    assert wrong["error"] == "cannot sort by colour"
    wrong = await raw(alice, "list", {"status": ["happy"]})
    assert wrong["error"] == "there is no state happy"


async def test_events_can_be_waited_for(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob = await two(cluster)
    bob.executor.on("slow-1", Script(50))
    job = await alice.user.deploy(ensemble({"n1": {"slow": "task"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(1)
    known = await raw(alice, "events", {"id": job})
    assert known["status"] == "Running"
    assert [e["seq"] for e in known["events"]] == list(range(1, len(known["events"]) + 1))
    assert known["events"][0].keys() == {"seq", "at", "kind", "detail"}
    assert known["events"][0]["at"] > EPOCH_NS
    last = known["events"][-1]["seq"]
    begun = trio.current_time()
    nothing = await raw(alice, "events", {"id": job, "after": last, "wait_ms": 5000})
    assert nothing["events"] == []
    assert 5 <= trio.current_time() - begun < 5.5
    later = await raw(alice, "events", {"id": job, "after": last, "wait_ms": 10**9}, 120)
    while not later["events"]:
        later = await raw(alice, "events", {"id": job, "after": last, "wait_ms": 10**9}, 120)
    assert later["events"][0]["kind"] == "allocation_ended"


async def test_the_status_is_never_behind_the_events_that_are_told(autojump_clock: MockClock, cluster: Cluster) -> None:
    """Entry and state reach the disk together, and the disk is faster than we are: a client would wait for nothing."""
    alice, _ = await two(cluster)
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.node.deployments._journal.write(job, None, "starts_done", {"status": "Running"})
    told = await raw(alice, "events", {"id": job})
    assert "starts_done" in {event["kind"] for event in told["events"]}
    assert told["status"] == "Running"


async def test_who_asks_for_what_comes_hears_of_the_end_at_once(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _ = await two(cluster)
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    change = alice.node.deployments.next_change(job)
    assert change is not None
    seen = [change]
    while (change := alice.node.deployments.next_change(job)) is not None:
        seen.append(change)
        await change.wait()
    assert all(event.is_set() for event in seen)
    assert alice.state(job).phase.is_final


async def test_more_events_than_one_message_holds_come_in_pages(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _ = await two(cluster)
    job = await ended(alice)
    for number in range(p.EVENTS_PAGE):
        await alice.node.deployments._journal.write(job, None, "noise", {"number": number, "text": "x" * 500})
    first = await alice.user.events(job)
    assert len(first) == p.EVENTS_PAGE
    rest = await raw(alice, "events", {"id": job, "after": first[-1].seq})
    assert rest["events"][-1]["detail"]["number"] == p.EVENTS_PAGE - 1


async def test_logs(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _ = await two(cluster)
    job = await ended(alice)
    for name in ("n1.a", "a", f"{job}_n1.a"):
        answer = await raw(alice, "logs", {"EnsembleID": job, "AllocationName": name})
        folder = Path(answer["LogsWrittenTo"])
        assert answer == {"LogsWrittenTo": str(cluster.work_dir / "alice" / "deployments" / job / "n1.a")}
    assert (folder / "stdout.log").read_bytes() == b"hello\n"
    assert (mode(folder), mode(folder / "stdout.log")) == (0o700, 0o600)
    piece = {"EnsembleID": job, "AllocationName": "a", "stream": "stdout", "offset": 1, "max_bytes": 3}
    assert await raw(alice, "logs", piece) == {"data": "ZWxs", "offset": 1, "next_offset": 4, "total_size": 6}
    places = {"next_offset": 6, "eof": True, "total_size": 6}
    assert await raw(alice, "logs", piece | {"offset": 4}) == places | {"data": "bwo=", "offset": 4}
    assert await raw(alice, "logs", piece | {"offset": 10**9}) == places | {"offset": 6}
    assert (await raw(alice, "logs", piece | {"offset": -5}))["next_offset"] == 4, "the third of the last five"
    assert (await raw(alice, "logs", piece | {"stream": "../x"}))["Error"] == "unknown stream ../x"
    missing = await raw(alice, "logs", {"EnsembleID": job, "AllocationName": "../../x"})
    assert missing["Error"] == "allocation not found: ../../x"


async def test_logs_of_what_still_runs_grow(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob = await two(cluster)
    bob.executor.on("web-1", Script(None, stdout=((1, b"one\n"), (10, b"two\n"))))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    request = {"EnsembleID": job, "AllocationName": "web", "stream": "stdout"}
    assert await raw(alice, "logs", request) == {}, "nothing yet, and no end either"
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(5)
    assert await raw(alice, "logs", request) == {"data": "b25lCg==", "next_offset": 4, "total_size": 4}
    await trio.sleep(10)
    assert await raw(alice, "logs", request | {"offset": 4}) == {
        "data": "dHdvCg==",
        "offset": 4,
        "next_offset": 8,
        "total_size": 8,
    }


async def test_logs_longer_than_a_message_come_whole(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob = await two(cluster)
    whole = bytes(range(256)) * 8192
    bob.executor.on("a-1", Script(1, stdout=((0.5, whole),)))
    job = await ended(alice)
    assert await alice.user.log(job, "n1.a") == whole


async def test_delete_and_prune(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _ = await two(cluster)
    first = await ended(alice)
    folder = cluster.work_dir / "alice" / "deployments" / first
    assert folder.exists()
    running = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(running, Phase.RUNNING)
    refused = await raw(alice, "delete", {"orchestrator_id": running})
    assert refused == {"ok": False, "error": "the deployment is Running"}
    assert await raw(alice, "prune", {"before": "1h"}) == {"ok": True, "error": ""}
    assert len(alice.node.deployments.all()) == 2, "too young"
    assert await raw(alice, "delete", {"orchestrator_id": first}) == {"ok": True, "error": ""}
    assert not folder.exists()
    assert (await raw(alice, "events", {"id": first}))["error"].startswith("deployment not found")
    second = await ended(alice)
    would = await raw(alice, "prune", {"all": True, "dry_run": True})
    assert would == {"ok": True, "error": "", "pruned": [second]}
    assert await raw(alice, "prune", {"all": True}) == would
    assert [r.id for r in alice.node.deployments.all()] == [running]
    await alice.restart()
    assert [r.id for r in alice.node.deployments.all()] == [running], "gone from the disk, too"
    assert second not in {r.id for r in alice.node.deployments.all()}


async def test_shutdown(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _ = await two(cluster)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    assert await raw(alice, "shutdown", {"ID": job}) == {"OK": True}
    await alice.wait_until_settled(job)
    assert await alice.user.shutdown(job) == Reply(ok=False, error="deployment is not running: it is Completed")


NOW_NS = EPOCH_NS + 500


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("6s", NOW_NS - 6 * 10**9),
        ("1m", NOW_NS - 60 * 10**9),
        ("1h", NOW_NS - HOUR_NS),
        ("1d", NOW_NS - 24 * HOUR_NS),
        ("2006-01-02T15:04:05Z", 1136214245 * 10**9),
        ("2006-01-02T17:04:05+02:00", 1136214245 * 10**9),
        ("2006-01-02 15:04:05", 1136214245 * 10**9),
        ("2006-01-02", 1136160000 * 10**9),
    ],
)
def test_a_time_may_be_said_in_many_ways(text: str, expected_ns: int) -> None:
    assert parse_before(text, NOW_NS) == expected_ns


@pytest.mark.parametrize("text", ["", "yesterday", "1y", "2006-13-01", "1e9s", "١h"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(BadInput):
        parse_before(text, NOW_NS)


def test_times_are_written_as_rfc_3339() -> None:
    assert rfc3339(0) == ""
    assert rfc3339(1136214245_123_000_000) == "2006-01-02T15:04:05.123Z"


async def test_restart(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob = await two(cluster)
    for number in range(2, 5):
        for name in ("web", "web1"):
            bob.executor.on(f"{name}-{number}", Script(None))
    bob.executor.on("done-1", Script(1))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service", "web1": "service", "done": "task"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(10)
    assert await raw(alice, "restart", {"id": job, "allocation_names": ["web"]}) == {
        "ok": True,
        "allocations": ["n1.web"],
    }
    await trio.sleep(30)
    assert bob.starts(job) == {"n1.done": 1, "n1.web": 2, "n1.web1": 1}
    answer = await raw(alice, "restart", {"id": job})
    assert sorted(answer["allocations"]) == ["n1.web", "n1.web1"]
    await trio.sleep(30)
    assert bob.starts(job) == {"n1.done": 1, "n1.web": 3, "n1.web1": 2}
    record = alice.state(job).allocations["n1.web"]
    assert (record.status, record.error, record.restarts) == ("running", "", 2)
    assert await raw(alice, "restart", {"id": job, "allocation_names": ["done"]}) == {
        "ok": False,
        "error": "n1.done is not running: it is completed",
        "hint": "only what runs can be restarted",
    }
    assert (await raw(alice, "restart", {"id": job, "allocation_names": ["x"]}))["error"] == "allocation not found: x"
    kinds = [event.kind for event in await alice.user.events(job)]
    assert kinds.count("restart_requested") == 2
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    gone = await raw(alice, "restart", {"id": job})
    assert gone["error"] == "deployment is not running: it is Completed"
