"""Volumes that a description asks for, from the deployment to the sandbox and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from dms.node.hosting import HostingOptions
from dms.orchestrator.lifecycle.state import Phase
from dms.storage.errors import TransferFailed
from dms.storage.prepare import VolumeRequest, Volumes
from dms.storage.service import StorageOptions, open_volumes
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
    async with await Store.open(None) as store, open_volumes(store, tmp_path / "bob", StorageOptions()) as volumes:
        alice = await cluster.start("alice")
        bob = await cluster.start("bob", offers=FOUR_CORES, hosting=HostingOptions(volumes=volumes))
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

    async def upload(self, owner: str, requests: Sequence[VolumeRequest]) -> None:
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
    async with await Store.open(None) as store, open_volumes(store, tmp_path / "bob", StorageOptions()) as volumes:
        alice = await cluster.start("alice")
        bob = await cluster.start("bob", offers=FOUR_CORES, hosting=HostingOptions(volumes=volumes))
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
