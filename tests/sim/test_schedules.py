"""Ensembles deployed at times."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.node.schedule_payloads import NewSchedule, NewScheduleReply, ScheduleInfo, ScheduleRequest, SchedulesReply
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.messages import Reply
from dms.orchestrator.scheduling.schedule import KEPT
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble

HOURLY = "0 * * * *"
HOUR_S = 3600.0


def task() -> EnsembleConfig:
    return ensemble({"n1": {"a": "task"}}, metadata={"name": "backup"})


async def nodes(cluster: Cluster, *, lasts_s: float | None = 5.0) -> SimulatedNode:
    """Somebody who orders, and somebody who runs it."""
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("-1", Script(lasts_s))
    return alice


async def order(node: SimulatedNode, **changes: object) -> NewScheduleReply:
    request = NewSchedule(**({"ensemble": task(), "cron": HOURLY} | changes))  # type: ignore[arg-type]
    return await node.user.call("schedule/new", request, NewScheduleReply)


async def ordered(node: SimulatedNode, **changes: object) -> str:
    reply = await order(node, **changes)
    assert reply.id, reply.error
    return reply.id


async def change(node: SimulatedNode, name: str, identifier: str) -> Reply:
    return await node.user.call(f"schedule/{name}", ScheduleRequest(id=identifier), Reply)


async def listed(node: SimulatedNode) -> tuple[ScheduleInfo, ...]:
    return (await node.user.call("schedule/list", None, SchedulesReply)).schedules


async def to_the_next_hour(node: SimulatedNode, after_s: float = 60.0) -> None:
    now_s = node.clock_ns() / 1e9
    await trio.sleep(HOUR_S - now_s % HOUR_S + after_s)


def ages(node: SimulatedNode) -> list[float]:
    """When its deployments were made, in seconds after the full hour."""
    return [record.state.created_ns / 1e9 % HOUR_S for record in node.node.deployments.all()]


async def test_an_ensemble_is_deployed_at_each_time(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await nodes(cluster)
    identifier = await ordered(alice)
    assert alice.node.deployments.all() == ()
    for _ in range(3):
        await to_the_next_hour(alice)

    (schedule,) = await listed(alice)
    records = alice.node.deployments.all()

    assert (schedule.id, schedule.count, schedule.metadata) == (identifier, 3, {"name": "backup"})
    assert [run.deployment for run in schedule.runs] == [record.id for record in records]
    assert all(age < 1.0 for age in ages(alice))
    assert [record.state.phase for record in records] == [Phase.COMPLETED] * 3
    assert {record.state.owner for record in records} == {schedule.owner}


@pytest.mark.parametrize(("overlap", "phases"), [("skip", 1), ("allow", 2), ("replace", 1)])
async def test_what_still_goes_on_at_the_next_time(
    autojump_clock: MockClock, cluster: Cluster, overlap: str, phases: int
) -> None:
    alice = await nodes(cluster, lasts_s=None)
    await ordered(alice, cron="*/10 * * * *", overlap=overlap)
    await trio.sleep(1230)

    (schedule,) = await listed(alice)
    running = [r.id for r in alice.node.deployments.all() if r.state.phase is Phase.RUNNING]

    assert len(running) == phases
    assert schedule.count == 2
    if overlap == "skip":
        assert "still goes on" in schedule.runs[1].error
    else:
        assert schedule.runs[1].deployment in running


async def test_paused_it_deploys_nothing_and_makes_up_for_nothing(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await nodes(cluster)
    identifier = await ordered(alice)
    assert (await change(alice, "pause", identifier[:8])).ok
    await trio.sleep(3 * HOUR_S)
    await alice.restart()
    await trio.sleep(3 * HOUR_S)
    assert (await listed(alice))[0].is_paused
    assert alice.node.deployments.all() == ()

    assert (await change(alice, "resume", identifier)).ok
    await trio.sleep(60)
    assert alice.node.deployments.all() == ()
    await to_the_next_hour(alice)

    assert len(alice.node.deployments.all()) == 1


async def test_a_deleted_schedule_is_gone_and_what_it_deployed_goes_on(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await nodes(cluster, lasts_s=None)
    identifier = await ordered(alice, cron="*/10 * * * *")
    await trio.sleep(630)

    assert (await change(alice, "delete", identifier)).ok
    await alice.restart()
    await trio.sleep(1230)

    assert await listed(alice) == ()
    assert [r.state.phase for r in alice.node.deployments.all()] == [Phase.RUNNING]
    again = await change(alice, "delete", identifier)
    assert (again.ok, again.error) == (False, f"schedule not found: {identifier}")


@pytest.mark.parametrize(("missed", "count"), [("once", 1), ("skip", 0)])
async def test_times_when_the_node_was_down_are_made_up_for_once_or_not(
    autojump_clock: MockClock, cluster: Cluster, missed: str, count: int
) -> None:
    alice = await nodes(cluster)
    await ordered(alice, missed=missed)
    await alice.kill()
    await trio.sleep(5 * HOUR_S + 300)
    await alice.start()
    await trio.sleep(120)

    assert len(alice.node.deployments.all()) == count


async def test_killed_at_any_moment_of_a_run_it_deploys_once(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await nodes(cluster)
    await ordered(alice)
    for number in range(1, 6):
        await to_the_next_hour(alice, after_s=-1.0)
        alice.die_after(number)
        await trio.sleep(30.0)
        assert alice.died.is_set()
        await alice.start()
        await trio.sleep(300)

        (schedule,) = await listed(alice)
        tags = [record.state.terms.schedule for record in alice.node.deployments.all()]
        assert schedule.count == number
        assert len(tags) == len(set(tags)) == number
        assert schedule.runs[-1].deployment


async def test_whoever_may_not_deploy_any_more_is_not_deployed_for(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await nodes(cluster)
    await ordered(alice)
    await to_the_next_hour(alice)
    assert len(alice.node.deployments.all()) == 1
    roots, require, *_ = alice.node.anchors.context.list_roots()
    alice.node.anchors.context.remove_roots(roots, require)

    await to_the_next_hour(alice)

    assert len(alice.node.deployments.all()) == 1
    stored = alice.node.schedules.all()[0]
    assert stored.runs[-1].error.startswith("its owner may not deploy here any more")


async def test_old_runs_are_forgotten_with_their_deployments(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await nodes(cluster)
    await ordered(alice, cron="*/5 * * * *")
    await trio.sleep(300 * (KEPT + 3))

    (schedule,) = await listed(alice)

    assert schedule.count >= KEPT + 2
    assert len(schedule.runs) == KEPT
    assert len(alice.node.deployments.all()) == KEPT


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"cron": "nonsense"}, "not a cron expression"),
        ({"cron": "* * * * * *"}, "not a cron expression"),
        ({"cron": "0 0 31 2 *"}, "cron expression"),
        ({"zone": "Mars/Olympus"}, "unknown time zone"),
        ({"overlap": "maybe"}, "unknown overlap"),
        ({"missed": "maybe"}, "unknown missed"),
        ({"ensemble": {"v1": {}}}, "allocations"),
        ({"timeout_ms": 1}, "between one minute and 7 days"),
        ({"run_for_ms": -1}, "must be between"),
    ],
)
async def test_orders_that_make_no_sense_are_refused(
    autojump_clock: MockClock, cluster: Cluster, changes: dict[str, object], error: str
) -> None:
    alice = await cluster.start("alice")

    reply = await order(alice, **changes)

    assert not reply.id
    assert error in reply.error
    assert await listed(alice) == ()


async def test_so_many_schedules_of_one_user(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    for _ in range(32):
        await ordered(alice)

    reply = await order(alice)

    assert "schedules at this node already" in reply.error
    assert len(await listed(alice)) == 32
