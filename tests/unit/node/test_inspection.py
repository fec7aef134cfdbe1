"""What is told of allocations: usage, signs of life, logs."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock

from dms.executor.protocol import ExecutorStats
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID

Json = dict[str, Any]
BUSY = ExecutorStats(cpu_percent=50, memory_used_bytes=5 << 20, memory_limit_bytes=10 << 20, network_rx_bytes=7)
USAGE = {"cpu_usage_percent": 50, "memory_used_bytes": 5 << 20, "memory_limit_bytes": 10 << 20, "network_rx_bytes": 7}


async def running(cluster: Cluster) -> tuple[SimulatedNode, SimulatedNode, EnsembleID]:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    for name in ("web-1", "web1-1"):
        bob.executor.on(name, Script(None, stats=BUSY, stdout=((0.1, b"hello\n"),)))
    bob.executor.on("done-1", Script(0.1))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service", "web1": "service", "done": "task"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(1)
    return alice, bob, job


async def test_usage_is_that_of_each_that_runs_and_of_all_together(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, job = await running(cluster)
    status = await alice.user.call("status", {"id": job, "include_usage": True}, Json)
    assert status["allocation_usage"] == {"n1.web": USAGE, "n1.web1": USAGE}
    info = await alice.user.call("info", {"id": job, "include_usage": True, "allocation_names": ["web"]}, Json)
    assert info["usage"] == USAGE
    stats = info["allocations"]["n1.web"]["executor_stats"]
    assert stats["memory"] == {"usage": 5 << 20, "limit": 10 << 20, "percent": 50}
    assert stats["cpu_usage"] == {"percent": 50}
    everything = await alice.user.call("info", {"id": job, "include_usage": True}, Json)
    assert everything["usage"] == {key: 2 * value for key, value in USAGE.items()}
    assert "allocation_usage" not in await alice.user.call("status", {"id": job}, Json)


async def test_a_machine_that_does_not_answer_is_told_of(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob, job = await running(cluster)
    await bob.kill()
    status = await alice.user.call("status", {"id": job, "include_usage": True}, Json)
    assert "allocation_usage" not in status
    assert status["allocation_info"]["n1.web"]["usage_error"]


async def test_the_last_sign_of_life_is_told(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, job = await running(cluster)
    await trio.sleep(65)
    info = await alice.user.call("info", {"id": job}, Json)
    told = info["allocations"]["n1.web"]
    assert told["heartbeat_seq"] >= 2
    assert told["timestamp"] > alice.state(job).created_ns
    assert told["resource_usage"] == USAGE
    assert told["health"] == {"healthy": True, "check_type": "none"}
    assert "heartbeat_seq" not in info["allocations"]["n1.done"]


async def test_where_the_logs_lie(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, job = await running(cluster)
    info = await alice.user.call("info", {"id": job, "include_logs": True, "allocation_names": ["n1.web"]}, Json)
    folder = cluster.work_dir / "alice" / "deployments" / job / "n1.web"
    assert info["allocations"]["n1.web"]["logs"] == {
        "stdout_path": str(folder / "stdout.log"),
        "stderr_path": str(folder / "stderr.log"),
        "logs_written_to": str(folder),
    }
    assert (folder / "stdout.log").read_bytes() == b"hello\n"
