"""What becomes of a running deployment when a part of it fails: checks, restarts, back-off, escalation."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.executor.protocol import ExecOutput
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.testing.nodes import until as until_often
from dms.types.ids import EnsembleID

until = partial(until_often, every_s=0.05)
KEY = "n1.web"
CHECK = {"type": "command", "exec": ["up"], "interval": 10 * 10**9}
SICK, WELL = Script(None, exec_output=ExecOutput(1, b"no", b"")), Script(None)


def service(**members: Any) -> EnsembleConfig:
    return ensemble({"n1": {"web": "service"}}, allocation={"failure_recovery": "one_for_one"} | members)


async def deployed(cluster: Cluster, config: EnsembleConfig, *names: str) -> tuple[SimulatedNode, EnsembleID]:
    alice = await cluster.start("alice")
    for name in names or ("bob",):
        await cluster.start(name, offers=FOUR_CORES)
    job = await alice.user.deploy(config)
    await alice.wait_for(job, Phase.RUNNING)
    return alice, job


async def ended(cluster: Cluster, alice: SimulatedNode, job: EnsembleID) -> None:
    """Shut down, and see that nothing is left anywhere."""
    if not alice.state(job).phase.is_final:
        await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(20)
    cluster.assert_nothing_is_held()


async def kinds(alice: SimulatedNode, job: EnsembleID) -> list[str]:
    return [event.kind for event in await alice.user.events(job)]


async def test_a_service_that_fails_is_started_again_where_it_was(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster, service())
    bob = cluster.nodes["bob"]
    ports = alice.state(job).allocations[KEY].ports
    bob.executor.on("web-2", Script(None))
    bob.executor.end(f"{job}_n1.web-1", exit_code=3)
    await until(lambda: alice.state(job).allocations[KEY].restarts == 1)
    record = alice.state(job).allocations[KEY]
    assert (record.status, record.execution, record.error, record.ports) == ("running", 2, "", ports)
    assert (alice.state(job).phase, alice.state(job).error) == (Phase.RUNNING, "")
    assert (bob.starts(job), bob.hosted_state(job, KEY)) == ({KEY: 2}, "running")
    assert "restarts_done" in await kinds(alice, job)
    await ended(cluster, alice, job)


async def test_without_a_strategy_it_stays_down(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster, ensemble({"n1": {"web": "service"}}))
    cluster.nodes["bob"].executor.end(f"{job}_n1.web-1", exit_code=3)
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "n1.web: killed from outside"
    await ended(cluster, alice, job)


async def test_what_fails_again_and_again_waits_longer_each_time_and_stays_down_in_the_end(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    for number in range(1, 6):
        bob.executor.on(f"web-{number}", Script(1.0, exit_code=3))
    job = await alice.user.deploy(service())
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "n1.web: exit code 3"
    assert bob.starts(job) == {KEY: 4}, "once, and three restarts"
    events = await alice.user.events(job)
    restarted = [e.at for e in events if e.kind == "restarts_done"]
    gaps_s = [(later - earlier) / 10**9 for earlier, later in pairwise(restarted)]
    assert [round(gap_s) for gap_s in gaps_s] == [3, 5], "a second of life, and 2 or 4 of waiting"
    await ended(cluster, alice, job)


async def test_after_a_while_without_failures_the_restarts_are_forgiven(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster, service())
    bob = cluster.nodes["bob"]
    for number in range(1, 7):
        bob.executor.on(f"web-{number + 1}", Script(None))
        bob.executor.end(f"{job}_n1.web-{number}")
        await until(lambda number=number: alice.state(job).allocations[KEY].restarts == number)  # type: ignore[misc]
        await trio.sleep(700)
    assert alice.state(job).phase is Phase.RUNNING
    await ended(cluster, alice, job)


async def test_a_check_that_fails_three_times_restarts_the_service(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", SICK)
    bob.executor.on("web-2", WELL)
    job = await alice.user.deploy(service(healthcheck=CHECK))
    await alice.wait_for(job, Phase.RUNNING)
    begun = trio.current_time()
    await until(lambda: alice.state(job).allocations[KEY].health == "unhealthy")
    assert "up ended with exit code 1" in alice.state(job).allocations[KEY].health_problem
    await until(lambda: alice.state(job).allocations[KEY].restarts)
    assert 20 <= trio.current_time() - begun <= 23, "three checks, ten seconds apart, and a second of waiting"
    await until(lambda: alice.state(job).allocations[KEY].health == "healthy")
    assert bob.starts(job) == {KEY: 2}
    health = [e.detail for e in await alice.user.events(job) if e.kind == "health_changed"]
    assert [each["health"] for each in health] == ["unhealthy", "unhealthy", "healthy"]
    await ended(cluster, alice, job)


async def test_under_stay_down_a_failing_check_is_told_and_the_service_goes_on(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", SICK)
    job = await alice.user.deploy(service(failure_recovery="stay_down", healthcheck=CHECK))
    await until(lambda: alice.state(job).allocations and alice.state(job).allocations[KEY].health == "unhealthy")
    await trio.sleep(300)
    assert (bob.starts(job), alice.state(job).phase) == ({KEY: 1}, Phase.RUNNING)
    await ended(cluster, alice, job)


async def test_in_the_time_after_a_start_failing_checks_do_not_count(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", SICK)
    job = await alice.user.deploy(service(healthcheck=CHECK | {"start_delay": 120 * 10**9, "failures": 2}))
    await alice.wait_for(job, Phase.RUNNING)
    begun = trio.current_time()
    bob.executor.on("web-2", WELL)
    await until(lambda: alice.state(job).allocations[KEY].restarts)
    assert 128 <= trio.current_time() - begun <= 135
    await ended(cluster, alice, job)


async def test_a_task_that_ends_well_is_not_started_again(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(
        cluster, ensemble({"n1": {"count": "task"}}, allocation={"failure_recovery": "one_for_one"})
    )
    await alice.wait_for(job, Phase.COMPLETED)
    assert cluster.nodes["bob"].starts(job) == {"n1.count": 1}
    await ended(cluster, alice, job)


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        ("one_for_one", {"n1.web1": 2, "n1.web": 1, "n1.web2": 1}),
        ("one_for_all", {"n1.web1": 2, "n1.web": 2, "n1.web2": 2}),
        ("rest_for_one", {"n1.web1": 2, "n1.web": 1, "n1.web2": 2}),
    ],
)
async def test_who_is_restarted_with_whom(
    autojump_clock: MockClock, cluster: Cluster, strategy: str, restarted: dict[str, int]
) -> None:
    names = ["web", "web1", "web2"]
    config = ensemble(
        {"n1": dict.fromkeys(names, "service")}, allocation={"failure_recovery": strategy}, cores=0.5, ram_bytes=1 << 28
    )
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    for name in names:
        bob.executor.on(f"{name}-2", Script(None))
    job = await alice.user.deploy(config)
    await alice.wait_for(job, Phase.RUNNING)
    bob.executor.end(f"{job}_n1.web1-1")
    await until(lambda: bob.starts(job) == restarted, timeout_s=60)
    await trio.sleep(30)
    assert bob.starts(job) == restarted
    assert {r.status for r in alice.state(job).allocations.values()} == {"running"}
    await ended(cluster, alice, job)


async def test_the_orchestrator_may_die_while_it_restarts_something(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster, service())
    bob = cluster.nodes["bob"]
    bob.executor.on("web-2", Script(None, start_takes_s=20))
    bob.executor.end(f"{job}_n1.web-1")
    await until(lambda: alice.state(job).allocations[KEY].due_ns)
    await trio.sleep(5)  # the restart is under way
    await alice.restart()
    await until(lambda: alice.state(job).allocations[KEY].status == "running", timeout_s=120)
    await trio.sleep(60)
    assert bob.starts(job) == {KEY: 2}, "asked twice, restarted once"
    await ended(cluster, alice, job)


async def test_the_provider_may_die_before_the_restart(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, job = await deployed(cluster, service())
    bob = cluster.nodes["bob"]
    bob.executor.on("web-2", Script(None))
    bob.executor.end(f"{job}_n1.web-1")
    await until(lambda: alice.state(job).allocations[KEY].due_ns)
    await bob.kill()
    await trio.sleep(8)
    await bob.start()
    await until(lambda: alice.state(job).allocations[KEY].status == "running", timeout_s=120)
    assert bob.starts(job) == {KEY: 2}
    await ended(cluster, alice, job)


async def test_teardown_ends_everything_when_nothing_helps(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    for number in range(1, 6):
        bob.executor.on(f"web1-{number}", Script(1.0, exit_code=3))
    config = ensemble(
        {"n1": {"web": "service", "web1": "service"}},
        allocation={"failure_recovery": "one_for_one"},
        escalation_strategy="teardown",
    )
    job = await alice.user.deploy(config)
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error.startswith("torn down: n1.web1: exit code 3")
    assert bob.starts(job) == {KEY: 1, "n1.web1": 4}
    await ended(cluster, alice, job)


async def test_redeploy_begins_anew_when_nothing_helps(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", Script(1.0, exit_code=3))
    config = ensemble({"n1": {"web": "service"}}, escalation_strategy="redeploy")
    job = await alice.user.deploy(config)
    await alice.wait_for(job, Phase.RUNNING)
    await alice.wait_for(job, Phase.PREPARING)
    bob.executor.on("web-1", Script(None))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(700)
    assert (alice.state(job).phase, alice.state(job).error) == (Phase.RUNNING, "")
    await ended(cluster, alice, job)
