"""An update of what has data on its machine: the old one ends first, the new one finds the data."""

from __future__ import annotations

from pathlib import Path

from tests.sim.storing import alice_and_bob
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.node import updating_payloads as u
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble, until
from dms.types.ids import EnsembleID

OWN = {"volume": [{"type": "local", "src": "data", "mount_destination": "/data"}]}


def version(cores: float) -> EnsembleConfig:
    return ensemble({"n1": {"web": "service"}}, cores=cores, allocation=OWN)


async def update(alice: SimulatedNode, job: EnsembleID, config: EnsembleConfig) -> None:
    request = u.UpdateRequest(ensemble_id=job, ensemble=config)
    reply = await alice.user.call("update", request, u.UpdateReply, timeout_s=200.0)
    assert reply.ok, reply.error
    await until(lambda: alice.state(job).update is None, every_s=0.05)


async def test_the_new_version_finds_the_data_of_the_old_one_which_ended_before(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    async with alice_and_bob(cluster, tmp_path) as (alice, bob):
        carol = await cluster.start("carol", offers=FOUR_CORES)
        bob.executor.choose = lambda _execution: Script(duration_s=None)
        happened: list[str] = []
        bob.executor.watch = lambda what, execution: happened.append(f"{what} {execution.partition('.')[2]}")
        job = await alice.user.deploy(version(1.0))
        await alice.wait_for(job, Phase.RUNNING)
        (first,) = bob.executor.started[0].outputs
        (first.source / "kept").write_text("of version 1")

        await update(alice, job, version(1.5))

        state = alice.state(job)
        assert (state.phase, state.version) == (Phase.RUNNING, 2)
        assert {bid.peer for bid in state.assignment.values()} == {bob.peer}
        (second,) = bob.executor.started[1].outputs
        assert (second.target, (second.source / "kept").read_text()) == ("/data", "of version 1")
        ended, began = (
            next(n for n, what in enumerate(happened) if what.startswith(kind)) for kind in ("ended", "started web-g")
        )
        assert ended < began, happened
        assert carol.executor.started == []
        await alice.user.shutdown(job)
        await alice.wait_until_settled(job)
        cluster.assert_nothing_is_held()


async def test_a_new_version_that_fails_gives_the_data_back_to_the_old_one(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    async with alice_and_bob(cluster, tmp_path) as (alice, bob):
        bob.executor.choose = lambda execution: (
            Script(1.0, exit_code=3) if "-g" in execution else Script(duration_s=None)
        )
        config = version(1.0)
        job = await alice.user.deploy(config)
        await alice.wait_for(job, Phase.RUNNING)
        (first,) = bob.executor.started[0].outputs
        (first.source / "kept").write_text("of version 1")

        await update(alice, job, version(1.5))

        await until(lambda: all(r.status == "running" for r in alice.state(job).allocations.values()), every_s=0.05)
        state = alice.state(job)
        assert state.phase is Phase.RUNNING
        assert alice.node.deployments.get(job).config.v1.allocations["web"].resources.cpu.cores == 1.0
        (last,) = bob.executor.started[-1].outputs
        assert "-g" not in bob.executor.started[-1].job_id
        assert (last.source / "kept").read_text() == "of version 1"
        await alice.user.shutdown(job)
        await alice.wait_until_settled(job)
        cluster.assert_nothing_is_held()
