"""The disk of the node is full: nothing starts half, nothing that runs is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.faults import daemon

from dms.executor.errors import ExecutorError
from dms.executor.protocol import EndReason, ExecutionStatus, Executor, LogStreamRequest

pytestmark = pytest.mark.mounts


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return filler


@pytest.fixture(params=["wasm", "firecracker", pytest.param("docker", marks=pytest.mark.docker)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_on_a_full_disk_a_start_works_or_leaves_nothing_and_can_be_repeated(
    kind: str, where: str, disk: Path
) -> None:
    async with daemon.opened(kind, disk, where) as executor:
        filler = fill(disk)
        try:
            await executor.start(daemon.request(kind, disk))
        except ExecutorError as exc:
            assert exc.message.isprintable()  # noqa: PT017  containers need no room here, so they may start
            assert await executor.list() == ()
        await executor.remove("e", grace_s=0)
        filler.unlink()
        await executor.start(daemon.request(kind, disk))
        await until_said(executor, b"tick 2\n")
        await executor.cleanup()
        assert await executor.list() == ()


async def test_what_runs_while_the_disk_fills_is_adopted_cancelled_and_removed(
    kind: str, where: str, disk: Path
) -> None:
    async with daemon.opened(kind, disk, where) as executor:
        await executor.start(daemon.request(kind, disk))
        await until_said(executor, b"tick 2\n")
        fill(disk)
    async with daemon.opened(kind, disk, where) as executor:
        assert await executor.status("e") is ExecutionStatus.RUNNING
        await executor.cancel("e", grace_s=0)
        assert (await executor.wait("e")).reason is EndReason.CANCELLED
        await executor.cleanup()
        assert await executor.list() == ()


async def until_said(executor: Executor, text: bytes) -> None:
    seen = b""
    async for chunk in executor.logs(LogStreamRequest("e", follow=True)):
        seen += chunk
        if text in seen:
            return
    raise AssertionError(f"it ended: {seen!r}")
