"""Volumes that a description asks for, from the deployment to the sandbox and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.sim.storing import alice_and_bob
from trio.testing import MockClock

from dms.node.hosting import HostingOptions
from dms.node.payloads import DeploymentRequest, InfoReply
from dms.orchestrator.lifecycle.state import Phase
from dms.storage.errors import TransferFailed
from dms.storage.prepare import VolumeRequest, Volumes
from dms.storage.service import StorageOptions, open_volumes
from dms.storage.transfer import OnProgress, Progress
from dms.store import Store
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    directory = tmp_path / "opened"
    directory.mkdir()
    (directory / "input").write_text("from the provider")
    return directory


async def test_a_workload_sees_its_volumes_and_they_are_let_go_with_it(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    async with alice_and_bob(cluster, tmp_path) as (alice, bob):
        bob.executor.on("web-1", Script(duration_s=None))
        own = {"volume": [{"type": "local", "src": "results", "mount_destination": "/results"}]}
        job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, allocation=own))
        await alice.wait_for(job, Phase.RUNNING)
        (output,) = bob.executor.started[0].outputs
        assert (output.target, bob.executor.started[0].inputs) == ("/results", ())
        (output.source / "kept").write_text("kept")
        await alice.user.shutdown(job)
        await alice.wait_until_settled(job)
        cluster.assert_nothing_is_held()
        again = {"volume": [{"type": "local", "src": "results", "mount_destination": "/in", "read_only": True}]}
        job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}, allocation=again))
        await alice.wait_for(job, Phase.COMPLETED)
        (input_,) = bob.executor.started[1].inputs
        assert (input_.target, (input_.source / "kept").read_text()) == ("/in", "kept")
        await alice.wait_until_settled(job)


async def test_who_has_no_storage_for_it_does_not_get_the_work(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path, opened: Path
) -> None:
    options = StorageOptions(local_roots=(opened,))
    async with await Store.open(None) as store, open_volumes(store, tmp_path / "carol", options) as volumes:
        alice = await cluster.start("alice")
        bob = await cluster.start("bob", offers=FOUR_CORES)
        wanted = {"volume": [{"type": "local", "src": str(opened), "mount_destination": "/in", "read_only": True}]}
        description = ensemble({"n1": {"a": "task"}}, allocation=wanted, peers={"n1": bob.peer})
        job = await alice.user.deploy(description)
        state = await alice.wait_for(job, Phase.FAILED)
        assert "storage" in state.error
        assert bob.executor.started == []
        carol = await cluster.start("carol", offers=FOUR_CORES, hosting=HostingOptions(volumes=volumes))
        closed = {"volume": [{"type": "local", "src": "/etc", "mount_destination": "/in"}]}
        job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}, allocation=closed, peers={"n1": carol.peer}))
        assert "not open to jobs" in (await alice.wait_for(job, Phase.FAILED)).error
        job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}, allocation=wanted, peers={"n1": carol.peer}))
        await alice.wait_for(job, Phase.COMPLETED)
        (seen,) = carol.executor.started[0].inputs
        assert seen.read_only
        await alice.wait_until_settled(job)


class Stalled:
    """Volumes whose uploads fail; all else is theirs."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._volumes, name)

    async def upload(self, owner: str, requests: Sequence[VolumeRequest], *, on_progress: OnProgress) -> None:
        raise TransferFailed("the bucket does not answer")


async def test_outputs_that_could_not_be_uploaded_are_told_to_the_user(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    async with await Store.open(None) as store, open_volumes(store, tmp_path / "bob", StorageOptions()) as volumes:
        stalled: Any = Stalled(volumes)
        alice = await cluster.start("alice")
        bob = await cluster.start("bob", offers=FOUR_CORES, hosting=HostingOptions(volumes=stalled))
        bob.executor.on("web-1", Script(duration_s=None))
        own = {"volume": [{"type": "local", "src": "results", "mount_destination": "/results"}]}
        job = await alice.user.deploy(ensemble({"n1": {"count": "task"}}, allocation=own))
        state = await alice.wait_for(job, Phase.FAILED)
        assert state.error == "n1.count: its outputs are lost: the bucket does not answer"
        (record,) = state.allocations.values()
        assert (record.status, record.exit_code, record.reason) == ("failed", 0, "outputs_lost")
        await alice.wait_until_settled(job)
        job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, allocation=own))
        await alice.wait_for(job, Phase.RUNNING)
        await alice.user.shutdown(job)
        await alice.wait_until_settled(job)
        (record,) = (await alice.wait_for(job, Phase.COMPLETED)).allocations.values()
        assert record.error == "its outputs are lost: the bucket does not answer"
        cluster.assert_nothing_is_held()


async def test_a_workload_that_writes_more_than_its_disk_into_a_volume_is_ended_and_the_user_told(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    async with alice_and_bob(cluster, tmp_path) as (alice, bob):
        bob.executor.on("web-1", Script(duration_s=None))
        own = {"volume": [{"type": "local", "src": "results", "mount_destination": "/results"}]}
        small = {"resources": {"cpu": {"cores": 1}, "ram": {"size": 64 << 20}, "disk": {"size": 1 << 20}}}
        job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, allocation={**own, **small}))
        await alice.wait_for(job, Phase.RUNNING)
        (output,) = bob.executor.started[0].outputs
        (output.source / "large").write_bytes(os.urandom(2 << 20))
        state = await alice.wait_for(job, Phase.FAILED)
        assert state.error == "n1.web: it takes more than its 1048576 bytes of disk"
        (record,) = state.allocations.values()
        assert record.reason == "disk_limit"
        await alice.wait_until_settled(job)
        cluster.assert_nothing_is_held()


class Slow:
    """Volumes whose contents come and go slowly; all else is theirs."""

    def __init__(self, volumes: Volumes, seconds: int) -> None:
        self._volumes, self._seconds = volumes, seconds
        self.uploads = 0
        self.problem: TransferFailed | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._volumes, name)

    async def prepare(self, *args: Any, on_progress: OnProgress, **more: Any) -> Any:
        await self._move(on_progress)
        if self.problem is not None:
            raise self.problem
        return await self._volumes.prepare(*args, **more)

    async def upload(self, owner: str, requests: Sequence[VolumeRequest], *, on_progress: OnProgress) -> None:
        self.uploads += 1
        await self._move(on_progress)

    async def _move(self, on_progress: OnProgress) -> None:
        for second in range(self._seconds):
            on_progress(Progress(second << 20, self._seconds << 20))
            await trio.sleep(1)


async def test_what_takes_long_to_come_or_go_is_told_of_and_not_taken_for_a_death(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    """Twice as long as a silence may be: signs of life ended with the program once, so that results were lost."""
    async with await Store.open(None) as store, open_volumes(store, tmp_path / "bob", StorageOptions()) as volumes:
        slow: Any = Slow(volumes, 200)
        alice = await cluster.start("alice")
        bob = await cluster.start("bob", offers=FOUR_CORES, hosting=HostingOptions(volumes=slow))
        bob.executor.on("count-1", Script(duration_s=300, pending_s=200))
        own = {"volume": [{"type": "local", "src": "results", "mount_destination": "/results"}]}
        job = await alice.user.deploy(ensemble({"n1": {"count": "task"}}, allocation=own))
        state = await alice.wait_for(job, Phase.COMPLETED)
        assert (slow.uploads, len(bob.executor.started)) == (1, 1)
        (record,) = state.allocations.values()
        assert (record.restarts, record.error) == (0, "")
        told = [e.detail["progress"] for e in await alice.user.events(job) if e.kind == "allocation_progress"]
        assert len(told) >= 3 * 6
        for first_words in ("fetching its volumes: ", "pulling its image: ", "uploading its results: "):
            assert sum(text.startswith(first_words) for text in told) >= 6
        assert "fetching its volumes: 30.0 MiB of 200.0 MiB" in told
        await alice.wait_until_settled(job)
        cluster.assert_nothing_is_held()


CHECK = {"type": "command", "exec": ["well"], "interval": 10 * 10**9, "failures": 2}


async def test_a_health_check_waits_for_volumes_and_image(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    async with await Store.open(None) as store, open_volumes(store, tmp_path / "bob", StorageOptions()) as volumes:
        slow: Any = Slow(volumes, 200)
        alice = await cluster.start("alice")
        bob = await cluster.start("bob", offers=FOUR_CORES, hosting=HostingOptions(volumes=slow))
        bob.executor.on("web-1", Script(duration_s=None, pending_s=200))
        own = {
            "volume": [{"type": "local", "src": "results", "mount_destination": "/results"}],
            "healthcheck": CHECK,
            "failure_recovery": "one_for_one",
        }
        job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, allocation=own))
        await trio.sleep(600)
        info = await alice.user.call("info", DeploymentRequest(id=job), InfoReply)
        (web,) = info.allocations.values()
        assert (web.status, web.restarts, web.progress, len(bob.executor.started)) == ("running", 0, "", 1)
        assert web.health is not None
        assert web.health.healthy
        told = [event.detail["health"] for event in await alice.user.events(job) if event.kind == "health_changed"]
        assert told == ["healthy"]
        await alice.user.shutdown(job)
        await alice.wait_until_settled(job)


async def test_volumes_that_cannot_be_had_after_all_fail_the_allocation_with_the_reason(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    async with await Store.open(None) as store, open_volumes(store, tmp_path / "bob", StorageOptions()) as volumes:
        slow: Any = Slow(volumes, 90)
        slow.problem = TransferFailed("the bucket does not answer")
        alice = await cluster.start("alice")
        await cluster.start("bob", offers=FOUR_CORES, hosting=HostingOptions(volumes=slow))
        own = {"volume": [{"type": "local", "src": "results", "mount_destination": "/results"}]}
        job = await alice.user.deploy(ensemble({"n1": {"count": "task"}}, allocation=own))
        state = await alice.wait_for(job, Phase.FAILED)
        assert "the bucket does not answer" in state.error
        await alice.wait_until_settled(job)
        cluster.assert_nothing_is_held()
