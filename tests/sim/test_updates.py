"""Updates of running deployments: add, verify, then remove; and what ran runs on whatever goes wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import trio
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.node import updating as u
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.testing.nodes import until as until_often
from dms.types.ids import EnsembleID

UPDATE_TIMEOUT_S = 200.0
PROVIDERS = ("bob", "carol", "dave")
OLD = ensemble({"n1": {"web": "service"}, "n2": {"web1": "service"}})


async def until(is_there: Any, timeout_s: float = 600.0) -> None:
    await until_often(is_there, timeout_s=timeout_s, every_s=0.05)


def changed(config: EnsembleConfig, *names: str, cores: float = 1.5) -> EnsembleConfig:
    """The same ensemble, but these allocations want other amounts."""
    allocations = dict(config.v1.allocations)
    for name in names:
        wanted = allocations[name].resources
        cpu = msgspec.structs.replace(wanted.cpu, cores=cores)
        resources = msgspec.structs.replace(wanted, cpu=cpu)
        allocations[name] = msgspec.structs.replace(allocations[name], resources=resources)
    return EnsembleConfig(v1=msgspec.structs.replace(config.v1, allocations=allocations))


async def deployed(
    cluster: Cluster, config: EnsembleConfig = OLD, names: tuple[str, ...] = PROVIDERS, **alice: Any
) -> tuple[SimulatedNode, EnsembleID]:
    owner = await cluster.start("alice", **alice)
    for name in names:
        await cluster.start(name, offers=FOUR_CORES)
        for number in range(1, 9):
            for service in ("web", "web1", "web2"):
                cluster.nodes[name].executor.on(f"{service}-g{number}-1", Script(duration_s=None))
    job = await owner.user.deploy(config)
    await owner.wait_for(job, Phase.RUNNING)
    return owner, job


async def update(owner: SimulatedNode, job: EnsembleID, config: EnsembleConfig, **options: Any) -> u.UpdateReply:
    request = u.UpdateRequest(ensemble_id=job, ensemble=config, **options)
    return await owner.user.call("update", request, u.UpdateReply, timeout_s=UPDATE_TIMEOUT_S)


async def updated(owner: SimulatedNode, job: EnsembleID, config: EnsembleConfig, **options: Any) -> None:
    """Until it is over, one way or the other."""
    reply = await update(owner, job, config, **options)
    assert reply.ok, reply.error
    await until(lambda: owner.state(job).update is None)


def running(cluster: Cluster, job: EnsembleID) -> dict[str, str]:
    """Where what really runs of a deployment is, by what its machine calls it."""
    return {
        a.spec.id.removeprefix(f"{job}_"): node.name
        for node in cluster.nodes.values()
        if node.is_running
        for a in node.node.hosting
        if a.spec.ensemble_id == job and a.view.state.value == "running"
    }


def outcomes(owner: SimulatedNode, job: EnsembleID) -> list[str]:
    return [version.outcome for version in owner.state(job).versions]


async def ended(cluster: Cluster, owner: SimulatedNode, job: EnsembleID) -> None:
    """Shut down, and see that nothing is left anywhere."""
    if not owner.state(job).phase.is_final:
        await owner.user.shutdown(job)
    await owner.wait_until_settled(job)
    await trio.sleep(60)
    cluster.assert_nothing_is_held()


async def test_what_changes_is_replaced_and_what_does_not_is_left_alone(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster)
    before = running(cluster, job)
    await updated(alice, job, changed(OLD, "web"))
    await trio.sleep(1)
    after = running(cluster, job)
    assert after.keys() == {"n1-g1.web-g1", "n2.web1"}
    assert after["n2.web1"] == before["n2.web1"]
    state = alice.state(job)
    assert (state.version, outcomes(alice, job)) == (2, ["superseded", "current"])
    assert state.allocations["n1.web"].status == "running"
    assert state.allocations.keys() == {"n1.web", "n2.web1"}
    assert not state.left
    await ended(cluster, alice, job)


async def test_a_version_that_fails_is_taken_back_and_what_ran_never_stopped(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster)
    for name in PROVIDERS:
        cluster.nodes[name].executor.on("web-g1-1", Script(duration_s=2.0, exit_code=3))
    before = running(cluster, job)
    await updated(alice, job, changed(OLD, "web"))
    await trio.sleep(1)
    assert running(cluster, job) == before
    state = alice.state(job)
    assert (state.version, outcomes(alice, job)) == (1, ["current", "reverted"])
    assert "n1-g1.web-g1" in state.versions[-1].error
    assert sum(node.starts(job).get("n1.web", 0) for node in cluster.nodes.values()) == 1
    await ended(cluster, alice, job)
