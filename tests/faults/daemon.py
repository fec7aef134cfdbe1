"""A daemon that starts a workload and is there to be killed: ``python -m tests.faults.daemon KIND DIRECTORY …``.

It says ``started`` when the workload has spoken.
"""

from __future__ import annotations

import base64
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from dms.executor.docker import DockerExecutor
from dms.executor.firecracker import FirecrackerExecutor
from dms.executor.protocol import ExecutionRequest, Executor, LogStreamRequest
from dms.executor.qemu import QemuExecutor
from dms.executor.wasm import WasmExecutor
from dms.types.resources import RAM, Resources, SpecConfig

PROBE = Path(__file__).parents[1] / "programs" / "probe.wasm"
LOOP = "n=0; while true; do n=$((n + 1)); echo tick $n; sleep 0.05; done"


async def make(kind: str, nursery: trio.Nursery, directory: Path, where: str) -> Executor:
    """An executor; ``where`` is the engine's host, the folder of images, or that and the program in place of Firecracker."""
    state = directory / "state"
    match kind:
        case "docker":
            return await DockerExecutor.open(nursery, state, executor_id="killed", host=where)
        case "wasm":
            return WasmExecutor(nursery, state, modules_dir=directory / "modules")
        case "qemu":
            binary = Path(shutil.which("qemu-system-x86_64") or "")
            return QemuExecutor(nursery, state, image_dirs=[Path(where)], binary=binary, uses_kvm=False)
    images, _, program = where.partition(":")
    return FirecrackerExecutor(
        nursery, state, image_dirs=[Path(images)], binary=Path(program), uses_kvm=False, has_own_users=False
    )


@asynccontextmanager
async def opened(kind: str, directory: Path, where: str) -> AsyncIterator[Executor]:
    """As :func:`make`, for as long as the context lasts: a daemon that ends, and leaves what runs."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            yield await make(kind, nursery, directory, where)
            nursery.cancel_scope.cancel()


def request(kind: str, directory: Path) -> ExecutionRequest:
    """A workload that says "tick <n>" for ever."""
    params: dict[str, object] = {"cmd": ["sh", "-c", LOOP]}
    if kind == "docker":
        params |= {"image": "dms-test/busybox:1"}
    elif kind == "wasm":
        params = {"module": base64.b64encode(PROBE.read_bytes()).decode(), "args": ["tick", "0"]}
    else:
        params |= {"kernel_image": "vmlinuz", "root_file_system": "root"}
    memory = RAM(size=(192 if kind == "qemu" else 64) << 20)
    return ExecutionRequest(
        "job", "e", SpecConfig(type=kind, params=params), Resources(ram=memory), directory / "results"
    )


async def main(kind: str, directory: Path, where: str) -> None:
    """Run until killed."""
    async with trio.open_nursery() as nursery:
        executor = await make(kind, nursery, directory, where)
        await executor.start(request(kind, directory))
        async for chunk in executor.logs(LogStreamRequest("e", follow=True)):
            if b"tick 3\n" in chunk or chunk.count(b"tick") > 2:
                break
        print("started", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]), sys.argv[3])
