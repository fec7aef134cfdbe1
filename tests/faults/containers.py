"""Containers on a real engine, as the tests of faults use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.protocol import ExecutionRequest, LogStreamRequest
from dms.testing.dockerd import busybox_image
from dms.types.resources import CPU, RAM, Disk, Resources, SpecConfig

IMAGE = "dms-test/busybox:1"
MIB = 1024 * 1024


@asynccontextmanager
async def opened(host: str, path: Path, **more: object) -> AsyncIterator[DockerExecutor]:
    """An executor that leaves nothing behind."""
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            api = DockerApi(host)
            engine = await api.describe()
            made = DockerExecutor(nursery, path / "state", api, executor_id="faults", engine=engine, **more)  # type: ignore[arg-type]
            try:
                yield made
            finally:
                with trio.move_on_after(30, shield=True):
                    await made.cleanup()
            nursery.cancel_scope.cancel()


def request(path: Path, command: str, id_: str = "e", *, disk_bytes: int = 0, **params: object) -> ExecutionRequest:
    """A shell in a container."""
    engine = SpecConfig(type="docker", params={"image": IMAGE, "cmd": ["sh", "-c", command], **params})
    resources = Resources(cpu=CPU(cores=1), ram=RAM(size=64 * MIB), disk=Disk(size=disk_bytes))
    return ExecutionRequest("job", id_, engine, resources, path / "results" / id_)


async def until_logged(executor: DockerExecutor, text: bytes, id_: str = "e") -> None:
    """Until it says that."""
    seen = b""
    async for chunk in executor.logs(LogStreamRequest(id_, follow=True)):
        seen += chunk
        if text in seen:
            return
    raise AssertionError(f"ended without {text!r}: {seen!r}")


async def make_image(host: str, name: str, *instructions: str) -> DockerApi:
    """BusyBox with instructions of a Dockerfile."""
    api = DockerApi(host)
    await api.describe()
    query = {"fromSrc": "-", "repo": name} | ({"changes": "\n".join(instructions)} if instructions else {})
    async with api.stream("POST", "/images/create", query=query, content=busybox_image()) as response:
        await response.aread()
    return api
