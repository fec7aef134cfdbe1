"""Deployments that wait for capacity, and those that end after a time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.node import payloads as p
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.node_user import DEPLOY_TIMEOUT_S
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID

MINUTE_MS = 60_000


async def submit(
    node: SimulatedNode, config: EnsembleConfig, *, queue_ms: int = 0, run_for_ms: int = 0
) -> p.NewDeploymentReply:
    request = p.NewDeployment(ensemble=config, queue_timeout_ms=queue_ms, run_for_ms=run_for_ms)
    return await node.user.call("new", request, p.NewDeploymentReply, timeout_s=DEPLOY_TIMEOUT_S)


async def waiting(node: SimulatedNode, config: EnsembleConfig, queue_min: int = 60) -> EnsembleID:
    reply = await submit(node, config, queue_ms=queue_min * MINUTE_MS)
    assert reply.status == "OK", reply.error
    return EnsembleID(reply.ensemble_id)


def service(name: str, cores: float = 3.0) -> EnsembleConfig:
    return ensemble({"n1": {name: "service"}}, cores=cores)


async def provider(cluster: Cluster) -> SimulatedNode:
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("-1", Script(None))  # everything runs until it is told to end
    return bob


async def busy(cluster: Cluster) -> tuple[SimulatedNode, SimulatedNode, EnsembleID]:
    """Somebody asks, somebody offers, and what there is is taken."""
    alice = await cluster.start("alice")
    bob = await provider(cluster)
    first = await alice.user.deploy(service("first"))
    await alice.wait_for(first, Phase.RUNNING)
    return alice, bob, first


async def test_a_deployment_waits_until_there_is_capacity(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, first = await busy(cluster)
    second = await waiting(alice, service("second"))
    await trio.sleep(20 * 60)
    status = await alice.user.status(second)
    assert status.status == "Preparing"
    assert status.queued_since
    assert status.queued_until
    assert "n1" in status.error

    await alice.user.shutdown(first)
    state = await alice.wait_for(second, Phase.RUNNING, timeout_s=60)

    assert (state.error, state.queued_ns) == ("", 0)
    assert not (await alice.user.status(second)).queued_since


async def test_it_fails_with_the_reason_when_nothing_came_in_time(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, _ = await busy(cluster)
    second = await waiting(alice, service("second"), queue_min=10)

    state = await alice.wait_until_settled(second)

    assert state.phase is Phase.FAILED
    assert "in the queue" in state.error
    assert "n1" in state.error
    assert 10 * 60 <= (state.completed_ns - state.created_ns) / 1e9 <= 11 * 60


@pytest.mark.matrix
@pytest.mark.parametrize("after_s", [0.0, 4.0, 9.0])
async def test_who_came_first_is_served_first(autojump_clock: MockClock, cluster: Cluster, after_s: float) -> None:
    alice, _, current = await busy(cluster)
    jobs = [await waiting(alice, service(f"job{number}")) for number in range(3)]
    await trio.sleep(60 + after_s)

    for job in jobs:
        await alice.user.shutdown(current)
        await alice.wait_for(job, Phase.RUNNING, timeout_s=60)
        assert [alice.state(each).phase for each in jobs].count(Phase.RUNNING) == 1
        current = job


async def test_a_small_deployment_does_not_wait_for_a_large_one(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, _ = await busy(cluster)
    large = await waiting(alice, service("large", cores=4.0))
    small = await waiting(alice, service("small", cores=1.0))

    await alice.wait_for(small, Phase.RUNNING, timeout_s=120)

    assert alice.state(large).phase is Phase.PREPARING


async def test_the_queue_survives_the_death_of_its_node(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, first = await busy(cluster)
    jobs = [await waiting(alice, service("one")), await waiting(alice, service("two"))]
    await trio.sleep(60)
    since = [alice.state(job).queued_ns for job in jobs]
    await alice.kill()
    await trio.sleep(60)
    await alice.start()
    assert [alice.state(job).queued_ns for job in jobs] == since

    await alice.user.shutdown(first)
    await alice.wait_for(jobs[0], Phase.RUNNING, timeout_s=120)

    assert alice.state(jobs[1]).phase is Phase.PREPARING


async def test_a_queued_deployment_can_be_shut_down(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, first = await busy(cluster)
    one, two = await waiting(alice, service("one")), await waiting(alice, service("two"))
    await trio.sleep(60)
    await alice.user.shutdown(one)
    state = await alice.wait_until_settled(one, timeout_s=60)
    assert state.phase is Phase.COMPLETED

    await alice.user.shutdown(first)
    await alice.wait_for(two, Phase.RUNNING, timeout_s=120)


async def test_so_many_of_one_user_may_wait(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    for _ in range(16):
        await waiting(alice, service("many"))

    reply = await submit(alice, service("more"), queue_ms=MINUTE_MS)

    assert reply.status == "ERROR"
    assert "wait for capacity already" in reply.error


@pytest.mark.parametrize(("queue_ms", "run_for_ms"), [(-1, 0), (0, -1), (10**14, 0), (0, 10**15)])
async def test_times_that_make_no_sense_are_refused(
    autojump_clock: MockClock, cluster: Cluster, queue_ms: int, run_for_ms: int
) -> None:
    alice = await cluster.start("alice")

    reply = await submit(alice, service("job"), queue_ms=queue_ms, run_for_ms=run_for_ms)

    assert reply.status == "ERROR"
    assert "must be between" in reply.error


async def test_a_deployment_ends_after_its_time(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await provider(cluster)
    reply = await submit(alice, service("web"), run_for_ms=20 * MINUTE_MS)
    job = EnsembleID(reply.ensemble_id)
    await alice.wait_for(job, Phase.RUNNING)
    assert (await alice.user.status(job)).ends_at
    await trio.sleep(19 * 60)
    assert alice.state(job).phase is Phase.RUNNING

    state = await alice.wait_until_settled(job, timeout_s=120)

    assert (state.phase, state.error) == (Phase.COMPLETED, "")
    reasons = [e.detail.get("reason") for e in await alice.user.events(job) if e.kind == "shutdown_requested"]
    assert reasons == ["it was to run for 20m 00s"]
    cluster.assert_nothing_is_held()


@pytest.mark.parametrize("down_min", [5, 40])
async def test_the_end_is_kept_over_a_restart(autojump_clock: MockClock, cluster: Cluster, down_min: int) -> None:
    alice = await cluster.start("alice")
    await provider(cluster)
    job = EnsembleID((await submit(alice, service("web"), run_for_ms=20 * MINUTE_MS)).ensemble_id)
    await alice.wait_for(job, Phase.RUNNING)
    ends_ns = alice.state(job).ends_ns
    await trio.sleep(60)
    await alice.kill()
    await trio.sleep(down_min * 60)
    await alice.start()

    state = await alice.wait_until_settled(job, timeout_s=30 * 60)

    assert state.phase is Phase.COMPLETED
    assert state.ends_ns == ends_ns
    assert state.completed_ns >= ends_ns


async def test_what_is_done_before_its_time_is_over_has_completed(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("a-1", Script(5))
    job = EnsembleID((await submit(alice, ensemble({"n1": {"a": "task"}}), run_for_ms=60 * MINUTE_MS)).ensemble_id)

    state = await alice.wait_until_settled(job, timeout_s=120)

    assert state.phase is Phase.COMPLETED
    await trio.sleep(1)
    assert not [view for view in alice.node.tasks.tasks() if view.name == "run_for"]
