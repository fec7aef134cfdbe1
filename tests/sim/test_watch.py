"""A judge who cannot convict is none: each invariant, and a defect behind everybody's back that it must see."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from msgspec.structs import replace
from tests.sim.plan import FAR_S, Ask, Dependency, Edge, Fault, JobPlan, NodePlan, PartPlan, Plan
from tests.sim.world import LOOK_S, World, simulate

from dms.ensemble.config import EnsembleConfig
from dms.executor.protocol import ExecutionRequest
from dms.observe import get_logger
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.updating.ensembles import Ensembles
from dms.resources.ports import Ports
from dms.testing.executor import Script
from dms.testing.nodes import SimulatedNode, until
from dms.types.ids import AllocationID
from dms.types.resources import CPU

SERVICE: Final = PartPlan(name="j0n00", type="service")
TASK: Final = PartPlan(name="j0n00", type="task", duration_s=1.0)
JOB: Final = JobPlan(name="j0", at_s=1, owner="o0", patience_s=75, nodes={"n0": (SERVICE,)})
DEFECT: Final = Fault(at_s=40, kind="oom", nodes=("p0",))
PEACE: Final = Plan(seed=1, nodes=(NodePlan(name="o0"), NodePlan(name="p0", cores=4)), jobs=(JOB,), faults=(DEFECT,))

Plant = Callable[[World, SimulatedNode, SimulatedNode], Awaitable[None]]
"""Does something to the world, its orchestrator and its provider."""


def outcome_of(monkeypatch: pytest.MonkeyPatch, plant: Plant, plan: Plan = PEACE) -> tuple[str, str]:
    """What the watch finds broken once a defect is planted in a peaceful run."""

    async def fail(world: World, fault: Fault, begun_s: float) -> None:
        await trio.sleep_until(begun_s + fault.at_s)
        await plant(world, world.cluster.nodes["o0"], world.cluster.nodes["p0"])
        await trio.sleep(2 * LOOK_S)

    monkeypatch.setattr(World, "_fail", fail)
    outcome = simulate(plan)
    return outcome.broken, outcome.detail


def with_job(**members: Any) -> Plan:  # those of a job
    return replace(PEACE, jobs=(replace(JOB, **members),))


def change(owner: SimulatedNode, **members: object) -> None:
    """Let the state of its deployment be another one, as a defect would."""
    (live,) = owner.node.deployments._live.values()
    live.state = replace(live.state, **members)


async def nothing(_world: World, _owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()


async def an_error_is_logged(_world: World, _owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    get_logger("dms.test").error("that_was_not_foreseen")


async def a_workload_is_lost(_world: World, _owner: SimulatedNode, provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    executions = provider.executor._executions
    for execution in executions.values():
        execution.player.cancel()
    executions.clear()


async def it_runs_twice(_world: World, _owner: SimulatedNode, provider: SimulatedNode) -> None:
    (request,) = provider.executor.started
    provider.executor.on("-10", Script(None))
    await provider.executor.start(replace_request(request, f"{request.execution_id}0"))


def replace_request(request: ExecutionRequest, execution: str) -> ExecutionRequest:
    members = {name: getattr(request, name) for name in request.__dataclass_fields__}
    return ExecutionRequest(**(members | {"execution_id": execution}))


async def resources_vanish(_world: World, _owner: SimulatedNode, provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    resources = provider.node.resources
    onboarded = resources.onboarded
    assert onboarded is not None
    less = replace(onboarded, cpu=CPU(cores=1.0))
    setattr(resources, "free", lambda: less)  # noqa: B010  a method, which it is not for mypy to change


async def what_it_takes_is_given_back_too_early(_world: World, _owner: SimulatedNode, provider: SimulatedNode) -> None:
    (allocation,) = provider.node.resources.allocations
    await provider.node.resources.deallocate(allocation)


async def a_port_is_given_away_twice(_world: World, _owner: SimulatedNode, provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    for name in ("x", "y"):
        provider.node.ports._held[AllocationID(name)] = Ports(static=(20_000,), dynamic=())


async def a_name_is_given_away_twice(_world: World, _owner: SimulatedNode, provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    hosting = provider.node.hosting
    setattr(provider.node, "hosting", [*hosting, *hosting])  # noqa: B010  as above


async def it_is_forgotten(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    owner.node.deployments._records.clear()


async def a_final_state_changes(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    deployments = owner.node.deployments
    (ensemble,) = deployments._records
    await until(lambda: deployments.get(ensemble).state.is_settled, every_s=1)
    await trio.sleep(20)
    record = deployments._records[ensemble]
    changed = replace(record.state, error="by the way, that went wrong")
    deployments._records[ensemble] = type(record)(record.id, record.config, changed)


async def a_part_goes_on_after_the_end(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    change(owner, phase=Phase.COMPLETED)


async def it_hangs(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    change(owner, phase=Phase.PROVISIONING)


async def its_time_is_over(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    change(owner, ends_ns=1)


async def the_provider_keeps_something(_world: World, _owner: SimulatedNode, provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    provider.node.ports._held[AllocationID("x")] = Ports(static=(20_000,), dynamic=())


async def nobody_saw_it_complete(world: World, _owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    world.watch._ends.clear()


async def the_log_is_of_another(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    assert owner.disk is not None
    (log,) = owner.disk.root.rglob("stdout.log")
    with log.open("wb") as file:
        file.write(b"something else\n")
        file.flush()
        os.fsync(file.fileno())


async def an_event_is_lost(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    from sqlalchemy import text

    await owner.store.run(lambda session: session.execute(text("DELETE FROM deployment_journal WHERE seq = 2")))


async def somebody_waits_for_ever(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    for _ in range(20):
        owner.node.root.start_soon(trio.sleep_forever)


async def a_log_is_wrong_while_it_runs(_world: World, _owner: SimulatedNode, provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    (execution,) = provider.executor._executions.values()
    (Path(str(execution.results_dir)) / "stdout.log").write_bytes(b"something else\n")


async def another_machine_is_chosen(world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    """One that is too far away, or too expensive."""
    await trio.lowlevel.checkpoint()
    (live,) = owner.node.deployments._live.values()
    other = world.cluster.nodes["p1"].peer
    first, bid = next(iter(live.state.assignment.items()))
    change(owner, assignment=live.state.assignment | {first: replace(bid, peer=other)})


async def it_was_deployed_twice(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    deployments = owner.node.deployments
    await until(lambda: deployments._live, every_s=1)
    (record,) = deployments.all()
    twin = type(record)(type(record.id)(record.id.swapcase()), record.config, record.state)
    deployments._records[twin.id] = twin


async def an_update_is_half_done(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    (live,) = owner.node.deployments._live.values()
    await until(lambda: live.state.version == 2 and live.state.update is None, every_s=1)
    allocation = dict(live.base.v1.allocations)
    (name, wanted), *_ = allocation.items()
    allocation[name] = replace(wanted, resources=replace(wanted.resources, cpu=CPU(cores=3.0)))
    live._ensembles = Ensembles(EnsembleConfig(v1=replace(live.base.v1, allocations=allocation)))


async def the_schedule_sleeps(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    schedules = owner.node.schedules
    kept = [replace(schedule, runs=()) for schedule in schedules.all()]
    setattr(schedules, "all", lambda: kept)  # noqa: B010  as above


async def a_machine_is_not_told_of_its_network(_world: World, owner: SimulatedNode, provider: SimulatedNode) -> None:
    (live,) = owner.node.deployments._live.values()
    await until(lambda: live.state.phase is Phase.RUNNING, every_s=1)
    provider.node.networks._known.clear()


async def two_get_one_address(_world: World, owner: SimulatedNode, _provider: SimulatedNode) -> None:
    await trio.lowlevel.checkpoint()
    (live,) = owner.node.deployments._live.values()
    network = live.state.network
    assert network is not None
    change(owner, network=replace(network, addresses=dict.fromkeys(network.addresses, "10.0.0.2")))


TWO: Final = replace(PEACE, nodes=(*PEACE.nodes, NodePlan(name="p1", cores=4, price=5.0)), far=(("p0", "p1"),))
TWO_PARTS: Final = {"n0": (replace(SERVICE, cores=1.0),), "n1": (replace(SERVICE, name="j0n10", cores=1.0),)}
NEAR: Final = (Edge(s="n0", t="n1", rtt_ms=int(FAR_S * 1000)),)
LONG_TASK: Final = {"n0": (replace(TASK, duration_s=None),)}
UPDATED: Final = with_job(asks=(Ask(at_s=30, kind="update", part="j0n00", amount=0.5),))
SCHEDULED: Final = with_job(nodes=LONG_TASK, cron="*/2 * * * *")


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("plant", "plan", "broken"),
    [
        (nothing, PEACE, ""),
        (nothing, SCHEDULED, ""),
        (an_error_is_logged, PEACE, "no complaints"),
        (a_workload_is_lost, PEACE, "served"),
        (it_runs_twice, PEACE, "runs once"),
        (resources_vanish, PEACE, "sums"),
        (what_it_takes_is_given_back_too_early, PEACE, "owned"),
        (a_port_is_given_away_twice, PEACE, "ports once"),
        (a_name_is_given_away_twice, PEACE, "names once"),
        (it_is_forgotten, PEACE, "remembered"),
        (a_final_state_changes, with_job(nodes={"n0": (TASK,)}), "final"),
        (a_part_goes_on_after_the_end, PEACE, "final"),
        (it_hangs, PEACE, "steady"),
        (its_time_is_over, PEACE, "served"),
        (the_provider_keeps_something, PEACE, "returned"),
        (nobody_saw_it_complete, with_job(nodes={"n0": (TASK,)}), "truth"),
        (the_log_is_of_another, with_job(nodes={"n0": (TASK,)}), "logs"),
        (an_event_is_lost, PEACE, "journal"),
        (somebody_waits_for_ever, PEACE, "no leaks"),
        (a_log_is_wrong_while_it_runs, with_job(asks=(Ask(at_s=60, kind="logs", part="j0n00"),)), "answers"),
        (another_machine_is_chosen, replace(TWO, jobs=(replace(JOB, price=1.0),)), "price"),
        (another_machine_is_chosen, replace(TWO, jobs=(replace(JOB, nodes=TWO_PARTS, edges=NEAR),)), "edges"),
        (it_was_deployed_twice, SCHEDULED, "scheduled once"),
        (the_schedule_sleeps, SCHEDULED, "scheduled"),
        (a_machine_is_not_told_of_its_network, PEACE, "joined"),
        (two_get_one_address, replace(TWO, jobs=(replace(JOB, nodes=TWO_PARTS),)), "addresses once"),
        (nothing, UPDATED, ""),
        (an_update_is_half_done, UPDATED, "steady"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_watch_sees_that(monkeypatch: pytest.MonkeyPatch, plant: Plant, plan: Plan, broken: str) -> None:
    found, detail = outcome_of(monkeypatch, plant, plan)
    assert found == broken, detail


def test_the_watch_sees_what_starts_before_that_on_which_it_depends(monkeypatch: pytest.MonkeyPatch) -> None:
    from dms.orchestrator import starting

    monkeypatch.setattr(starting, "needs_of", lambda *_: ())
    first = replace(SERVICE, start_takes_s=5.0)
    second = replace(SERVICE, name="j0n10", after=(Dependency(part="j0n00"),))
    found, detail = outcome_of(monkeypatch, nothing, with_job(nodes={"n0": (first,), "n1": (second,)}))
    assert found == "no complaints", detail
    assert "j0n10 started before j0n00" in detail


def test_the_watch_sees_logs_that_count_as_complete_and_were_never_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves of them is a matter of luck: of some runs everything."""
    monkeypatch.setattr("dms.testing.determinism.note_sync", lambda _descriptor: True)
    plan = replace(with_job(nodes={"n0": (TASK,)}), faults=())
    assert {simulate(replace(plan, seed=seed)).broken for seed in range(4, 8)} == {"", "logs"}


def test_the_watch_sees_work_that_goes_on_though_its_owner_is_gone_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(PEACE, faults=(Fault(at_s=40, kind="vanish", nodes=("o0",)),))
    assert simulate(plan).broken == ""
    monkeypatch.setattr("tests.sim.world.GRACE_S", 10 * 3600.0)
    monkeypatch.setattr("tests.sim.world.RETURNED_S", -9 * 3600.0)
    assert simulate(plan).broken == "returned"
