"""Nodes whose machine dies: placed elsewhere, or handed to a standby; and what the dead machine finds when it comes back."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.node import payloads as p
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.testing.nodes import until as until_often
from dms.types.ids import EnsembleID

until = partial(until_often, every_s=0.05)
KEY = "n1.web"
PROVIDERS = ("bob", "carol", "dave")


def service(**node: Any) -> EnsembleConfig:
    config = ensemble({"n1": {"web": "service"}, "n2": {"web1": "service"}})
    return with_node(config, "n1", **node)


def with_node(config: EnsembleConfig, name: str, **members: Any) -> EnsembleConfig:
    node = msgspec.structs.replace(config.v1.nodes[name], **members)
    v1 = msgspec.structs.replace(config.v1, nodes=config.v1.nodes | {name: node})
    return EnsembleConfig(v1=v1)


async def deployed(
    cluster: Cluster, config: EnsembleConfig, names: tuple[str, ...] = PROVIDERS
) -> tuple[SimulatedNode, EnsembleID]:
    alice = await cluster.start("alice")
    for name in names:
        await cluster.start(name, offers=FOUR_CORES)
    job = await alice.user.deploy(config)
    await alice.wait_for(job, Phase.RUNNING)
    return alice, job


def host(cluster: Cluster, alice: SimulatedNode, job: EnsembleID, node: str = "n1") -> SimulatedNode:
    return cluster.of_peer(alice.state(job).assignment[node].peer)


async def ended(cluster: Cluster, alice: SimulatedNode, job: EnsembleID) -> None:
    """Shut down, and see that nothing is left anywhere."""
    if not alice.state(job).phase.is_final:
        await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(60)
    cluster.assert_nothing_is_held()


def runs(cluster: Cluster, job: EnsembleID, key: str = KEY) -> list[str]:
    """Where an allocation runs, under whatever id."""
    name = key.partition(".")[2]
    found = []
    for node in cluster.nodes.values():
        if node.is_running:
            for allocation in node.node.hosting:
                is_it = allocation.spec.ensemble_id == job and allocation.spec.id.endswith(f".{name}")
                if is_it and allocation.view.state.value == "running":
                    found.append(node.name)
    return found


async def test_a_node_whose_machine_dies_is_placed_on_another(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster, service(failure_recovery="redeploy"))
    dead, other = host(cluster, alice, job), alice.state(job).allocations["n2.web1"]
    await dead.kill()
    died_s = trio.current_time()
    await until(lambda: alice.state(job).allocations[KEY].restarts == 1, timeout_s=200)
    assert trio.current_time() - died_s < 10
    state = alice.state(job)
    assert (state.phase, state.error, state.placements) == (Phase.RUNNING, "", {})
    assert host(cluster, alice, job) is not dead
    if other.peer != dead.peer:
        assert state.allocations["n2.web1"] == other, "what runs elsewhere is left alone"
    await dead.start()
    await until(lambda: not alice.state(job).left, timeout_s=120)
    assert runs(cluster, job) == [host(cluster, alice, job).name], "the copy on the machine that came back is ended"
    await ended(cluster, alice, job)


async def test_a_node_that_stays_down_does_when_its_machine_dies(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster, service())
    await host(cluster, alice, job).kill()
    await until(lambda: alice.state(job).allocations[KEY].status == "failed", timeout_s=200)
    assert "no sign of life" in alice.state(job).error
    assert alice.state(job).placements == {}


async def test_without_another_machine_it_is_placed_when_there_is_one(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster, service(failure_recovery="redeploy"), ("bob",))
    await cluster.nodes["bob"].kill()
    await until(lambda: "n1" in alice.state(job).placements, timeout_s=200)
    await trio.sleep(200)
    state = alice.state(job)
    assert (state.phase, state.allocations[KEY].status) == (Phase.RUNNING, "pending")
    assert "no bids" in state.error
    await cluster.start("carol", offers=FOUR_CORES)
    await until(lambda: alice.state(job).allocations[KEY].status == "running", timeout_s=100)
    await ended_with_dead(cluster, alice, job, "bob")


async def ended_with_dead(cluster: Cluster, alice: SimulatedNode, job: EnsembleID, name: str) -> None:
    await cluster.nodes[name].start()
    await trio.sleep(90)
    await ended(cluster, alice, job)


async def test_a_machine_that_fails_its_node_three_times_loses_it(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", Script(1, exit_code=3))
    config = with_node(ensemble({"n1": {"web": "service"}}), "n1", failure_recovery="redeploy")
    job = await alice.user.deploy(config)
    await alice.wait_for(job, Phase.RUNNING)
    carol = await cluster.start("carol", offers=FOUR_CORES)
    await until(lambda: alice.state(job).allocations[KEY].restarts == 1, timeout_s=100)
    assert (host(cluster, alice, job), runs(cluster, job)) == (carol, ["carol"])
    await ended(cluster, alice, job)


@pytest.mark.matrix
@pytest.mark.parametrize("moment", ["bidding", "committing", "allocating", "starting"])
async def test_the_orchestrator_may_die_in_every_stage_of_a_placement(
    autojump_clock: MockClock, cluster: Cluster, moment: str
) -> None:
    alice, job = await deployed(cluster, service(failure_recovery="redeploy"))
    for node in cluster.nodes.values():
        node.executor.on("web-1", Script(None, start_takes_s=2))
    dead = host(cluster, alice, job)
    await dead.kill()

    def is_there() -> bool:
        placement = alice.state(job).placements.get("n1")
        return placement is not None and placement.stage.value == moment

    await partial(until_often, every_s=0.002)(is_there, timeout_s=200)
    await alice.restart()
    await until(lambda: alice.state(job).allocations[KEY].status == "running", timeout_s=300)
    await dead.start()
    await trio.sleep(120)
    assert runs(cluster, job) == [host(cluster, alice, job).name]
    await ended(cluster, alice, job)


async def test_a_standby_waits_on_another_machine_and_is_not_started(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster, service(redundancy=2), ("bob", "carol", "dave"))
    await until(lambda: {"n1-standby-1", "n1-standby-2"} <= set(alice.state(job).assignment), timeout_s=60)
    await until(lambda: not alice.state(job).placements, timeout_s=60)
    state = alice.state(job)
    peers = [state.assignment[node].peer for node in ("n1", "n1-standby-1", "n1-standby-2")]
    assert len(set(peers)) == 3
    standby = state.allocations["n1-standby-1.web"]
    assert (standby.status, standby.handle is not None, standby.is_standby) == ("standby", True, True)
    assert sum(node.starts(job).get("n1-standby-1.web", 0) for node in cluster.nodes.values()) == 0
    await trio.sleep(2000)  # longer than an allocation may wait for its start
    assert alice.state(job).allocations["n1-standby-1.web"].status == "standby"
    assert alice.state(job).assignment["n1-standby-1"].peer == peers[1]
    await ended(cluster, alice, job)


async def test_a_standby_takes_the_place_of_its_primary(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster, service(redundancy=1))
    await until(lambda: "n1-standby-1" in alice.state(job).assignment, timeout_s=60)
    await until(lambda: not alice.state(job).placements, timeout_s=60)
    dead, standby = host(cluster, alice, job), host(cluster, alice, job, "n1-standby-1")
    before = alice.state(job).allocations["n1-standby-1.web"]
    await dead.kill()
    await until(lambda: host(cluster, alice, job) is standby, timeout_s=200)
    await until(lambda: alice.state(job).allocations[KEY].status == "running", timeout_s=20)
    record = alice.state(job).allocations[KEY]
    assert (record.id, record.handle, record.standby_for) == (before.id, before.handle, "")
    await until(lambda: "n1-standby-1" in alice.state(job).assignment, timeout_s=60)
    await until(lambda: not alice.state(job).placements, timeout_s=60)
    third = host(cluster, alice, job, "n1-standby-1")
    assert third not in (dead, standby)
    ids = [record.id for record in alice.state(job).allocations.values()]
    assert len(set(ids)) == len(ids), "the new standby is not called as the one that was promoted"
    assert alice.state(job).allocations["n1-standby-1.web"].id == f"{job}_n1-standby-1.web-s2"
    reply = await alice.user.call("manifest", p.DeploymentRequest(id=job), p.ManifestReply)
    assert isinstance(reply.manifest, dict)
    described = reply.manifest["allocations"]
    assert (described[KEY]["id"], described[KEY].get("is_standby", False)) == (record.id, False)
    assert described["n1-standby-1.web"]["is_standby"]
    await dead.start()
    await trio.sleep(120)
    assert runs(cluster, job) == [standby.name]
    await ended(cluster, alice, job)


async def test_a_standby_whose_machine_dies_is_placed_again(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster, service(redundancy=1))
    await until(lambda: "n1-standby-1" in alice.state(job).assignment, timeout_s=60)
    await until(lambda: not alice.state(job).placements, timeout_s=60)
    dead = host(cluster, alice, job, "n1-standby-1")
    was_beside = host(cluster, alice, job, "n2") is dead
    await dead.kill()
    await until(lambda: "n1-standby-1" not in alice.state(job).assignment, timeout_s=200)
    await until(lambda: "n1-standby-1" in alice.state(job).assignment, timeout_s=60)
    assert host(cluster, alice, job, "n1-standby-1") is not dead
    assert was_beside or alice.state(job).error == ""
    await dead.start()
    await trio.sleep(120)
    await ended(cluster, alice, job)


@pytest.mark.matrix
@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
async def test_the_orchestrator_may_die_around_a_promotion(
    autojump_clock: MockClock, cluster: Cluster, seconds: float
) -> None:
    alice, job = await deployed(cluster, service(redundancy=1))
    for node in cluster.nodes.values():
        node.executor.on("web-1", Script(None, start_takes_s=0.5))
    await until(lambda: "n1-standby-1" in alice.state(job).assignment, timeout_s=60)
    await until(lambda: not alice.state(job).placements, timeout_s=60)
    dead, standby = host(cluster, alice, job), host(cluster, alice, job, "n1-standby-1")
    await dead.kill()
    await partial(until_often, every_s=0.001)(lambda: host(cluster, alice, job) is standby, timeout_s=200)
    await trio.sleep(seconds)
    await alice.restart()
    await until(lambda: alice.state(job).allocations[KEY].status == "running", timeout_s=60)
    assert host(cluster, alice, job) is standby
    await dead.start()
    await trio.sleep(120)
    assert runs(cluster, job) == [standby.name]
    await ended(cluster, alice, job)
