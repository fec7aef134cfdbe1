"""Volumes that a description asks for, from the deployment to the sandbox and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from dms.node.hosting import HostingOptions
from dms.orchestrator.state import Phase
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
