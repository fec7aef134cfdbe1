"""The orchestrator's own machine in the private network of its ensemble, and what is told where somebody has no address."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from dms.node import payloads as p
from dms.node.explaining_payloads import PlanReply, PlanRequest
from dms.node.memberships import Membership
from dms.node.network_engines import UserSpace
from dms.node.node import Node
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.private_network.plan import ORCHESTRATOR
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID

WEB = {"n1": {"web": "service"}}
LACKS = "the process has no CAP_NET_ADMIN"


class Kernel(UserSpace):
    """An engine that says that it makes devices."""

    def __init__(self, own_problem: str = "") -> None:
        super().__init__("")
        self.mode, self.own_problem = "kernel", own_problem
        self.applied: dict[EnsembleID, Membership] = {}

    async def apply(self, membership: Membership) -> str:
        self.applied[membership.ensemble] = membership
        return self.own_problem if membership.own else ""

    async def remove(self, ensemble: EnsembleID) -> None:
        self.applied.pop(ensemble, None)


def with_engine(engine: UserSpace) -> Callable[[Node], None]:
    """For a node that is born."""

    def born(node: Node) -> None:
        node.networks._engine = engine

    return born


async def info(node: SimulatedNode, id_: EnsembleID) -> p.InfoReply:
    return await node.user.call("info", p.DeploymentRequest(id=id_), p.InfoReply)


async def told(node: SimulatedNode, id_: EnsembleID, kind: str) -> list[dict[str, object]]:
    return [event.detail for event in await node.user.events(id_) if event.kind == kind]


async def test_it_joins_on_request_and_leaves_at_the_end(autojump_clock: MockClock, cluster: Cluster) -> None:
    engine = Kernel()
    alice = await cluster.start("alice", born=with_engine(engine))
    bob = await cluster.start("bob", offers=FOUR_CORES)
    id_ = await alice.user.deploy(ensemble(WEB, subnet={"join": True}))
    await alice.wait_for(id_, Phase.RUNNING)
    await trio.sleep(1)
    network = alice.node.deployments.live(id_).state.network
    assert network is not None
    own = network.addresses[ORCHESTRATOR]
    (applied,) = engine.applied.values()
    assert (applied.own, applied.members) == (own, {})
    assert applied.table[own] == alice.peer
    at_bob = bob.node.networks.find(id_)
    assert at_bob is not None
    assert at_bob.table == applied.table
    assert at_bob.records["orchestrator.internal"] == own
    assert at_bob.own == ""
    reports = await alice.node.deployments.live(id_).network_reports()
    assert reports.keys() == {alice.peer, bob.peer}
    await alice.node.networks.sweep()
    assert alice.node.networks.find(id_) is not None
    await alice.user.shutdown(id_)
    await alice.wait_until_settled(id_)
    await trio.sleep(1)
    assert not engine.applied
    assert alice.node.networks.find(id_) is None
    assert not alice.node.networks.is_admitted(id_)


async def test_without_a_request_it_does_not(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob", offers=FOUR_CORES)
    id_ = await alice.user.deploy(ensemble(WEB))
    await alice.wait_for(id_, Phase.RUNNING)
    await trio.sleep(1)
    assert alice.node.networks.find(id_) is None


async def test_after_a_restart_it_joins_again(autojump_clock: MockClock, cluster: Cluster) -> None:
    engine = Kernel()
    alice = await cluster.start("alice", born=with_engine(engine), store_file=True)
    await cluster.start("bob", offers=FOUR_CORES)
    id_ = await alice.user.deploy(ensemble(WEB, subnet={"join": True}))
    await alice.wait_for(id_, Phase.RUNNING)
    await trio.sleep(1)
    await alice.kill()
    engine.applied.clear()
    await alice.start()
    await trio.sleep(5)
    assert engine.applied[id_].own


async def test_why_it_cannot_join_is_told_once_with_the_way_out(
    autojump_clock: MockClock, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await cluster.start("alice", born=with_engine(Kernel(LACKS)))
    await cluster.start("bob", offers=FOUR_CORES)
    id_ = await alice.user.deploy(ensemble(WEB, subnet={"join": True}))
    await alice.wait_for(id_, Phase.RUNNING)
    await trio.sleep(1)
    assert {"peer": alice.peer, "reason": LACKS} in await told(alice, id_, "no_private_address")
    report = (await alice.node.deployments.live(id_).network_reports())[alice.peer]
    assert list(report.lacking.values()) == [LACKS]
    (warning,) = [record for record in caplog.records if record.message == "private_network_not_joined"]
    assert "nunet port-forward" in str(vars(warning))


async def test_a_part_without_an_address_is_told_of(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob", offers=FOUR_CORES, born=with_engine(UserSpace(LACKS)))
    carol = await cluster.start("carol", offers=FOUR_CORES, born=with_engine(Kernel()))
    id_ = await alice.user.deploy(ensemble({"n1": {"web": "service"}, "n2": {"web2": "service"}}))
    await alice.wait_for(id_, Phase.RUNNING)
    for _ in range(60):
        allocations = (await info(alice, id_)).allocations
        if all(one.network_problem for one in allocations.values()):
            break
        await trio.sleep(1)  # a sign of life tells it
    none_given = "the executor null gives none"
    problems = {one.peer: (one.private_address, one.network_problem) for one in allocations.values()}
    assert problems.pop(carol.peer) == ("", none_given)
    assert list(problems.values()) == [("", LACKS)]
    reasons = [detail["reason"] for detail in await told(alice, id_, "no_private_address")]
    assert sorted(set(map(str, reasons))) == sorted([none_given, LACKS])


async def test_what_requires_an_address_is_not_bid_for_without(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES, born=with_engine(UserSpace(LACKS)))
    request = PlanRequest(ensemble=ensemble(WEB, subnet={"required": True}))
    report = (await alice.user.call("plan", request, PlanReply)).report
    assert report is not None
    ((reason,),) = [row.reasons for row in report.nodes]
    assert (reason.peer, reason.rule, reason.text) == (
        bob.peer,
        "network",
        f"no private addresses are given here: {LACKS}",
    )
    assert "subnet.required" in report.mends[0]
    carol = await cluster.start("carol", offers=FOUR_CORES, born=with_engine(Kernel()))
    assert (await alice.user.call("plan", request, PlanReply)).placed == {"n1": carol.peer}


class Losing(Kernel):
    """An engine whose machine can make devices until it is told of a network."""

    async def apply(self, membership: Membership) -> str:
        self.mode, self.lacks = "user", LACKS
        return ""


async def test_what_requires_an_address_does_not_run_without(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob", offers=FOUR_CORES, born=with_engine(Losing()))
    id_ = await alice.user.deploy(ensemble(WEB, subnet={"required": True}))
    await alice.wait_until_settled(id_)
    assert (await info(alice, id_)).status == "Failed"
    assert f"no private address: {LACKS}" in str(await alice.user.events(id_))
    cluster.assert_nothing_is_held()
