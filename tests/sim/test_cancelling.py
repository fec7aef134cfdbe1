"""A shutdown in the middle of anything leaves nothing reserved, and nothing running, anywhere."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import EdgeConfig, EnsembleConfig
from dms.executor.protocol import ExecOutput
from dms.orchestrator import messages
from dms.orchestrator.lifecycle.state import Phase, Stage
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.testing.nodes import until as until_often
from dms.types import gojson
from dms.types.ids import EnsembleID

LOOK_S = 0.002
SICK = ExecOutput(1, b"no", b"")


def two(edge: bool = False, **node: object) -> EnsembleConfig:
    """Two services, each with a machine for itself."""
    config = ensemble({"n1": {"web": "service"}, "n2": {"web1": "service"}}, cores=3.0)
    first = replace(config.v1.nodes["n1"], **node)
    edges = (EdgeConfig(s="n1", t="n2", rtt=500),) if edge else ()
    return EnsembleConfig(v1=replace(config.v1, nodes=config.v1.nodes | {"n1": first}, edges=edges))


async def machines(cluster: Cluster, *names: str) -> SimulatedNode:
    for name in names:
        node = await cluster.start(name, offers=FOUR_CORES)
        for number in (1, 2, 3):
            node.executor.on(f"web-{number}", Script(None, start_takes_s=2.0))
    return await cluster.start("alice")


async def cancelled(cluster: Cluster, alice: SimulatedNode, job: EnsembleID) -> None:
    """Shut down, and see that nothing is left at any machine; those that are down find out when they come back."""
    assert (await alice.user.shutdown(job)).ok
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert {record.status for record in state.allocations.values()} <= {"terminated", "completed"}
    assert state.placements == {}
    for node in cluster.nodes.values():
        if not node.is_running:
            await node.start()
    await alice.wait_until_settled(job)
    await trio.sleep(1000)
    cluster.assert_nothing_is_held()
    assert not [
        allocation.view.state.value
        for node in cluster.nodes.values()
        for allocation in node.node.hosting
        if not allocation.view.state.is_final
    ]


async def test_at_the_very_moment_of_its_submission(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await machines(cluster, "bob", "carol")
    job = await alice.user.deploy(two())
    assert alice.state(job).round <= 1
    await cancelled(cluster, alice, job)


async def test_while_bids_are_being_made(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await machines(cluster, "bob", "carol")
    cluster.network.set_link(alice.network, cluster.nodes["bob"].network, delay_s=1.0)
    job = await alice.user.deploy(two())
    await until_often(
        lambda: alice.state(job).phase is Phase.PREPARING and len(alice.node.deployments.live(job).evidence.bids)
    )
    await cancelled(cluster, alice, job)


async def test_while_edges_are_measured(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await machines(cluster, "bob", "carol")
    job = await alice.user.deploy(two(edge=True))
    await alice.wait_for(job, Phase.GENERATING)
    await cancelled(cluster, alice, job)


@pytest.mark.matrix
@pytest.mark.parametrize("behaviour", [messages.COMMIT, messages.ALLOCATE], ids=["commit", "allocate"])
@pytest.mark.parametrize("lost", ["request", "reply"])
async def test_while_a_reservation_is_on_its_way(
    autojump_clock: MockClock, cluster: Cluster, behaviour: str, lost: str
) -> None:
    """The request of one machine, or its answer, is under way for longer than the shutdown takes."""
    alice = await machines(cluster, "bob", "carol")
    bob = cluster.nodes["bob"]
    job = await alice.user.deploy(two())
    if behaviour == messages.COMMIT:
        await until_often(lambda: alice.state(job).phase is Phase.COMMITTING)
    else:
        await until_often(bob.holdings)
    source, target = (alice, bob) if lost == "request" else (bob, alice)
    cluster.network.link(source.peer, target.peer).delay_s = 3.0
    await trio.sleep(0.02)
    shutdown = await alice.user.shutdown(job)
    assert shutdown.ok
    cluster.network.link(source.peer, target.peer).delay_s = 0.005
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert {record.status for record in state.allocations.values()} == {"terminated"}
    await alice.wait_until_settled(job)
    await trio.sleep(1000)
    cluster.assert_nothing_is_held()


async def test_while_one_waits_for_another_to_be_well(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await machines(cluster, "bob", "carol")
    wire = gojson.to_builtins(two())["v1"]
    wire["allocations"]["web"]["depends_on"] = [{"allocation": "web1", "condition": "service_healthy"}]
    wire["allocations"]["web1"]["healthcheck"] = {"type": "command", "exec": ["up"], "start_delay": 60 * 10**9}
    for node in cluster.nodes.values():
        node.executor.on("web1-1", Script(None, exec_output=SICK))
    job = await alice.user.deploy(decode_ensemble({"v1": wire}))
    await alice.wait_for(job, Phase.PROVISIONING)
    await trio.sleep(10)
    assert alice.state(job).phase is Phase.PROVISIONING
    await cancelled(cluster, alice, job)


async def test_while_it_waits_for_the_moment_of_a_restart(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await machines(cluster, "bob", "carol")
    config = two(failure_recovery="restart")
    job = await alice.user.deploy(config)
    state = await alice.wait_for(job, Phase.RUNNING)
    host = cluster.of_peer(state.assignment["n1"].peer)
    host.executor.end(f"{job}_n1.web-1", exit_code=3)
    await until_often(lambda: alice.state(job).allocations["n1.web"].due_ns)
    await cancelled(cluster, alice, job)
    assert host.starts(job) == {"n1.web": 1}


@pytest.mark.matrix
@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CHECKING], ids=lambda s: s.value)
async def test_while_a_node_is_placed_anew(autojump_clock: MockClock, cluster: Cluster, stage: Stage) -> None:
    alice = await machines(cluster, "bob", "carol", "dave")
    job = await alice.user.deploy(two(edge=True, failure_recovery="redeploy"))
    state = await alice.wait_for(job, Phase.RUNNING)
    await cluster.of_peer(state.assignment["n1"].peer).kill()
    await until_often(
        lambda: "n1" in (p := alice.state(job).placements) and p["n1"].stage is stage, timeout_s=300, every_s=LOOK_S
    )
    await cancelled(cluster, alice, job)


@pytest.mark.matrix
@pytest.mark.parametrize("stage", [Stage.CHECKING, Stage.MEASURING, Stage.STARTING], ids=lambda s: s.value)
async def test_while_a_standby_takes_over(autojump_clock: MockClock, cluster: Cluster, stage: Stage) -> None:
    alice = await machines(cluster, "bob", "carol", "dave", "erin")
    job = await alice.user.deploy(two(edge=True, redundancy=1))
    await until_often(lambda: "n1-standby-1" in alice.state(job).assignment and not alice.state(job).placements)
    await cluster.of_peer(alice.state(job).assignment["n1"].peer).kill()
    await until_often(
        lambda: "n1" in (p := alice.state(job).placements) and p["n1"].stage is stage, timeout_s=300, every_s=LOOK_S
    )
    await cancelled(cluster, alice, job)
