"""Updates of running deployments: add, verify, then remove; and what ran runs on whatever goes wrong."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from dms.ensemble.config import EdgeConfig, EnsembleConfig, HealthCheckManifest, VolumeConfig
from dms.executor.protocol import ExecOutput
from dms.node import updating_payloads as u
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.updating.merging import in_force
from dms.orchestrator.updating.moves import moves_between
from dms.orchestrator.updating.state import Update
from dms.orchestrator.updating.turning import Both
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.testing.nodes import until as until_often
from dms.types.errors import DMSError
from dms.types.ids import EnsembleID, PeerID

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
            cluster.nodes[name].executor.on(f"web-{number:04d}-1", Script(duration_s=None))
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


def with_nodes(config: EnsembleConfig, **nodes: str) -> EnsembleConfig:
    """With more nodes, each with one service; ``n3="web2"``."""
    more = ensemble({name: {service: "service"} for name, service in nodes.items()})
    v1 = config.v1
    return EnsembleConfig(
        v1=msgspec.structs.replace(
            v1,
            nodes=v1.nodes | more.v1.nodes,
            allocations=v1.allocations | more.v1.allocations,
        )
    )


def without(config: EnsembleConfig, node: str) -> EnsembleConfig:
    names = set(config.v1.nodes[node].allocations)
    return EnsembleConfig(
        v1=msgspec.structs.replace(
            config.v1,
            nodes={name: each for name, each in config.v1.nodes.items() if name != node},
            allocations={name: each for name, each in config.v1.allocations.items() if name not in names},
        )
    )


def group(count: int) -> EnsembleConfig:
    config = ensemble({"worker": {"web": "service"}})
    node = msgspec.structs.replace(config.v1.nodes["worker"], count=count)
    return EnsembleConfig(v1=msgspec.structs.replace(config.v1, nodes={"worker": node}))


async def test_nodes_are_added_and_removed(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    await updated(alice, job, without(with_nodes(OLD, n3="web2"), "n1"))
    await trio.sleep(1)
    assert running(cluster, job).keys() == {"n2.web1", "n3.web2"}
    assert alice.state(job).assignment.keys() == {"n2", "n3"}
    await ended(cluster, alice, job)


async def test_a_group_grows_and_shrinks_and_those_that_stay_are_not_touched(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster, group(2))
    first = running(cluster, job)
    request = u.ScaleRequest(id=job, counts={"worker": 4})
    reply = await alice.user.call("scale", request, u.UpdateReply, timeout_s=UPDATE_TIMEOUT_S)
    assert reply.ok, reply.error
    assert reply.what == "2 added: worker-*"
    await until(lambda: alice.state(job).update is None)
    grown = running(cluster, job)
    assert len(grown) == 4
    assert first.items() <= grown.items()
    request = u.ScaleRequest(id=job, counts={"worker": 1})
    assert (await alice.user.call("scale", request, u.UpdateReply, timeout_s=UPDATE_TIMEOUT_S)).ok
    await until(lambda: alice.state(job).update is None)
    await trio.sleep(1)
    assert running(cluster, job).keys() == {"worker-0001.web-0001"}
    assert sum(node.starts(job).get("worker-0001.web-0001", 0) for node in cluster.nodes.values()) == 1
    await ended(cluster, alice, job)


async def test_without_room_beside_it_the_old_one_ends_first_and_comes_back_if_the_new_one_fails(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    config = ensemble({"n1": {"web": "service"}}, cores=3.0)
    alice, job = await deployed(cluster, config, ("bob",))
    await updated(alice, job, changed(config, "web", cores=2.5))
    await trio.sleep(1)
    assert running(cluster, job) == {"n1-g1.web-g1": "bob"}
    cluster.nodes["bob"].executor.on("web-g2-1", Script(duration_s=1.0, exit_code=1))
    await updated(alice, job, changed(config, "web", cores=2.0))
    await until(lambda: alice.state(job).allocations["n1.web"].status == "running")
    await trio.sleep(1)
    assert running(cluster, job) == {"n1.web": "bob"}
    assert outcomes(alice, job) == ["superseded", "current", "reverted"]
    await ended(cluster, alice, job)


async def test_who_wants_no_gap_gets_a_refusal_instead(autojump_clock: MockClock, cluster: Cluster) -> None:
    config = ensemble({"n1": {"web": "service"}}, cores=3.0)
    alice, job = await deployed(cluster, config, ("bob",))
    before = running(cluster, job)
    await updated(alice, job, changed(config, "web", cores=2.5), no_gap=True)
    assert outcomes(alice, job) == ["current", "reverted"]
    assert running(cluster, job) == before
    await ended(cluster, alice, job)


async def test_a_batch_that_fails_takes_back_those_before_it(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    for name in PROVIDERS:
        cluster.nodes[name].executor.on("web1-g1-1", Script(duration_s=1.0, exit_code=1))
    await updated(alice, job, changed(OLD, "web", "web1"), batch=1)
    await trio.sleep(1)
    assert running(cluster, job).keys() == {"n1-g2.web-g2", "n2.web1"}
    assert alice.state(job).version == 1
    assert alice.node.deployments.get(job).config.v1.allocations["web"].resources.cpu.cores == 1.0
    assert outcomes(alice, job) == ["current", "reverted"]
    await ended(cluster, alice, job)


async def test_a_second_update_is_refused_while_one_is_under_way_and_the_same_request_is_no_second(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster)
    first = await update(alice, job, changed(OLD, "web"), request="r1")
    again = await update(alice, job, changed(OLD, "web"), request="r1")
    assert (first.version, again.version) == (2, 2)
    second = await update(alice, job, changed(OLD, "web1"), request="r2")
    assert not second.ok
    assert "version 2 is being rolled out" in second.error
    await until(lambda: alice.state(job).update is None)
    assert (await update(alice, job, changed(OLD, "web"), request="r1")).version == 2
    replies = list[u.UpdateReply]()

    async def ask(request: str, cores: float) -> None:
        replies.append(await update(alice, job, changed(OLD, "web", cores=cores), request=request))

    async with trio.open_nursery() as nursery:  # at once: one of them, and that once
        nursery.start_soon(ask, "r3", 0.5)
        nursery.start_soon(ask, "r3", 0.5)
        nursery.start_soon(ask, "r4", 0.75)
    assert {reply.version for reply in replies if reply.ok} == {3}
    await until(lambda: alice.state(job).update is None)
    assert outcomes(alice, job) == ["superseded", "superseded", "current"]
    stale = await update(alice, job, changed(OLD, "web1"), expect=1)
    assert "version 3 is in force, not 1" in stale.error
    await ended(cluster, alice, job)


async def test_what_cannot_change_while_it_runs_is_refused_with_the_reason(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster)
    pinned = msgspec.structs.replace(OLD.v1.nodes["n1"], peer=cluster.nodes["bob"].peer)
    config = EnsembleConfig(v1=msgspec.structs.replace(OLD.v1, nodes=OLD.v1.nodes | {"n1": pinned}))
    reply = await update(alice, job, config)
    assert not reply.ok
    assert "cannot change" in reply.error
    same = await update(alice, job, OLD)
    assert (same.ok, same.changed, same.what) == (True, False, "nothing")
    assert alice.state(job).versions == ()
    await ended(cluster, alice, job)


async def test_a_cancelled_update_leaves_what_ran(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    before = running(cluster, job)
    assert (await update(alice, job, changed(OLD, "web"), healthy_for_ms=60_000)).ok
    await until(lambda: "n1-g1.web-g1" in running(cluster, job))
    assert (await alice.user.status(job)).status == "Updating"
    cancelled = await alice.user.call("update/cancel", u.VersionsRequest(id=job), u.UpdateReply)
    assert cancelled.ok
    await until(lambda: alice.state(job).update is None)
    await trio.sleep(1)
    assert running(cluster, job) == before
    assert outcomes(alice, job) == ["current", "cancelled"]
    again = await alice.user.call("update/cancel", u.VersionsRequest(id=job), u.UpdateReply)
    assert not again.ok
    await ended(cluster, alice, job)


async def test_a_revert_is_a_version_of_its_own(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    await updated(alice, job, changed(OLD, "web"))
    reply = await alice.user.call("revert", u.RevertRequest(id=job), u.UpdateReply, timeout_s=UPDATE_TIMEOUT_S)
    assert reply.ok, reply.error
    await until(lambda: alice.state(job).update is None)
    history = await alice.user.call("versions", u.VersionsRequest(id=job), u.VersionsReply)
    assert [(v.number, v.outcome, v.copy_of) for v in history.versions] == [
        (1, "superseded", 0),
        (2, "superseded", 0),
        (3, "current", 1),
    ]
    assert all(v.by for v in history.versions)
    kept = await alice.user.call("version", u.VersionsRequest(id=job, number=2), u.VersionReply)
    assert kept.ensemble == changed(OLD, "web")
    assert alice.node.deployments.get(job).config == OLD
    unknown = await alice.user.call("revert", u.RevertRequest(id=job, to=9), u.UpdateReply, timeout_s=UPDATE_TIMEOUT_S)
    assert "version 9" in unknown.error
    await ended(cluster, alice, job)


async def test_a_shutdown_wins_over_an_update(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    assert (await update(alice, job, changed(OLD, "web"), healthy_for_ms=60_000)).ok
    await until(lambda: "n1-g1.web-g1" in running(cluster, job))
    await alice.user.shutdown(job)
    state = await alice.wait_until_settled(job)
    assert state.phase is Phase.COMPLETED
    assert outcomes(alice, job) == ["current", "cancelled"]
    await ended(cluster, alice, job)


async def test_an_update_waits_for_capacity_if_it_may(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster, names=("bob",))
    other = await alice.user.deploy(ensemble({"n9": {"web2": "service"}}, cores=2.0))
    await alice.wait_for(other, Phase.RUNNING)
    reply = await update(alice, job, with_nodes(OLD, n3="web2"), queue_timeout_ms=3_600_000)
    assert reply.ok, reply.error
    await trio.sleep(300)
    assert alice.state(job).update is not None
    await alice.user.shutdown(other)
    await until(lambda: alice.state(job).update is None)
    assert outcomes(alice, job) == ["superseded", "current"]
    await ended(cluster, alice, job)


async def test_a_machine_that_dies_during_an_update_costs_a_try(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    assert (await update(alice, job, changed(OLD, "web"), healthy_for_ms=30_000)).ok
    await until(lambda: "n1-g1.web-g1" in running(cluster, job))
    where = running(cluster, job)["n1-g1.web-g1"]
    if where in {running(cluster, job)["n1.web"], running(cluster, job)["n2.web1"]}:
        cluster.nodes[where].executor.end(
            next(e for e in cluster.nodes[where].executor._executions if e.endswith("web-g1-1"))
        )
        await until(lambda: alice.state(job).update is None)
        assert outcomes(alice, job) == ["current", "reverted"]
    else:
        await cluster.nodes[where].kill()
        await until(lambda: alice.state(job).update is None)
        assert outcomes(alice, job) == ["superseded", "current"]
        assert running(cluster, job)["n1-g1.web-g1"] != where
        await cluster.nodes[where].start()
    await ended(cluster, alice, job)


@pytest.mark.matrix
@pytest.mark.parametrize("steps", [1, 3, 6, 8])
@pytest.mark.parametrize("fails", [False, True])
async def test_an_orchestrator_that_dies_at_any_step_goes_on_or_takes_it_back(
    autojump_clock: MockClock, cluster: Cluster, steps: int, fails: bool
) -> None:
    alice, job = await deployed(cluster)
    if fails:
        for name in PROVIDERS:
            cluster.nodes[name].executor.on("web1-g1-1", Script(duration_s=1.0, exit_code=1))
    before = running(cluster, job)
    alice.die_after(steps)
    with contextlib.suppress(DMSError):
        with trio.move_on_after(20):
            await update(alice, job, changed(OLD, "web", "web1"), batch=1)
    with trio.move_on_after(120):
        await alice.died.wait()
    if not alice.is_running:
        await alice.start()
    await until(lambda: alice.state(job).update is None)
    await until(lambda: not alice.state(job).left)
    state, now = alice.state(job), running(cluster, job)
    assert all(record.status == "running" for record in state.allocations.values())
    assert {record.id.removeprefix(f"{job}_") for record in state.allocations.values()} == now.keys()
    if not state.versions:
        assert now == before
    assert outcomes(alice, job) in ([], ["superseded", "current"], ["current", "reverted"])
    assert state.version == (2 if outcomes(alice, job)[:1] == ["superseded"] else 1)
    await ended(cluster, alice, job)


def with_health(config: EnsembleConfig, name: str, seconds: int, start_delay_s: int = 0) -> EnsembleConfig:
    delay = start_delay_s * 10**9
    check = HealthCheckManifest(type="command", exec=("up",), interval=seconds * 10**9, start_delay=delay)
    allocations = dict(config.v1.allocations)
    allocations[name] = msgspec.structs.replace(allocations[name], healthcheck=check)
    return EnsembleConfig(v1=msgspec.structs.replace(config.v1, allocations=allocations))


def with_node(config: EnsembleConfig, name: str, **members: Any) -> EnsembleConfig:
    node = msgspec.structs.replace(config.v1.nodes[name], **members)
    return EnsembleConfig(v1=msgspec.structs.replace(config.v1, nodes=config.v1.nodes | {name: node}))


async def test_what_has_a_check_takes_over_once_it_is_healthy(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    began_s = trio.current_time()
    await updated(alice, job, with_health(changed(OLD, "web"), "web", 5), healthy_for_ms=20_000)
    assert 20 <= trio.current_time() - began_s < 40
    assert alice.state(job).allocations["n1.web"].health == "healthy"
    await ended(cluster, alice, job)


async def test_what_is_never_healthy_is_taken_back(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    ill = Script(duration_s=None, exec_output=ExecOutput(1, b"", b"ill"))
    for name in PROVIDERS:
        cluster.nodes[name].executor.on("web-g1-1", ill)
    before = running(cluster, job)
    await updated(alice, job, with_health(changed(OLD, "web"), "web", 5))
    await trio.sleep(1)
    assert running(cluster, job) == before
    assert "unhealthy" in alice.state(job).versions[-1].error
    await ended(cluster, alice, job)


async def test_what_may_queue_for_long_is_not_watched_for_as_long(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    ill = Script(duration_s=None, exec_output=ExecOutput(1, b"", b"ill"))
    for name in PROVIDERS:
        cluster.nodes[name].executor.on("web-g1-1", ill)
    config = with_health(changed(OLD, "web"), "web", 5, start_delay_s=7_200)
    began_s = trio.current_time()
    await updated(alice, job, config, queue_timeout_ms=86_400_000)
    assert trio.current_time() - began_s < 2 * UPDATE_TIMEOUT_S
    assert outcomes(alice, job) == ["current", "reverted"]
    await ended(cluster, alice, job)


async def test_settings_change_without_a_restart_and_standbys_follow(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster)
    before = running(cluster, job)
    await updated(alice, job, with_node(OLD, "n1", redundancy=1))
    await until(lambda: "n1-standby-1" in alice.state(job).assignment and not alice.state(job).placements)
    assert running(cluster, job) == before
    await updated(alice, job, changed(with_node(OLD, "n1", redundancy=1), "web"))
    await until(lambda: "n1-standby-1" in alice.state(job).assignment and not alice.state(job).placements)
    state = alice.state(job)
    assert state.allocations["n1-standby-1.web"].status == "standby"
    assert state.assignment["n1"].peer != state.assignment["n1-standby-1"].peer
    host = cluster.of_peer(state.assignment["n1"].peer)
    await host.kill()
    await until(lambda: alice.state(job).allocations["n1.web"].id.endswith("n1-standby-1.web"))
    await host.start()
    await updated(alice, job, changed(OLD, "web", cores=0.5))
    await until(lambda: not alice.state(job).left)
    assert not any(record.is_standby for record in alice.state(job).allocations.values())
    await ended(cluster, alice, job)


async def test_a_node_with_data_ends_first_and_stays_on_its_machine(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    volume = VolumeConfig(type="local", src="data", mount_destination="/data")

    def with_data(config: EnsembleConfig) -> EnsembleConfig:
        allocation = msgspec.structs.replace(config.v1.allocations["web"], volume=(volume,))
        v1 = msgspec.structs.replace(config.v1, allocations=config.v1.allocations | {"web": allocation})
        return EnsembleConfig(v1=v1)

    moves = moves_between(with_data(OLD), with_data(changed(OLD, "web")), {})
    assert moves.stops.keys() == {"n1"}
    both = Both(with_data(OLD), with_data(changed(OLD, "web")))
    home = PeerID("12D3KooWHome")
    update_ = Update(
        version=2,
        serial=1,
        ensemble=EnsembleID("e"),
        begun_ns=0,
        deadline_ns=1,
        moves=moves,
        batch=("n1",),
        stopped={"n1": home},
    )
    assert in_force(both.old, both.new, update_).v1.nodes["n1-g1"].peer == home


async def test_edges_to_what_stays_are_kept_by_what_is_new(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster)
    stays = alice.state(job).assignment["n2"].peer
    near = next(name for name in PROVIDERS if cluster.nodes[name].peer != stays)
    for name in PROVIDERS:
        node = cluster.nodes[name]
        if name != near and node.peer != stays:
            cluster.network.set_link(node.network, cluster.of_peer(stays).network, delay_s=0.4)
    config = with_nodes(OLD, n3="web2")
    edges = (EdgeConfig(s="n3", t="n2", rtt=100),)
    await updated(alice, job, EnsembleConfig(v1=msgspec.structs.replace(config.v1, edges=edges)))
    state = alice.state(job)
    assert outcomes(alice, job) == ["superseded", "current"]
    assert state.assignment["n3"].peer in {stays, cluster.nodes[near].peer}
    assert state.assignment["n2"].peer == stays
    await ended(cluster, alice, job)


async def test_a_deployment_that_ends_by_itself_after_an_update_is_completed(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    config = ensemble({"n1": {"web": "service"}, "n2": {"count": "task"}})
    alice, job = await deployed(cluster, config)
    await until(lambda: alice.state(job).allocations["n2.count"].is_over)
    await updated(alice, job, without(config, "n1"))
    state = await alice.wait_until_settled(job)
    assert state.phase is Phase.COMPLETED
    assert sum(node.starts(job).get("n2.count", 0) for node in cluster.nodes.values()) == 1
    await ended(cluster, alice, job)
