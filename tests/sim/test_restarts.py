"""Nodes that are killed, at the worst moments, and come back with what is on their disk."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.actor.health import HEALTH_CHECK, REGISTER, HealthReply
from dms.executor.errors import StartFailed
from dms.executor.protocol import ExecOutput
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble, until
from dms.types.ids import AllocationID, EnsembleID

TWO = {"n1": {"task": "task"}, "n2": {"web": "service"}}


async def start_three(cluster: Cluster, *, file: bool = False) -> None:
    await cluster.start("alice", store_file=file)
    for name in ("bob", "carol"):
        node = await cluster.start(name, offers=FOUR_CORES, store_file=file)
        node.executor.on("task-1", Script(20, stdout=((1, b"result\n"),)))


def all_starts(cluster: Cluster, job: EnsembleID) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in cluster.nodes.values():
        for key, times in node.starts(job).items():
            found[key] = found.get(key, 0) + times
    return found


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("phase", "down_s"),
    [
        (Phase.PREPARING, 0.0),
        (Phase.COMMITTING, 0.0),
        (Phase.COMMITTING, 40.0),
        (Phase.PROVISIONING, 0.0),
        (Phase.PROVISIONING, 40.0),
        (Phase.RUNNING, 40.0),
    ],
    ids=lambda value: str(getattr(value, "value", value)),
)
async def test_an_orchestrator_killed_in_any_phase_takes_its_deployment_up_again(
    autojump_clock: MockClock, cluster: Cluster, phase: Phase, down_s: float
) -> None:
    await start_three(cluster)
    alice = cluster.nodes["alice"]
    job = await alice.user.deploy(ensemble(TWO))
    await alice.wait_for(job, phase)
    await alice.kill()
    await trio.sleep(down_s)
    await alice.start()
    await alice.wait_for(job, Phase.RUNNING)
    await until(lambda: alice.state(job).allocations["n1.task"].is_over, every_s=1)
    record = alice.state(job).allocations["n1.task"]
    assert (record.status, record.exit_code) == ("completed", 0)
    assert all_starts(cluster, job) == {"n1.task": 1, "n2.web": 1}, "no work is done twice"
    assert await alice.user.log(job, "n1.task") == b"result\n"
    await trio.sleep(300)
    assert alice.state(job).phase is Phase.RUNNING
    await alice.user.shutdown(job)
    state = await alice.wait_until_settled(job)
    assert (state.phase, state.error) == (Phase.COMPLETED, "")
    cluster.assert_nothing_is_held()
    assert "restored" in [e.kind for e in await alice.user.events(job)]


async def test_an_orchestrator_killed_while_it_shuts_down_goes_on_doing_so(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    await start_three(cluster)
    alice = cluster.nodes["alice"]
    job = await alice.user.deploy(ensemble(TWO))
    await alice.wait_for(job, Phase.RUNNING)
    assert (await alice.user.shutdown(job)).ok
    await alice.restart()
    assert (await alice.wait_until_settled(job)).phase is Phase.COMPLETED
    cluster.assert_nothing_is_held()


async def test_an_orchestrator_that_was_away_for_long_does_not_pretend(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    await start_three(cluster)
    alice = cluster.nodes["alice"]
    job = await alice.user.deploy(ensemble(TWO))
    await alice.wait_for(job, Phase.PREPARING)
    await alice.kill()
    await trio.sleep(3600)
    await alice.start()
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "failed to create deployment: interrupted by a restart"
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()
    await alice.restart()
    assert alice.node.deployments._live == {}, "what has ended stays ended"
    assert alice.state(job) == state or alice.state(job).is_settled


async def test_an_end_that_came_while_the_orchestrator_was_down_is_learned(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    await start_three(cluster)
    alice = cluster.nodes["alice"]
    job = await alice.user.deploy(ensemble({"n1": {"task": "task"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await alice.kill()
    await trio.sleep(900)
    await alice.start()
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert state.allocations["n1.task"].exit_code == 0
    await alice.wait_until_settled(job)
    assert await alice.user.log(job, "n1.task") == b"result\n"


async def test_a_failed_deployment_still_gives_back_what_it_had_when_it_is_killed_before(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    await start_three(cluster)
    alice, bob, carol = cluster.nodes.values()
    for node in (bob, carol):
        node.executor.on("task-1", Script(start_takes_s=1, start_error=StartFailed("disk broken")))
    job = await alice.user.deploy(ensemble(TWO))
    await alice.wait_for(job, Phase.FAILED)
    assert alice.state(job).owed, "the peers are not told yet"
    await alice.restart()
    state = await alice.wait_until_settled(job)
    assert (state.phase, state.error) == (Phase.FAILED, "failed to provision deployment: n1.task: disk broken")
    await trio.sleep(1)
    cluster.assert_nothing_is_held()


@pytest.mark.matrix
@pytest.mark.parametrize("transactions", [1, 2, 5, 8, 9, 10, 11, 12])
async def test_an_orchestrator_killed_after_any_write_ends_well(
    autojump_clock: MockClock, cluster: Cluster, transactions: int
) -> None:
    await start_three(cluster)
    alice = cluster.nodes["alice"]
    alice.die_after(transactions)
    with trio.move_on_after(1):  # no answer comes if it dies too early
        await alice.user.deploy(ensemble(TWO))
    with trio.fail_after(60):
        await alice.died.wait()
    await alice.start()
    (record,) = alice.node.deployments.all()
    await alice.wait_for(record.id, Phase.RUNNING)
    assert all_starts(cluster, record.id)["n2.web"] == 1
    await alice.user.shutdown(record.id)
    await alice.wait_until_settled(record.id)
    await trio.sleep(1)
    cluster.assert_nothing_is_held()


@pytest.mark.matrix
@pytest.mark.parametrize("transactions", range(1, 11))
async def test_a_provider_killed_after_any_write_leaves_nothing_behind(
    autojump_clock: MockClock, cluster: Cluster, transactions: int
) -> None:
    await start_three(cluster)
    alice, bob, carol = cluster.nodes.values()
    bob.die_after(transactions)
    job = await alice.user.deploy(ensemble(TWO, peers={"n1": bob.peer}))
    with trio.fail_after(3000):
        await bob.died.wait()
    await bob.start()
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(200)
    assert alice.state(job).phase is Phase.RUNNING
    assert alice.state(job).allocations["n1.task"].status == "completed"
    running = [n for n in (bob, carol) if n.hosted_state(job, "n2.web") == "running"]
    assert len(running) == 1, "one service, once"
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(1200)
    cluster.assert_nothing_is_held()


async def test_a_provider_finds_its_work_again_and_its_orchestrator_notices_nothing(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    ports: dict[str, list[dict[str, object]]] = {"n1": [{"public": 20000, "private": 80, "allocation": "web"}]}
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, ports=ports))
    await alice.wait_for(job, Phase.RUNNING)
    held = bob.holdings()
    await bob.kill()
    await trio.sleep(30)
    await bob.start()
    await trio.sleep(1)
    assert bob.holdings() == held
    assert bob.hosted_state(job, "n1.web") == "running"
    await trio.sleep(600)
    assert alice.state(job).phase is Phase.RUNNING, "signs of life go on"
    assert bob.starts(job) == {"n1.web": 1}
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()


async def test_a_registered_health_check_survives_a_restart_of_the_provider(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", Script(None, exec_output=ExecOutput(1, b"", b"no")))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    live = alice.node.deployments.live(job)
    handle = live.state.allocations["n1.web"].handle
    assert handle is not None
    wanted = {"EnsembleID": job, "HealthCheck": {"type": "command", "exec": ["ping"]}}
    assert (await live.actor.invoke(handle, REGISTER, wanted, HealthReply)).ok
    for _ in range(2):
        answer = await live.actor.invoke(handle, HEALTH_CHECK, None, HealthReply)
        assert answer == HealthReply(ok=False, error="ping ended with exit code 1: 'no'")
        await bob.kill()
        await bob.start()
        await trio.sleep(1)


@pytest.mark.parametrize("exit_code", [0, 7])
async def test_a_task_that_ended_while_the_provider_was_down_is_reported(
    autojump_clock: MockClock, cluster: Cluster, exit_code: int
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("task-1", Script(20, exit_code=exit_code, stdout=((10, b"result\n"),)))
    job = await alice.user.deploy(ensemble({"n1": {"task": "task"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await bob.kill()
    await trio.sleep(60)
    await bob.start()
    state = await alice.wait_for(job, Phase.FAILED if exit_code else Phase.COMPLETED)
    assert state.allocations["n1.task"].exit_code == exit_code
    await alice.wait_until_settled(job)
    assert await alice.user.log(job, "n1.task") == b"result\n"
    cluster.assert_nothing_is_held()


async def test_an_end_that_was_not_reported_yet_is_reported_after_a_restart(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("task-1", Script(20))
    job = await alice.user.deploy(ensemble({"n1": {"task": "task"}}))
    await alice.wait_for(job, Phase.RUNNING)
    cluster.network.cut(alice.network, bob.network)
    await until(lambda: bob.hosted_state(job, "n1.task") == "completed", every_s=0.1)
    await bob.kill()
    cluster.network.heal(alice.network, bob.network)
    await bob.start()
    await alice.wait_for(job, Phase.COMPLETED)


async def test_an_acknowledged_reservation_survives_and_expires(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await until(lambda: bob.node.resources.commitments)
    await alice.kill()
    await trio.sleep(1)
    held = bob.holdings()
    assert set(held) >= {"commitments"}
    await bob.restart()
    assert bob.holdings() == held
    await trio.sleep(400)
    assert bob.holdings() == {}
    assert bob.starts(job) == {}


async def test_what_was_committed_but_never_acknowledged_is_given_back_by_the_restart(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    now_s = alice.node.root.security.now_ns() / 10**9
    await bob.node.resources.commit(
        AllocationID("orphan"), FOUR_CORES, now_s + 10**6
    )  # as a kill between two writes leaves it
    await bob.restart()
    assert bob.holdings() == {}
    await alice.wait_for(await alice.user.deploy(ensemble({"n1": {"a": "task"}})), Phase.COMPLETED)


async def test_a_program_that_a_reboot_took_is_started_again(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await bob.kill()
    bob.lose_workloads()
    await bob.start()
    await trio.sleep(300)
    assert alice.state(job).phase is Phase.RUNNING
    assert bob.starts(job) == {"n1.web": 2}


async def test_workloads_that_nobody_owns_are_ended_by_the_restart(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await bob.kill()
    assert bob._memory is not None
    with bob._memory._engine.begin() as session:
        for table in ("allocations", "resource_allocation"):
            session.exec_driver_sql(f"DELETE FROM {table}")
    await bob.start()
    assert bob.holdings() == {}


async def test_whole_nodes_survive_with_their_database_in_a_file(autojump_clock: MockClock, cluster: Cluster) -> None:
    await start_three(cluster, file=True)
    alice, bob, carol = cluster.nodes.values()
    job = await alice.user.deploy(ensemble(TWO))
    await alice.wait_for(job, Phase.RUNNING)
    for node in (alice, bob, carol):
        await node.restart()
    await until(lambda: alice.state(job).allocations["n1.task"].is_over, every_s=1)
    await trio.sleep(300)
    await alice.user.shutdown(job)
    state = await alice.wait_until_settled(job)
    assert (state.phase, state.error) == (Phase.COMPLETED, "")
    assert all_starts(cluster, job) == {"n1.task": 1, "n2.web": 1}
    cluster.assert_nothing_is_held()
    for node in (alice, bob, carol):
        await node.stop()
