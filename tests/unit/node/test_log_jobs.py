"""Logs fetched in the background: one job per requester and allocation, into files of its own."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.orchestrator.errors import NothingToRead
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.logs.finding import LogShelf
from dms.orchestrator.logs.jobs import LogJobs, _write
from dms.orchestrator.messages import AllocationLogsReply
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.errors import DMSError
from dms.types.ids import EnsembleID

Json = dict[str, Any]
ID = EnsembleID("e" * 64)
S_NS = 10**9


async def running(cluster: Cluster, script: Script) -> tuple[SimulatedNode, EnsembleID]:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", script)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(1)
    return alice, job


async def call(node: SimulatedNode, name: str, payload: Json) -> Json:
    return await node.user.call(f"logs/async{name}", payload, Json)


async def test_what_there_is_is_written_once(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await running(cluster, Script(None, stdout=((0.1, b"one\n"),), stderr=((0.2, b"two\n"),)))
    request = {"EnsembleID": job, "AllocationName": "web"}
    begun = await call(alice, "", request)
    assert (begun["ok"], begun["allocation"], begun["interval"]) == (True, "n1.web", 10 * S_NS)
    folder = Path(begun["directory"])
    assert folder.parent == cluster.work_dir / "alice" / "deployments" / job / "n1.web"
    await trio.sleep(5)
    done = await call(alice, "/status", request)
    assert (done["status"], done["bytes_written"]) == ("complete", 8)
    assert (folder / "stdout.log").read_bytes() + (folder / "stderr.log").read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE((folder / "stdout.log").stat().st_mode) == 0o600


async def test_a_job_that_follows_goes_on_and_is_told_again_to_who_asks_twice(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await running(cluster, Script(None, stdout=((0.1, b"one\n"), (30, b"two\n"))))
    request = {"EnsembleID": job, "AllocationName": "web", "Follow": True, "Interval": S_NS // 1000}
    begun = await call(alice, "", request)
    assert begun["interval"] == S_NS, "no more often than every second"
    await trio.sleep(60)
    again = await call(alice, "", request | {"Follow": False})
    assert (again["status"], again["follow"], again["bytes_written"]) == ("running", True, 8)
    assert (await call(alice, "/stop", request))["status"] == "stopped"
    assert (await call(alice, "/status", request))["status"] == "stopped"
    assert (Path(begun["directory"]) / "stdout.log").read_bytes() == b"one\ntwo\n"


async def test_a_job_that_follows_is_complete_when_the_allocation_has_ended(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await running(cluster, Script(None, stdout=((0.1, b"one\n"),)))
    request = {"EnsembleID": job, "AllocationName": "web", "follow": True}
    await call(alice, "", request)
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(30)
    assert (await call(alice, "/status", request))["status"] == "complete"


async def test_nothing_to_fetch_is_a_failure(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await running(cluster, Script(None))
    request = {"EnsembleID": job, "AllocationName": "web"}
    none = await call(alice, "/status", request)
    assert (none["ok"], none["error"]) == (False, "job not found: no logs of n1.web are being fetched for you")
    await call(alice, "", request)
    await trio.sleep(5)
    failed = await call(alice, "/status", request)
    assert (failed["status"], failed["error"]) == ("failed", "the logs are empty")


class Away:
    """A provider that does not answer."""

    asked = 0

    async def __call__(
        self, ensemble: EnsembleID, key: str, stream: str, offset: int, max_bytes: int
    ) -> AllocationLogsReply:
        self.asked += 1
        raise DMSError("nobody there")


async def test_a_job_that_follows_asks_a_provider_that_is_away_a_few_times(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    away = Away()
    jobs = LogJobs(LogShelf(tmp_path), away, nursery.start_soon)
    job = jobs.start("did:key:x", ID, "n1.a", follow=True, interval_s=1)
    await trio.sleep(30)
    assert (job.status, job.error, away.asked) == ("failed", "nobody there", 3)
    jobs.forget(ID)
    with pytest.raises(NothingToRead):
        jobs.find("did:key:x", ID, "n1.a")


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_bytes(b"keep")
    (tmp_path / "stdout.log").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        _write(tmp_path / "stdout.log", b"x", anew=True)
    assert target.read_bytes() == b"keep"


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "a/b", "/etc", "a\0b"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    shelf = LogShelf(tmp_path)
    with pytest.raises(NothingToRead):
        shelf.folder(ID, name)
    with pytest.raises(NothingToRead):
        shelf.folder(EnsembleID(name), "n1.a")
