"""Machines that are started by hand: payloads as they travel."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from dms.cli.behaviours import find
from dms.executor.protocol import ExecutionRequest, ExecutionStatus
from dms.testing.executor import Script, ScriptedExecutor
from dms.testing.nodes import Cluster, SimulatedNode
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
