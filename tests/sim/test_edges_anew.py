"""Edges to nodes that stay hold for a new place, too: of a node that is placed elsewhere, and of a standby."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from dms.ensemble.config import EdgeConfig, EnsembleConfig
from dms.node.explaining_payloads import PlanReply, PlanRequest
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.testing.nodes import until as until_often
from dms.types.ids import EnsembleID

until = partial(until_often, every_s=0.05)
NEAR_S, FAR_S = 0.01, 0.1
KEY = "n1.web"


def pair(cluster: Cluster, pinned: str, **node: object) -> EnsembleConfig:
    """Two services that must be near each other, each with a machine for itself; the second one stays where it is."""
    peers = {"n2": cluster.nodes[pinned].peer}
    config = ensemble({"n1": {"web": "service"}, "n2": {"web1": "service"}}, cores=3.0, peers=peers)
    first = replace(config.v1.nodes["n1"], **node)
    edges = (EdgeConfig(s="n1", t="n2", rtt=50),)
    return EnsembleConfig(v1=replace(config.v1, nodes=config.v1.nodes | {"n1": first}, edges=edges))


async def machines(cluster: Cluster, *names: str) -> tuple[SimulatedNode, ...]:
    return tuple([await cluster.start(name, offers=FOUR_CORES) for name in names])


def far(cluster: Cluster, one: SimulatedNode, *others: SimulatedNode) -> None:
    for other in others:
        cluster.network.set_link(one.network, other.network, delay_s=FAR_S)


def host(cluster: Cluster, alice: SimulatedNode, job: EnsembleID, node: str = "n1") -> str:
    bid = alice.state(job).assignment.get(node)
    return cluster.of_peer(bid.peer).name if bid else ""


async def ended(cluster: Cluster, alice: SimulatedNode, job: EnsembleID) -> None:
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(60)
    cluster.assert_nothing_is_held()


async def test_a_node_is_placed_anew_where_its_edges_hold(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    base, first = await machines(cluster, "base", "first")
    job = await alice.user.deploy(pair(cluster, "base", failure_recovery="redeploy"))
    await alice.wait_for(job, Phase.RUNNING)
    assert host(cluster, alice, job) == "first"
    *distant, near = await machines(cluster, "carol", "dave", "erin")
    far(cluster, base, *distant)
    await first.kill()
    await until(lambda: alice.state(job).allocations[KEY].restarts == 1, timeout_s=300)
    assert host(cluster, alice, job) == near.name
    told = [event.detail for event in await alice.user.events(job) if event.kind == "node_measured"]
    assert told[-1]["chosen"] == {"n1": near.peer}
    assert alice.state(job).placements == {}
    await ended(cluster, alice, job)


async def test_where_no_edge_holds_it_waits_until_one_does(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    base, first = await machines(cluster, "base", "first")
    job = await alice.user.deploy(pair(cluster, "base", failure_recovery="redeploy"))
    await alice.wait_for(job, Phase.RUNNING)
    far(cluster, base, *await machines(cluster, "carol"))
    await first.kill()
    await until(lambda: "edge n1–n2 (at most 50 ms)" in alice.state(job).error, timeout_s=600)
    assert alice.state(job).allocations[KEY].status == "pending"
    await machines(cluster, "dave")
    await until(lambda: alice.state(job).allocations[KEY].restarts == 1, timeout_s=600)
    assert host(cluster, alice, job) == "dave"
    await ended(cluster, alice, job)


async def test_a_standby_waits_where_the_edges_of_its_primary_hold(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    base, *others = await machines(cluster, "base", "bob", "carol", "dave")
    far(cluster, base, others[2])
    job = await alice.user.deploy(pair(cluster, "base", redundancy=1))
    await alice.wait_for(job, Phase.RUNNING)
    await until(lambda: "n1-standby-1" in alice.state(job).assignment and not alice.state(job).placements)
    waits, runs = host(cluster, alice, job, "n1-standby-1"), host(cluster, alice, job)
    assert {waits, runs} == {"bob", "carol"}
    await cluster.nodes[runs].kill()
    await until(lambda: alice.state(job).allocations[KEY].restarts == 1, timeout_s=300)
    assert host(cluster, alice, job) == waits
    assert "n1-standby-1" in alice.state(job).placements, "where the third machine is the edge does not hold"
    await ended(cluster, alice, job)


async def test_a_standby_from_which_the_edge_holds_no_more_is_passed_over(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    base, *_ = await machines(cluster, "base", "bob", "carol")
    job = await alice.user.deploy(pair(cluster, "base", redundancy=1))
    await alice.wait_for(job, Phase.RUNNING)
    await until(lambda: "n1-standby-1" in alice.state(job).assignment and not alice.state(job).placements)
    waits, runs = host(cluster, alice, job, "n1-standby-1"), host(cluster, alice, job)
    far(cluster, base, cluster.nodes[waits])
    await machines(cluster, "dave")
    await trio.sleep(90)
    await cluster.nodes[runs].kill()
    await until(lambda: alice.state(job).allocations[KEY].restarts == 1, timeout_s=300)
    assert host(cluster, alice, job) == "dave"
    assert cluster.nodes[waits].starts(job) == {}, "it was never started there"
    await ended(cluster, alice, job)


async def test_a_plan_measures_edges_those_to_what_runs_too(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    base, *others = await machines(cluster, "base", "bob", "carol")
    far(cluster, base, others[0])
    config = pair(cluster, "base")
    reply = await alice.user.call("plan", PlanRequest(ensemble=config), PlanReply)
    assert (reply.feasible, reply.placed) == (True, {"n1": others[1].peer, "n2": base.peer})
    assert reply.report is not None
    assert reply.report.unmeasured == 0
    known = {frozenset((pair.a, pair.b)): pair.rtt_ms for pair in reply.report.measured}
    assert known[frozenset((base.peer, others[1].peer))] == pytest.approx(10)
    far(cluster, base, others[1])
    await trio.sleep(70)
    reply = await alice.user.call("plan", PlanRequest(ensemble=config), PlanReply)
    assert not reply.feasible
    assert reply.report is not None
    assert "edge n1–n2 (at most 50 ms)" in reply.report.summary
    cluster.assert_nothing_is_held()

    alone = EnsembleConfig(
        v1=replace(
            config.v1,
            nodes={"n2": config.v1.nodes["n2"]},
            allocations={"web1": config.v1.allocations["web1"]},
            edges=(),
        )
    )
    job = await alice.user.deploy(alone)
    await alice.wait_for(job, Phase.RUNNING)
    near = await cluster.start("dave", offers=FOUR_CORES)
    reply = await alice.user.call("plan", PlanRequest(ensemble=config, deployment=job), PlanReply)
    assert (reply.placed, reply.kept) == ({"n1": near.peer}, {"n2": base.peer})
    await ended(cluster, alice, job)


@pytest.mark.matrix
@pytest.mark.parametrize("redundancy", [0, 1], ids=["placed anew", "promoted"])
async def test_an_orchestrator_killed_while_it_measures_goes_on(
    autojump_clock: MockClock, cluster: Cluster, redundancy: int
) -> None:
    alice = await cluster.start("alice")
    await machines(cluster, "base", "bob", "carol", "dave")
    job = await alice.user.deploy(pair(cluster, "base", redundancy=redundancy, failure_recovery="redeploy"))
    await alice.wait_for(job, Phase.RUNNING)
    if redundancy:
        await until(lambda: "n1-standby-1" in alice.state(job).assignment and not alice.state(job).placements)
    runs = host(cluster, alice, job)
    await cluster.nodes[runs].kill()
    await until_often(
        lambda: [p.stage.value for n, p in alice.state(job).placements.items() if n == "n1"] == ["measuring"],
        timeout_s=300,
        every_s=0.005,
    )
    await alice.kill()
    await trio.sleep(1)
    await alice.start()
    await until(lambda: alice.state(job).allocations[KEY].restarts == 1, timeout_s=300)
    assert host(cluster, alice, job) != runs
    await ended(cluster, alice, job)


@pytest.mark.matrix
@pytest.mark.parametrize("partner", ["erin", "frank", "gina"])
async def test_two_nodes_that_are_placed_anew_together_keep_the_edge_between_them(
    autojump_clock: MockClock, cluster: Cluster, partner: str
) -> None:
    alice = await cluster.start("alice")
    first, second = await machines(cluster, "bob", "carol")
    config = ensemble({"n1": {"web": "service"}, "n2": {"web1": "service"}}, cores=3.0)
    again = {name: replace(node, failure_recovery="redeploy") for name, node in config.v1.nodes.items()}
    edges = (EdgeConfig(s="n1", t="n2", rtt=50),)
    job = await alice.user.deploy(EnsembleConfig(v1=replace(config.v1, nodes=again, edges=edges)))
    await alice.wait_for(job, Phase.RUNNING)
    fresh = await machines(cluster, "dave", "erin", "frank", "gina")
    near = [{"dave", partner}, {"erin", "frank", "gina"} - {partner}]
    for one in fresh:
        one.executor.choose = lambda _execution: Script(None, start_takes_s=20)
        far(cluster, one, *(other for other in fresh if {one.name, other.name} not in [*near, {one.name}]))
    await first.kill()
    await second.kill()

    def is_up() -> bool:
        return not alice.state(job).placements and all(r.restarts for r in alice.state(job).allocations.values())

    await until(is_up, timeout_s=900)
    assert {host(cluster, alice, job), host(cluster, alice, job, "n2")} in near
    await ended(cluster, alice, job)


@pytest.mark.matrix
@pytest.mark.parametrize("lonely", ["dave", "erin", "frank"])
async def test_the_first_of_two_that_lost_their_machines_does_not_go_where_the_second_cannot_follow(
    autojump_clock: MockClock, cluster: Cluster, lonely: str
) -> None:
    alice = await cluster.start("alice")
    first, second = await machines(cluster, "bob", "carol")
    config = ensemble({"n1": {"web": "service"}, "n2": {"web1": "service"}}, cores=3.0)
    again = {name: replace(node, failure_recovery="redeploy") for name, node in config.v1.nodes.items()}
    edges = (EdgeConfig(s="n1", t="n2", rtt=50),)
    job = await alice.user.deploy(EnsembleConfig(v1=replace(config.v1, nodes=again, edges=edges)))
    await alice.wait_for(job, Phase.RUNNING)
    fresh = await machines(cluster, "dave", "erin", "frank")
    for one in fresh:
        far(cluster, one, *(other for other in fresh if other is not one and lonely in (one.name, other.name)))
    await first.kill()
    await second.kill()

    def is_up() -> bool:
        return not alice.state(job).placements and all(r.restarts for r in alice.state(job).allocations.values())

    await until(is_up, timeout_s=900)
    assert {host(cluster, alice, job), host(cluster, alice, job, "n2")} == {"dave", "erin", "frank"} - {lonely}
    await ended(cluster, alice, job)
