"""From the order to the first line of a container's output, beside the command line of the same engine.

An engine of this benchmark's own, on this machine; it needs root and `dockerd`, and says so where one is missing. The two
take turns. Each turn starts a container whose program says a word and stays, measures until that word is read, and then
one that writes a lot, from its start to its end with all of it on the disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import trio

from bench.networks import Bench
from bench.report import Report
from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.protocol import ExecutionRequest, LogStreamRequest
from dms.testing.dockerd import busybox_image, docker_engine
from dms.types.resources import CPU, RAM, Resources, SpecConfig

IMAGE = "dms-bench/busybox:1"
TURNS = 7
OUTPUT_BYTES = 32_000_000
WORD = "echo up; sleep 60"
FLOOD = f"yes 'a line of a usual length, as programs write them when they have much to say' | head -c {OUTPUT_BYTES}"
START_GOAL = 1.15


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("docker", "how much longer does a container take to start than with the engine's own command?")
    if missing := is_missing():
        report.question = missing
        return report
    scratch = bench.scratch / "docker"
    scratch.mkdir(parents=True)
    with docker_engine() as engine:
        starts, of_tenants, by_hand, floods, floods_by_hand = trio.run(_take_turns, engine.host, scratch)
    report.median("executor: order → first line read", starts, "s")
    report.median("executor: the same, and a network for its tenant", of_tenants, "s")
    report.median("docker run: start → first line read", by_hand, "s")
    report.median("executor: output on the disk", [OUTPUT_BYTES / 1e6 / s for s in floods], "MB/s")
    report.median("docker run: output on the disk", [OUTPUT_BYTES / 1e6 / s for s in floods_by_hand], "MB/s")
    ratio = report.ratio("executor / docker run, first line", starts, by_hand)
    report.ratio("executor with a new network / docker run, first line", of_tenants, by_hand)
    report.ratio("executor / docker run, time for the output", floods, floods_by_hand)
    report.goal("executor / docker run, first line", ratio, START_GOAL, "×")
    return report


def is_missing() -> str:
    """Why there can be no engine here; nothing if there can."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None or shutil.which("docker") is None:
        return "not measured: this needs root, dockerd and docker"
    return ""


async def make_image(host: str) -> None:
    """Give the engine :data:`IMAGE`."""
    api = DockerApi(host)
    await api.describe()
    await api.import_image(IMAGE, busybox_image())


async def _take_turns(host: str, scratch: Path) -> tuple[list[float], ...]:
    found: tuple[list[float], ...] = ([], [], [], [], [])
    await make_image(host)
    async with trio.open_nursery() as nursery:
        executor = await DockerExecutor.open(nursery, scratch / "state", executor_id="bench", host=host)
        for turn in range(TURNS + 1):
            turns = (
                await _first_line(executor, scratch, turn),
                await _first_line(executor, scratch, turn, tenant=f"tenant-{turn}"),
                await trio.to_thread.run_sync(_first_line_by_hand, host),
                await _flood(executor, scratch, turn),
                await trio.to_thread.run_sync(_flood_by_hand, host, scratch),
            )
            if turn:  # the first warms caches
                for values, value in zip(found, turns, strict=True):
                    values.append(value)
        await executor.cleanup()
        nursery.cancel_scope.cancel()
    return found


def _request(scratch: Path, id_: str, command: str, tenant: str = "") -> ExecutionRequest:
    engine = SpecConfig(type="docker", params={"image": IMAGE, "cmd": ["sh", "-c", command]})
    resources = Resources(cpu=CPU(cores=2), ram=RAM(size=1 << 28))
    return ExecutionRequest("bench", id_, engine, resources, scratch / id_, tenant=tenant)


async def _first_line(executor: DockerExecutor, scratch: Path, turn: int, *, tenant: str = "") -> float:
    id_ = f"word-{turn}{tenant}"
    started = time.perf_counter()
    await executor.start(_request(scratch, id_, WORD, tenant))
    async for _chunk in executor.logs(LogStreamRequest(id_, follow=True)):
        break
    taken = time.perf_counter() - started
    await executor.remove(id_, grace_s=0)
    return taken


def _first_line_by_hand(host: str) -> float:
    command = ["docker", "-H", host, "run", "--rm", "--init", IMAGE, "sh", "-c", WORD]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = time.perf_counter() - started
        process.terminate()
    return taken


async def _flood(executor: DockerExecutor, scratch: Path, turn: int) -> float:
    id_ = f"flood-{turn}"
    started = time.perf_counter()
    result = await executor.run(_request(scratch, id_, FLOOD))
    taken = time.perf_counter() - started
    assert result.stdout_path is not None
    assert result.stdout_path.stat().st_size == OUTPUT_BYTES
    await executor.remove(id_)
    return taken


def _flood_by_hand(host: str, scratch: Path) -> float:
    command = ["docker", "-H", host, "run", "--rm", "--init", IMAGE, "sh", "-c", FLOOD]
    started = time.perf_counter()
    with (scratch / "by-hand").open("wb") as output:
        subprocess.run(command, check=True, stdout=output)
    return time.perf_counter() - started
