"""Plans, and why a deployment waits, failed, or is where it is: whole nodes on the virtual network."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.executor.errors import ExecutorError
from dms.node.errors import NoBid
from dms.node.explaining_payloads import PlanReply, PlanRequest, WhyReply, WhyRequest
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.errors import DMSError
from dms.types.ids import EnsembleID
from dms.types.resources import Location


async def plan(node: SimulatedNode, config: EnsembleConfig, of: str = "") -> PlanReply:
    return await node.user.call("plan", PlanRequest(ensemble=config, deployment=of), PlanReply)


async def why(node: SimulatedNode, job: EnsembleID) -> WhyReply:
    return await node.user.call("why", WhyRequest(id=job[:12]), WhyReply)


async def test_a_plan_says_where_the_nodes_would_be_and_reserves_nothing(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    reply = await plan(alice, ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}}))
    assert (reply.error, reply.ok, reply.feasible, reply.deployment) == ("", True, True, "")
    assert reply.nodes.added == ("n1", "n2")
    assert reply.placed == {"n1": bob.peer, "n2": bob.peer}
    cluster.assert_nothing_is_held()
    assert alice.node.deployments.all() == ()
    (bid,) = bob.node.provider.bidder._bids.values()
    assert bid.is_dry_run
    with pytest.raises(NoBid):  # remembered, so that it may be measured with, and good for nothing else
        bob.node.provider.bidder.check(next(iter(bob.node.provider.bidder._bids)), "n1", bid.orchestrator)
    assert bob.node.provider.bidder.work.counts(bob.node.root.security.now_ns(), 1) == {"dry_runs": 1}


async def test_a_plan_that_cannot_be_says_which_rule_refused(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    reply = await plan(alice, ensemble({"n1": {"a": "task"}}, cores=5.0))
    assert (reply.ok, reply.feasible) == (True, False)
    assert reply.report is not None
    assert reply.report.summary == "no bids for n1"
    [row] = reply.report.nodes
    assert [(r.peer, r.rule) for r in row.reasons] == [(bob.peer, "machine")]
    assert "5 cores wanted, 4 there" in row.reasons[0].text
    assert reply.report.mends == ("n1: ask for less, or for another machine (machine, 1 peer)",)


async def test_a_deployment_that_waits_tells_who_refused_and_what_would_mend_it(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES, location=Location(country="DE"))
    carol = await cluster.start("carol", offers=FOUR_CORES)
    config = ensemble({"big": {"a": "task"}, "small": {"b": "task"}}, cores=5.0, peers={"small": carol.peer})
    job = await alice.user.deploy(config)
    await trio.sleep(20)
    reply = await why(alice, job)
    assert (reply.id, reply.status) == (job, "Preparing")
    assert reply.report is not None
    assert not reply.report.is_placed
    assert reply.report.summary == "no bids for big, small"
    rows = {row.node: {reason.peer: reason.rule for reason in row.reasons} for row in reply.report.nodes}
    assert rows["big"] == {bob.peer: "machine", carol.peer: "machine"}
    assert rows["small"][carol.peer] == "machine"
    state = await alice.wait_for(job, Phase.FAILED)
    after = await why(alice, job)
    assert (after.status, after.problem) == ("Failed", state.error)
    assert after.report is not None
    assert {r.peer for r in after.report.nodes[0].reasons} == {bob.peer, carol.peer}


async def test_it_is_known_after_a_restart_of_the_node(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}, cores=5.0))
    await alice.wait_until_settled(job)
    before = (await why(alice, job)).report
    await alice.restart()
    after = (await why(alice, job)).report
    assert after is not None
    assert after == before
    assert after.nodes[0].reasons[0].peer == bob.peer


async def test_peers_that_broke_their_bids_are_named_with_what_they_said(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("a-1", Script(start_error=ExecutorError("no such image")))
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.wait_until_settled(job)
    report = (await why(alice, job)).report
    assert report is not None
    assert [(r.peer, r.rule) for r in report.nodes[0].reasons] == [(bob.peer, "start")]
    assert "no such image" in report.nodes[0].reasons[0].text


async def test_of_what_runs_it_tells_why_it_is_there_and_not_elsewhere(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol"):
        await cluster.start(name, offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    state = await alice.wait_for(job, Phase.RUNNING)
    report = (await why(alice, job)).report
    assert report is not None
    assert report.is_placed
    assert report.nodes[0].peer == state.assignment["n1"].peer
    assert {(r.peer, r.rule) for r in report.nodes[0].reasons} <= {
        (node.peer, "rank") for node in cluster.nodes.values() if node.peer != report.nodes[0].peer
    }
    await alice.user.shutdown(job)


async def test_a_plan_against_what_runs_tells_the_difference_only(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    first = ensemble({"n1": {"web": "service"}})
    job = await alice.user.deploy(first)
    await alice.wait_for(job, Phase.RUNNING)
    same = await plan(alice, first)
    assert (same.deployment, same.feasible, same.placed, same.kept) == (job, True, {}, {"n1": bob.peer})
    assert [*same.nodes.added, *same.nodes.removed, *same.nodes.changed, *same.allocations.changed] == []
    more = await plan(alice, ensemble({"n1": {"web": "service"}, "n2": {"web1": "service"}}), of=job)
    assert (more.nodes.added, more.placed, more.kept) == (("n2",), {"n2": bob.peer}, {"n1": bob.peer})
    pinned = await plan(alice, ensemble({"n1": {"web": "service"}}, peers={"n1": alice.peer}), of=job)
    assert not pinned.feasible
    assert "the machine of a running node cannot change" in [problem.reason for problem in pinned.problems]
    await alice.user.shutdown(job)


async def test_what_cannot_be_planned_or_explained_is_said_in_one_line(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bad = await alice.user.call("plan", {"Ensemble": {"v1": {}}}, PlanReply)
    assert not bad.ok
    assert "V1.allocations" in bad.error
    unknown = await plan(alice, ensemble({"n1": {"a": "task"}}), of="cafe" * 16)
    assert "deployment not found" in unknown.error
    assert "deployment not found" in (await why(alice, EnsembleID("cafe" * 16))).error


async def test_nobody_else_may_ask(autojump_clock: MockClock, cluster: Cluster) -> None:
    await cluster.start("alice")
    mallory = await cluster.start("mallory")
    alice = cluster.nodes["alice"].node.root
    for name in ("plan", "why"):
        with pytest.raises(DMSError):
            await mallory.node.root.invoke(alice.handle, f"/dms/node/deployment/{name}", {}, PlanReply, timeout_s=5)
