"""Guests that mean no good, in machines that boot."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus, LogStreamRequest
from dms.executor.qemu import QemuExecutor
from dms.types.resources import RAM, Resources, SpecConfig

pytestmark = pytest.mark.vm

NOISE = r"""
printf 'kept 1\n'
printf '\033]0;title\007\033[2J\033[c\036o !!!\n\036z\n\036d.1 0\n\0361.9 x\n\036\036\036' >/dev/ttyS0
head -c 5000 /dev/urandom | { while read -r line; do :; done; cat; } >/dev/ttyS0
/bin/busybox head -c 20000 /dev/zero >/dev/ttyS0
printf '\n' >/dev/ttyS0
printf 'kept 2\n'
trap '' TERM INT HUP
while true; do sleep 1; done
"""
BOMB = "trap '' TERM; echo up; bomb() { bomb | bomb & }; bomb; while true; do sleep 1; done"


@pytest.fixture
async def executor(images: Path, tmp_path: Path) -> AsyncIterator[QemuExecutor]:
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            binary = Path(shutil.which("qemu-system-x86_64") or "")
            made = QemuExecutor(nursery, tmp_path / "state", image_dirs=[images], binary=binary, uses_kvm=False)
            try:
                yield made
            finally:
                with trio.CancelScope(shield=True):
                    await made.cleanup()
            nursery.cancel_scope.cancel()


def request(path: Path, command: str) -> ExecutionRequest:
    params: dict[str, object] = {"kernel_image": "vmlinuz", "root_file_system": "root", "cmd": ["sh", "-c", command]}
    engine = SpecConfig(type="qemu", params=params)
    return ExecutionRequest("job", "e", engine, Resources(ram=RAM(size=192 << 20)), path / "results")


async def until_said(executor: QemuExecutor, text: bytes) -> None:
    seen = b""
    async for chunk in executor.logs(LogStreamRequest("e", follow=True)):
        seen += chunk
        if text in seen:
            return
    raise AssertionError(f"it ended: {seen!r} {await executor.wait('e')}")


async def test_a_guest_that_says_garbage_and_never_ends_keeps_its_output_and_is_ended(
    executor: QemuExecutor, tmp_path: Path
) -> None:
    await executor.start(request(tmp_path, NOISE))
    await until_said(executor, b"kept 2\n")
    assert (tmp_path / "results" / "stdout.log").read_bytes() == b"kept 1\nkept 2\n"
    assert await executor.status("e") is ExecutionStatus.RUNNING
    output = await executor.exec("e", ("echo", "still here"))
    assert (output.exit_code, output.stdout) == (0, b"still here\n")
    await executor.cancel("e", grace_s=0.5)
    result = await executor.wait("e")
    assert result.reason is EndReason.CANCELLED
    assert result.error_msg.isprintable()


async def test_a_fork_bomb_in_a_guest_ends_with_its_machine(executor: QemuExecutor, tmp_path: Path) -> None:
    await executor.start(request(tmp_path, BOMB))
    await until_said(executor, b"up")
    assert (await executor.stats("e")).memory_limit_bytes == 192 << 20  # the node answers meanwhile
    await executor.cancel("e", grace_s=0.5)
    result = await executor.wait("e")
    assert not result.ok
    await executor.remove("e")
    assert await executor.list() == ()
