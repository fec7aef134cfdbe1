"""Machines that are started by hand: payloads as they travel."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.cli.behaviours import find
from dms.executor.errors import StartFailed
from dms.executor.protocol import ExecutionRequest, ExecutionStatus
from dms.testing.executor import Script, ScriptedExecutor
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode
from dms.types import gojson
from dms.types.resources import Resources, SpecConfig

Json = dict[str, Any]
SPEC = {"type": "qemu", "params": {"kernel_image": "vmlinuz", "root_file_system": "root"}}


async def ask(node: SimulatedNode, behaviour: str, payload: object = None) -> Json:
    return await node.user.invoke(f"/dms/node/{behaviour}", payload, Json)


async def start(cluster: Cluster) -> tuple[SimulatedNode, ScriptedExecutor]:
    machines = ScriptedExecutor(cluster.nursery, "qemu", default=Script(duration_s=None))
    return await cluster.start("bob", executors={"qemu": machines}), machines


async def test_a_machine_is_started_listed_and_stopped(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob, machines = await start(cluster)
    assert await ask(bob, "vm/list") == {"Error": "", "VMS": [], "ExecutionType": "qemu"}
    resources = {"cpu": {"cores": 2}, "ram": {"size": 1 << 30}}
    execution = {"ExecutionID": "mine", "EngineSpec": SPEC, "Resources": resources}
    assert await ask(bob, "vm/start/custom", {"Execution": execution}) == {"Error": ""}
    assert (machines.started[0].engine.params, machines.started[0].resources.ram.size) == (SPEC["params"], 1 << 30)
    listed = (await ask(bob, "vm/list"))["VMS"]
    assert listed == [{"ExecutionID": "mine", "Running": True, "Status": "running", "ExecutionType": "qemu"}]
    assert await ask(bob, "vm/stop", {"ExecutionID": "mine", "ExecutionType": "qemu"}) == {"Error": ""}
    assert (await ask(bob, "vm/list"))["VMS"] == []
    assert machines.cancelled == ["mine"]


@pytest.mark.parametrize(
    ("execution", "reason"),
    [
        ({"EngineSpec": SPEC}, "ExecutionID must have"),
        ({"ExecutionID": "x", "EngineSpec": {"type": "docker"}}, "must be one of firecracker, qemu"),
        ({"ExecutionID": "x", "EngineSpec": {"type": "firecracker"}}, "has no executor firecracker"),
    ],
)
async def test_what_cannot_be_started_is_told(
    autojump_clock: MockClock, cluster: Cluster, execution: Json, reason: str
) -> None:
    bob, machines = await start(cluster)
    assert reason in (await ask(bob, "vm/start/custom", {"Execution": execution}))["Error"]
    assert machines.started == []


async def test_only_what_was_started_by_hand_is_stopped_so(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob, machines = await start(cluster)
    assert "not found" in (await ask(bob, "vm/stop", {"ExecutionID": "nobody"}))["Error"]
    await machines.start(
        ExecutionRequest("job", "another's", SpecConfig(type="qemu"), Resources(), cluster.work_dir / "results")
    )
    assert "belongs to an allocation" in (await ask(bob, "vm/stop", {"ExecutionID": "another's"}))["Error"]
    assert await machines.status("another's") is ExecutionStatus.RUNNING


TWO_CORES = {"cpu": {"cores": 2}, "ram": {"size": 1 << 30}}


async def boot(node: SimulatedNode, id_: str = "mine", resources: Json = TWO_CORES) -> str:
    execution = {"ExecutionID": id_, "EngineSpec": SPEC, "Resources": resources}
    return str((await ask(node, "vm/start/custom", {"Execution": execution}))["Error"])


async def taken(node: SimulatedNode) -> tuple[float, int]:
    """Cores and memory that the node tells as allocated."""
    told = (await ask(node, "resources/allocated"))["Resources"]
    return told["cpu"].get("cores", 0.0), told["ram"].get("size", 0)


async def offering(cluster: Cluster, **script: Any) -> tuple[SimulatedNode, ScriptedExecutor]:
    machines = ScriptedExecutor(cluster.nursery, "qemu", default=Script(**{"duration_s": None, **script}))
    return await cluster.start("bob", executors={"qemu": machines}, offers=FOUR_CORES), machines


async def test_a_machine_takes_its_part_of_what_is_offered_until_it_is_stopped(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    bob, machines = await offering(cluster)
    assert await boot(bob) == ""
    assert await taken(bob) == (2.0, 1 << 30)
    assert bob.node.resources.free().cpu.cores == 2.0
    assert "no free resources" in await boot(bob, "too much", {"cpu": {"cores": 3}})
    assert [request.execution_id for request in machines.started] == ["mine"]
    assert "started already" in await boot(bob)
    assert (await ask(bob, "vm/stop", {"ExecutionID": "mine"}))["Error"] == ""
    assert await taken(bob) == (0.0, 0)
    assert bob.holdings() == {}


async def test_what_a_machine_does_not_name_counts_as_its_executor_gives_it(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    bob, machines = await offering(cluster)
    assert await boot(bob, resources={}) == ""
    assert await taken(bob) == (1.0, 512 << 20)
    assert machines.started[0].resources.ram.size == 512 << 20


async def test_a_machine_that_ends_or_does_not_start_gives_its_part_back(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    bob, machines = await offering(cluster, duration_s=10.0)
    assert await boot(bob) == ""
    assert await taken(bob) != (0.0, 0)
    await trio.sleep(11)
    assert await taken(bob) == (0.0, 0)
    machines.on("bad", Script(start_error=StartFailed("no such kernel")))
    assert "no such kernel" in await boot(bob, "bad")
    assert await taken(bob) == (0.0, 0)
    assert (await ask(bob, "vm/stop", {"ExecutionID": "mine"}))["Error"] == ""


@pytest.mark.parametrize("runs_on", [True, False])
async def test_after_kill_9_a_machine_and_its_part_are_found_again(
    autojump_clock: MockClock, cluster: Cluster, *, runs_on: bool
) -> None:
    bob, machines = await offering(cluster)
    assert await boot(bob) == ""
    await bob.kill()
    if not runs_on:
        machines.end("mine")
    await bob.restart()
    await trio.sleep(1)
    assert await taken(bob) == ((2.0, 1 << 30) if runs_on else (0.0, 0))
    assert (await machines.status("mine") is ExecutionStatus.RUNNING) is runs_on
    if runs_on:
        machines.end("mine")
        await trio.sleep(1)
        assert await taken(bob) == (0.0, 0)


async def test_a_machine_whose_backend_is_gone_gives_its_part_back(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob, _ = await offering(cluster)
    assert await boot(bob) == ""
    await bob.kill()
    bob._executors = {}
    await bob.restart()
    assert await taken(bob) == (0.0, 0)


async def test_what_is_not_onboarded_is_not_counted(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob, _ = await start(cluster)
    assert await boot(bob) == ""
    assert await taken(bob) == (0.0, 0)


def test_the_flags_make_the_payload() -> None:
    behaviour = find("/dms/node/vm/start/custom")
    assert behaviour is not None
    flags = dict.fromkeys(flag.name for flag in behaviour.flags)
    flags |= {"kernel": "k", "rootfs": "r", "args": "quiet", "id": "one"}
    assert gojson.to_builtins(behaviour.payload(flags)) == {
        "Execution": {
            "ExecutionID": "one",
            "EngineSpec": {
                "type": "firecracker",
                "params": {"kernel_image": "k", "root_file_system": "r", "kernel_args": "quiet"},
            },
            "Resources": {"cpu": {"cores": 1}, "ram": {"size": 1 << 30}, "disk": {}},
        }
    }
