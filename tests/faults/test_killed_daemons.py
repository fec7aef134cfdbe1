"""The daemon is killed with ``SIGKILL`` while workloads run: they run on, and the next daemon adopts or removes them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from tests.faults import daemon

from dms.executor.protocol import EndReason, ExecutionStatus, LogStreamRequest

KINDS = [
    "wasm",
    "firecracker",
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("qemu", marks=pytest.mark.vm),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def killed(kind: str, where: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of a daemon that has started its workload and is dead."""
    command = [sys.executable, "-m", "tests.faults.daemon", kind, str(tmp_path), where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
    yield tmp_path
    trio.run(remove_all, kind, tmp_path, where)


async def remove_all(kind: str, directory: Path, where: str) -> None:
    async with trio.open_nursery() as nursery:
        executor = await daemon.make(kind, nursery, directory, where)
        await executor.cleanup()
        nursery.cancel_scope.cancel()


async def test_what_a_killed_daemon_left_runs_on_is_adopted_and_can_be_removed_without_a_trace(
    kind: str, where: str, killed: Path
) -> None:
    async with daemon.opened(kind, killed, where) as executor:
        (info,) = await executor.list()
        assert (info.execution_id, info.job_id, info.status) == ("e", "job", ExecutionStatus.RUNNING)
        await executor.start(daemon.request(kind, killed))  # adopts: nothing is started twice
        numbers: list[int] = []
        async for chunk in executor.logs(LogStreamRequest("e", follow=True)):
            numbers += [int(one) for one in re.findall(rb"tick (\d+)\n", chunk)]
            if len(numbers) > 30:
                break
        assert numbers[:20] == list(range(1, 21))
    async with daemon.opened(kind, killed, where) as executor:
        await executor.cancel("e", grace_s=1)
        assert (await executor.wait("e")).reason is EndReason.CANCELLED
        await executor.remove("e")
    async with daemon.opened(kind, killed, where) as executor:
        assert await executor.list() == ()
