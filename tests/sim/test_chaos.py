"""Bad networks, from several seeds: messages vanish, take their time, overtake each other; cables are pulled.

Whatever happens, a deployment ends well or says why not, and in the end nothing is held by anybody.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID, PeerID

JOB = {"n1": {"task": "task"}, "n2": {"web": "service"}}
LONG_S = 4 * 3600.0


def random_delay(seed: int) -> Callable[[PeerID, PeerID], float]:
    rng = random.Random(seed)
    return lambda _a, _b: rng.uniform(0.001, 0.4)


async def deploy(cluster: Cluster) -> EnsembleID:
    alice = await cluster.start("alice")
    for name in ("bob", "carol", "dave"):
        node = await cluster.start(name, offers=FOUR_CORES)
        node.executor.on("task-1", Script(20))
    return await alice.user.deploy(ensemble(JOB), timeout_s=315)


async def end(cluster: Cluster, job: EnsembleID) -> None:
    """Wait for the outcome, shut down what runs, and see that everything is given back, at the latest by expiry."""
    alice = cluster.nodes["alice"]
    state = await alice.wait_for(job, Phase.RUNNING, Phase.FAILED, Phase.COMPLETED)
    if state.phase is Phase.RUNNING:
        await trio.sleep(150)
    if not alice.state(job).phase.is_final:
        await alice.user.shutdown(job)
    state = await alice.wait_until_settled(job)
    assert state.phase is Phase.COMPLETED or state.error
    running = [
        key for key in state.allocations if sum(n.hosted_state(job, key) == "running" for n in hosts(cluster)) > 1
    ]
    assert running == []
    await trio.sleep(LONG_S)
    cluster.assert_nothing_is_held()
    for node in hosts(cluster):
        assert max(node.starts(job).values(), default=0) <= 3, "no more often than provisioning was tried"


def hosts(cluster: Cluster) -> list[SimulatedNode]:
    return [node for node in cluster.nodes.values() if node.name != "alice"]


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(4))
async def test_messages_that_vanish(autojump_clock: MockClock, tmp_path: Path, seed: int) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, seed=seed, loss=0.1 + 0.03 * seed)
        await end(cluster, await deploy(cluster))
        nursery.cancel_scope.cancel()


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(2))
async def test_messages_that_take_their_time(autojump_clock: MockClock, tmp_path: Path, seed: int) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, seed=seed, delay_s=random_delay(seed), loss=0.05)
        await end(cluster, await deploy(cluster))
        nursery.cancel_scope.cancel()


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(3))
async def test_cables_pulled_and_nodes_killed(autojump_clock: MockClock, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, seed=seed, loss=0.05)
        job = await deploy(cluster)
        nodes = list(cluster.nodes.values())
        for _ in range(8):
            await trio.sleep(rng.choice([0.01, 0.05, 0.1, 1, 10, 40]))
            one, other = rng.sample(nodes, 2)
            match rng.randrange(3):
                case 0:
                    cluster.network.cut(one.network, other.network)
                case 1:
                    cluster.network.heal_all()
                case _:
                    await one.restart()
        cluster.network.heal_all()
        await end(cluster, job)
        nursery.cancel_scope.cancel()
