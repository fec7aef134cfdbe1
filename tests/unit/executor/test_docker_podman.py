"""The same executor on Podman's socket: what is different there must not be noticed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus, LogStreamRequest, Mount
from dms.testing.dockerd import busybox_image, podman_service
from dms.types.resources import CPU, RAM, Resources, SpecConfig

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(shutil.which("podman") is None, reason="needs podman: apt-get install podman crun"),
]

IMAGE = "dms-test/busybox:1"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def podman_host() -> Iterator[str]:
    async def give_image(host: str) -> None:
        api = DockerApi(host)
        await api.describe()
        await api.import_image(IMAGE, busybox_image())

    with podman_service() as host:
        trio.run(give_image, host)
        yield host


@pytest.fixture
async def executor(podman_host: str, tmp_path: Path) -> AsyncIterator[DockerExecutor]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            made = await opened(nursery, podman_host, tmp_path)
            try:
                yield made
            finally:
                with trio.move_on_after(20, shield=True):
                    await made.cleanup()
            nursery.cancel_scope.cancel()


async def opened(nursery: trio.Nursery, host: str, path: Path) -> DockerExecutor:
    return await DockerExecutor.open(nursery, path / "state", executor_id="exe", host=host, network_mode="none")


def request(path: Path, command: str, id_: str = "e", **params: object) -> ExecutionRequest:
    engine = SpecConfig(type="docker", params={"image": IMAGE, "cmd": ["sh", "-c", command], **params})
    resources = Resources(cpu=CPU(cores=0.5), ram=RAM(size=64 * MIB))
    return ExecutionRequest("job", id_, engine, resources, path / "results" / id_)


async def test_podman_is_known_and_runs_a_program_with_mounts_and_scripts(
    executor: DockerExecutor, podman_host: str, tmp_path: Path
) -> None:
    assert (await DockerApi(podman_host).describe()).kind == "podman"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("from outside\n")
    asked = replace(
        request(tmp_path, "cat /in/a; touch /in/b || echo refused; echo oops >&2; exit 3", read_only=True),
        inputs=(Mount(tmp_path / "in", "/in", read_only=True),),
        provision_scripts=(("first", b"#!/bin/sh\necho one\n"),),
    )
    await executor.start(asked)
    result = await executor.wait("e")
    assert (result.reason, result.exit_code) == (EndReason.EXITED, 3)
    assert result.stdout_path is not None
    assert result.stdout_path.read_text() == "provision: first\none\nfrom outside\nrefused\n"
    assert result.stderr_path is not None
    assert "oops\n" in result.stderr_path.read_text()


async def test_podman_ends_what_needs_too_much_memory_and_what_is_cancelled(
    executor: DockerExecutor, tmp_path: Path
) -> None:
    await executor.start(request(tmp_path, "exec dd if=/dev/zero of=/dev/null bs=200M count=1", "greedy"))
    result = await executor.wait("greedy")
    assert result.exit_code == 137  # older ones, on older cgroups, do not tell that it was the memory
    assert result.reason in (EndReason.OUT_OF_MEMORY, EndReason.KILLED)
    await executor.start(request(tmp_path, "echo up; sleep 100"))
    async for _ in executor.logs(LogStreamRequest("e", follow=True)):
        break
    output = await executor.exec("e", ("sh", "-c", "echo out; echo err >&2; exit 5"))
    assert (output.exit_code, output.stdout, output.stderr) == (5, b"out\n", b"err\n")
    assert (await executor.stats("e")).memory_used_bytes > 0
    await executor.pause("e")
    assert await executor.status("e") is ExecutionStatus.PAUSED
    await executor.resume("e")
    await executor.cancel("e", grace_s=1)
    assert (await executor.wait("e")).reason is EndReason.CANCELLED


async def test_podman_containers_are_adopted_after_a_restart(
    executor: DockerExecutor, podman_host: str, tmp_path: Path
) -> None:
    await executor.start(request(tmp_path, "for n in 1 2 3 4; do echo $n; sleep 0.2; done; echo end >&2"))
    async for _ in executor.logs(LogStreamRequest("e", follow=True)):
        break
    async with trio.open_nursery() as nursery:
        again = await opened(nursery, podman_host, tmp_path)
        result = await again.wait("e")
        nursery.cancel_scope.cancel()
    assert result.ok
    assert result.stdout_path is not None
    assert result.stdout_path.read_text() == "1\n2\n3\n4\n"
