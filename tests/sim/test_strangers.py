"""Whoever lacks authority, or lies, gets nothing; messages that come twice do nothing twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.errors import InvocationTimeout, RemoteNotAuthorized
from dms.actor.handle import Address, Handle, protocol_of
from dms.allocation import messages as allocation_messages
from dms.identity.ids import ActorID
from dms.network.protocol import MAX_LARGE_MESSAGE_BYTES
from dms.node import payloads as p
from dms.node.machine_payloads import OffboardReply
from dms.orchestrator import messages as m
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.actors import key_of
from dms.testing.node_user import UserClient
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble, full_id
from dms.types import gojson
from dms.types.errors import DMSError
from dms.types.ids import Capability, EnsembleID
from dms.types.resources import CPU, RAM, Disk

ONE = m.CommitResources(cpu=CPU(cores=1.0), ram=RAM(size=1 << 30), disk=Disk(size=1 << 30))
EVIL = EnsembleID("e" * 64)


async def orchestrator(node: SimulatedNode, inbox: str = "orchestrator") -> tuple[Actor, list[m.BidRequest]]:
    """An orchestrator that does what a test tells it to."""
    actor = await node.node.root.create_child(inbox, key_of(f"{node.name}/{inbox}"))
    bids: list[m.BidRequest] = []

    async def on_bid(message: object) -> None:
        bids.append(message.envelope)  # type: ignore[attr-defined]

    actor.on(m.BID, on_bid)
    return actor, bids


async def get_bid(actor: Actor, provider: SimulatedNode, id_: str = EVIL, node: str = "n1") -> None:
    """Have the provider bid for one node of an ensemble."""
    wanted = m.NodeRequest(node_id=node, executors=("null",), resources=ONE)
    request = m.BidRequest(id=EnsembleID(id_), nonce="1", request=(m.VersionedNodeRequest(v1=wanted),))
    await actor.send(provider.node.root.handle, m.BID_REQUEST, request, reply_to=m.BID)
    await trio.sleep(1)


def commit_request(id_: str = EVIL, key: str = "n1.a", **members: Any) -> m.CommitRequest:
    whole = m.CommitRequest(
        ensemble_id=EnsembleID(id_), allocation_id=f"{id_}_{key}", node_id=key.partition(".")[0], resources=ONE
    )
    return msgspec.structs.replace(whole, **members)


async def commit(actor: Actor, provider: SimulatedNode, request: m.CommitRequest) -> m.CommitReply:
    return await actor.invoke(provider.node.root.handle, m.COMMIT, request, m.CommitReply, timeout_s=5)


def order() -> m.AllocationOrder:
    config = ensemble({"n1": {"a": "service"}}).v1.allocations["a"]
    return m.AllocationOrder(type="service", executor="null", resources=config.resources, execution=config.execution)


async def allocate(actor: Actor, provider: SimulatedNode, id_: str = EVIL, key: str = "n1.a") -> m.AllocateReply:
    request = m.AllocateRequest(
        ensemble_id=EnsembleID(id_), node_id=key.partition(".")[0], allocations={f"{id_}_{key}": order()}
    )
    return await actor.invoke(provider.node.root.handle, m.ALLOCATE, request, m.AllocateReply, timeout_s=5)


async def test_a_user_without_authority_gets_no_answer_and_nothing_happens(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice", offers=FOUR_CORES)
    stranger = UserClient(alice, key_of("somebody"))
    for name, payload in (
        ("new", p.NewDeployment(ensemble=ensemble({"n1": {"a": "task"}}))),
        ("list", p.ListRequest()),
        ("prune", p.PruneRequest(all=True)),
    ):
        with pytest.raises(InvocationTimeout):
            await stranger.call(name, payload, p.OKReply, timeout_s=80)
    with pytest.raises(InvocationTimeout):
        await stranger.invoke("/dms/node/onboarding/offboard", None, OffboardReply, timeout_s=5)
    assert alice.node.deployments.all() == ()
    assert alice.node.onboarding.is_onboarded
    assert alice.node.root.counters["dropped.not_authorized"] == 4


async def test_a_node_outside_the_organisation_cannot_deploy_here(autojump_clock: MockClock, cluster: Cluster) -> None:
    mallory = await cluster.start("mallory", is_member=False)
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await mallory.user.deploy(ensemble({"n1": {"a": "task"}}, peers={"n1": bob.peer}))
    state = await mallory.wait_for(job, Phase.FAILED)
    assert state.error == "failed to create deployment: no bids for n1"
    actor, _ = await orchestrator(mallory)
    for behaviour, request in ((m.COMMIT, commit_request()), (m.REVERT, m.RevertRequest(ensemble_id=EVIL))):
        with pytest.raises(InvocationTimeout):
            await actor.invoke(bob.node.root.handle, behaviour, request, m.Reply, timeout_s=5)
    assert bob.holdings() == {}


async def test_only_who_got_the_bid_may_commit_and_in_time(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    one, bids = await orchestrator(alice, "one")
    two, _ = await orchestrator(alice, "two")
    none = await commit(one, bob, commit_request())
    assert (none.ok, none.error) == (False, f"no bid requests for ensemble id: {EVIL}")
    await get_bid(one, bob)
    assert len(bids) == 1
    assert not (await commit(two, bob, commit_request())).ok
    other_node = await commit(one, bob, commit_request(key="n2.a"))
    assert (other_node.ok, other_node.error) == (False, f"no bid requests for ensemble id: {EVIL}")
    assert bob.holdings() == {}
    await trio.sleep(301)
    late = await commit(one, bob, commit_request())
    assert not late.ok
    assert "has expired" in late.error or "no bid requests" in late.error
    assert bob.holdings() == {}


NONSENSE: list[dict[str, Any]] = [
    {"allocation_id": "../../../etc"},
    {"allocation_id": f"{EVIL}_n1./etc"},
    {"allocation_id": f"{EVIL}_n1.a/../.."},
    {"allocation_id": f"{EVIL}_n1.."},
    {"allocation_id": f"{'f' * 64}_n1.a"},
    {"allocation_id": f"{EVIL}_n2.a"},
    {"allocation_id": f"{EVIL}_n1.{'a' * 300}"},
    {"allocation_id": ""},
    {"port_mapping": {"http": 80}},
    {"port_mapping": {"80": 80}},
    {"port_mapping": {"-1": 80}},
    {"resources": m.CommitResources(cpu=CPU(cores=-1.0))},
    {"resources": m.CommitResources(cpu=CPU(cores=100.0))},
    {"resources": m.CommitResources(ram=RAM(size=1 << 63))},
    {"dynamic_ports": (1,) * 5000},
]


async def test_commits_that_make_no_sense_are_refused_with_a_reason(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    actor, _ = await orchestrator(alice)
    await get_bid(actor, bob)
    for members in NONSENSE:
        reply = await commit(actor, bob, commit_request(**members))
        assert not reply.ok, members
        assert reply.error, members
        assert bob.holdings() == {}, members
    assert (await commit(actor, bob, commit_request())).ok


async def test_ids_of_ensembles_that_could_be_paths_get_no_bid(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    actor, bids = await orchestrator(alice)
    for id_ in ("../../x", "", "a b", "x/y", "é" * 8, "a" * 500, "a\n"):
        await get_bid(actor, bob, id_)
        assert bids == [], id_
    await get_bid(actor, bob)
    assert len(bids) == 1


async def test_commit_allocate_start_and_revert_may_come_twice(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on(".a-1", bob.executor._scripts[0][1])
    actor, _ = await orchestrator(alice)
    refused = await allocate(actor, bob)
    assert (refused.ok, refused.error) == (False, f"allocation not committed: {EVIL}_n1.a")
    await get_bid(actor, bob)
    first = await commit(actor, bob, commit_request())
    assert first.ok
    assert await commit(actor, bob, commit_request()) == first
    assert bob.node.resources.committed().cpu.cores == 1.0
    made = await allocate(actor, bob)
    assert made.ok
    assert await allocate(actor, bob) == made
    assert (bob.node.resources.committed().cpu.cores, bob.node.resources.allocated().cpu.cores) == (0.0, 1.0)
    handle = made.allocations[f"{EVIL}_n1.a"]
    for _ in range(2):
        request = allocation_messages.StartRequest()
        reply = await actor.invoke(handle, allocation_messages.START, request, allocation_messages.StartReply)
        assert reply.ok
    assert bob.starts(EVIL) == {"n1.a": 1}
    for _ in range(2):
        revert = m.RevertRequest(ensemble_id=EVIL)
        assert (await actor.invoke(bob.node.root.handle, m.REVERT, revert, m.Reply)).ok
        assert bob.holdings() == {}
    assert not (bob.cluster.work_dir / "bob" / "jobs" / f"{EVIL}_n1.a").exists()
    assert not (await commit(actor, bob, commit_request())).ok, "with the revert the bid is forgotten"


async def test_another_orchestrator_can_do_nothing_to_what_is_not_its_own(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    eve = await cluster.start("eve")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    actor, _ = await orchestrator(eve)
    id_ = full_id(job, "n1.web")
    root = bob.node.root.handle
    logs = m.AllocationLogsRequest(allocation=id_, stream="stdout", max_bytes=100)
    end = m.ShutdownAllocationRequest(allocation_id=id_)
    for behaviour, request in ((m.ensemble_logs(job), logs), (m.ensemble_shutdown(job), end)):
        with pytest.raises(RemoteNotAuthorized):
            await actor.invoke(root, behaviour, request, m.Reply, timeout_s=3)
    web = bob.node.hosting.find(job, id_)
    assert web is not None
    restart = allocation_messages.RESTART
    with pytest.raises(RemoteNotAuthorized):
        await actor.invoke(web.actor.handle, restart, {}, allocation_messages.StartReply, timeout_s=3)
    assert (await actor.invoke(root, m.REVERT, m.RevertRequest(ensemble_id=job), m.Reply)).ok
    await get_bid(actor, bob, job)
    hijack = await commit(actor, bob, commit_request(job, "n1.web"))
    assert not hijack.ok
    await get_bid(actor, bob, EVIL)
    assert not (await commit(actor, bob, commit_request(EVIL, allocation_id=id_))).ok
    assert not (await allocate(actor, bob, job, "n1.web")).ok
    await trio.sleep(200)
    assert bob.hosted_state(job, "n1.web") == "running"
    assert alice.state(job).phase is Phase.RUNNING


async def test_a_grant_for_one_ensemble_opens_no_other(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    eve = await cluster.start("eve")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    theirs = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    own = await eve.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(theirs, Phase.RUNNING)
    await eve.wait_for(own, Phase.RUNNING)
    actor = eve.node.deployments.live(own).actor
    logs = m.AllocationLogsRequest(allocation=full_id(theirs, "n1.web"), stream="stdout", max_bytes=100)
    with pytest.raises(RemoteNotAuthorized):
        await actor.invoke(bob.node.root.handle, m.ensemble_logs(theirs), logs, m.AllocationLogsReply, timeout_s=3)
    crossed = await actor.invoke(bob.node.root.handle, m.ensemble_logs(own), logs, m.AllocationLogsReply, timeout_s=3)
    assert crossed.error.startswith("allocation not found: ")


async def test_nobody_else_may_speak_for_an_allocation(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol"):
        await cluster.start(name, offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web1": "service"}, "n2": {"web2": "service"}}))
    state = await alice.wait_for(job, Phase.RUNNING)
    liar = cluster.of_peer(state.assignment["n1"].peer)
    assert liar.peer != state.assignment["n2"].peer
    own = liar.node.hosting.find(job, full_id(job, "n1.web1"))
    assert own is not None
    target = alice.node.deployments.live(job).actor.handle
    lie = m.TaskTermination(allocation_id=full_id(job, "n2.web2"), status="completed")
    reply = await own.actor.invoke(target, m.task_termination(job), lie, m.Reply)
    assert (reply.ok, reply.error) == (False, "not an allocation of this deployment")
    assert alice.state(job).allocations["n2.web2"].status == "running"


async def test_oversized_unsigned_and_garbled_messages_change_nothing(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    actor, _ = await orchestrator(alice)
    to, root = bob.peer, protocol_of("root")
    unsigned = actor.envelope(bob.node.root.handle, m.COMMIT, commit_request())
    await alice.network.send(to, root, unsigned.encode())
    await alice.network.send(to, root, b"\xff" * 1000)
    await alice.network.send(to, root, b"[" * 100_000)
    with pytest.raises(DMSError, match="message too large"):
        await alice.network.send(to, root, b"x" * (MAX_LARGE_MESSAGE_BYTES + 1))
    big = actor.envelope(
        bob.node.root.handle, m.BID_REQUEST, {"ID": EVIL, "Request": [{"V1": {"NodeID": "n1"}}] * 20_000}
    )
    await alice.network.send(to, root, actor.security.provide(big, [Capability(m.BID_REQUEST)]).encode())
    await trio.sleep(5)
    assert bob.holdings() == {}
    await alice.wait_for(await alice.user.deploy(ensemble({"n1": {"a": "task"}})), Phase.COMPLETED)


async def test_requests_of_the_wrong_shape_are_answered_or_dropped_and_hurt_nobody(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    actor, _ = await orchestrator(alice)
    shapes: list[object] = [None, [], "text", {"ID": 5}, {"Request": 7}, {"ID": EVIL, "Request": [None, {}]}]
    names = ("new", "list", "status", "manifest", "info", "events", "logs", "shutdown", "prune", "delete")
    for payload in shapes:
        for behaviour in (m.BID_REQUEST, m.COMMIT, m.ALLOCATE, m.REVERT):
            await actor.send(bob.node.root.handle, behaviour, payload)
        for name in names:
            answer = await alice.user.call(name, payload, dict[str, object], timeout_s=70)
            said = {str(v) for k, v in answer.items() if k.lower() == "error"}
            assert said or name == "list", (name, payload)
    assert bob.holdings() == {}
    await alice.wait_for(await alice.user.deploy(ensemble({"n1": {"a": "task"}})), Phase.COMPLETED)


async def test_bids_that_lie_are_refused_and_told(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    liar = await cluster.start("liar")
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    target = Handle(
        id=ActorID.of(alice.node.child_key(job).public),
        did=alice.node.root.handle.did,
        addr=Address(host=alice.peer, inbox=job),
    )
    for junk in ({"V1": {"NodeID": "n1"}}, {"V1": None}, {}, gojson.to_builtins(target)):
        await liar.node.root.send(target, m.BID, junk)
    await trio.sleep(1)
    refused = [e.detail["reason"] for e in await alice.user.events(job) if e.kind == "bid_refused"]
    assert len(refused) == 4
    assert alice.state(job).phase is Phase.PREPARING
