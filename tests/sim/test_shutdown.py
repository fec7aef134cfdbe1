"""The user ends a deployment, in whatever phase it is."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.executor.errors import StartFailed
from dms.node import payloads as p
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.messages import Reply
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble, until

CREATING = [Phase.PREPARING, Phase.COMMITTING, Phase.PROVISIONING, Phase.RUNNING]


@pytest.mark.matrix
@pytest.mark.parametrize("phase", CREATING, ids=lambda phase: phase.value)
async def test_a_shutdown_in_any_phase_leaves_nothing_behind(
    autojump_clock: MockClock, cluster: Cluster, phase: Phase
) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol"):
        node = await cluster.start(name, offers=FOUR_CORES)
        node.executor.on("slow-1", Script(None, start_takes_s=20))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}, "n2": {"slow": "service"}}))
    await alice.wait_for(job, phase)
    assert (await alice.user.shutdown(job)).ok
    assert alice.state(job).phase in (Phase.SHUTTING_DOWN, Phase.COMPLETED), "it is on disk when it is acknowledged"
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert {r.status for r in state.allocations.values()} == {"terminated"}
    assert state.error == ""
    await alice.wait_until_settled(job)
    await trio.sleep(1)
    cluster.assert_nothing_is_held()


async def test_a_shutdown_in_the_middle_of_a_start_ends_it(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("slow-1", Script(None, start_takes_s=60))
    job = await alice.user.deploy(ensemble({"n1": {"slow": "service"}}))
    await alice.wait_for(job, Phase.PROVISIONING)
    await trio.sleep(5)
    await alice.user.shutdown(job)
    asked = trio.current_time()
    await alice.wait_for(job, Phase.COMPLETED)
    assert trio.current_time() - asked < 5
    await trio.sleep(100)
    assert bob.starts(job) == {}
    cluster.assert_nothing_is_held()


async def test_a_workload_that_will_not_end_is_killed(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", Script(None, cancel_takes_s=1000))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await alice.user.shutdown(job)
    asked = trio.current_time()
    await alice.wait_for(job, Phase.COMPLETED)
    assert 4 < trio.current_time() - asked < 10, "it had its five seconds"
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()


async def test_a_provider_that_cannot_be_reached_is_named(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await bob.kill()
    await alice.user.shutdown(job)
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert state.error == "could not reach n1.web"
    unanswered = [e.detail for e in await alice.user.events(job) if e.kind == "shutdown_unanswered"]
    assert [e["peer"] for e in unanswered] == [bob.peer] * 3, "it was tried again"


async def test_a_second_shutdown_changes_nothing_and_a_late_one_is_an_error(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", Script(None, cancel_takes_s=3))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    assert (await alice.user.shutdown(job)).ok
    assert (await alice.user.shutdown(job)).ok
    await alice.wait_until_settled(job)
    events = [e.kind for e in await alice.user.events(job)]
    assert events.count("shutdown_requested") == events.count("shutdown_done") == 1
    late = await alice.user.shutdown(job)
    assert (late.ok, late.error) == (False, "deployment is not running: it is Completed")
    unknown = await alice.user.call("shutdown", p.DeploymentRequest(id="f" * 64), Reply)
    assert (unknown.ok, unknown.error) == (False, f"deployment not found: {'f' * 64}")


async def test_a_shutdown_while_the_last_attempt_is_given_back_still_gives_it_back(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol"):
        node = await cluster.start(name, offers=FOUR_CORES)
        node.executor.on("broken-1", Script(start_takes_s=1, start_error=StartFailed("disk broken")))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}, "n2": {"broken": "task"}}))
    state = await alice.wait_for(job, Phase.PROVISIONING)
    web = cluster.of_peer(state.assignment["n1"].peer)
    await until(lambda: web.starts(job))
    cluster.network.set_link(alice.network, web.network, delay_s=2.0)
    await until(lambda: alice.state(job).phase is Phase.PREPARING)
    assert alice.state(job).owed
    await alice.user.shutdown(job)
    cluster.network.set_link(alice.network, web.network, delay_s=0.005)
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()
