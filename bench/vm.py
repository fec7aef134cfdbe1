"""From the order to the first line that a program in a machine says, beside QEMU by hand with the same kernel.

It needs QEMU, BusyBox and a kernel, and says so where one is missing. Both use hardware virtualisation where it truly
works, and the emulator elsewhere, which is many times slower. By hand means a RAM disk that was packed before and a short
command line; through the executor the RAM disk is packed and checked for each machine.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import trio

from bench.networks import Bench
from bench.report import Report
from dms.executor.cpio import CpioWriter
from dms.executor.kvm import kvm_works
from dms.executor.protocol import ExecutionRequest, LogStreamRequest
from dms.executor.qemu import BINARY, QemuExecutor
from dms.testing.vms import make_images, missing_for_qemu
from dms.types.resources import CPU, RAM, Resources, SpecConfig

TURNS = 5
MEMORY_MIB = 192
BOOT_GOAL = 1.25
INIT = b"#!/bin/sh\necho up\nexec sleep 600\n"


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("vm", "how much longer does a machine take to start than by hand?")
    if missing := missing_for_qemu():
        report.question = f"not measured: {missing}"
        return report
    scratch = bench.scratch / "vm"
    images = make_images(scratch / "images")
    uses_kvm = kvm_works()
    ours, by_hand = trio.run(_take_turns, scratch, images, uses_kvm)
    how = "KVM" if uses_kvm else "emulated"
    report.median(f"executor: order → first line, {how}", ours, "s")
    report.median(f"QEMU by hand: start → first line, {how}", by_hand, "s")
    ratio = report.ratio("executor / by hand, first line", ours, by_hand)
    report.goal("executor / by hand, first line", ratio, BOOT_GOAL, "×")
    return report


async def _take_turns(scratch: Path, images: Path, uses_kvm: bool) -> tuple[list[float], list[float]]:  # noqa: FBT001
    ours: list[float] = []
    by_hand: list[float] = []
    command = _command(images, _pack(images, scratch / "initrd"), uses_kvm=uses_kvm)
    binary = Path(shutil.which(BINARY) or BINARY)
    async with trio.open_nursery() as nursery:
        executor = QemuExecutor(nursery, scratch / "state", image_dirs=[images], binary=binary, uses_kvm=uses_kvm)
        for turn in range(TURNS + 1):
            times = await _boot(executor, scratch, f"machine-{turn}"), await trio.to_thread.run_sync(_by_hand, command)
            if turn:  # the first warms caches
                ours.append(times[0])
                by_hand.append(times[1])
        await executor.cleanup()
        nursery.cancel_scope.cancel()
    return ours, by_hand


async def _boot(executor: QemuExecutor, scratch: Path, id_: str) -> float:
    params = {"kernel_image": "vmlinuz", "root_file_system": "root", "cmd": ["sh", "-c", "echo up; exec sleep 600"]}
    limits = Resources(cpu=CPU(cores=1), ram=RAM(size=MEMORY_MIB << 20))
    begun = time.perf_counter()
    await executor.start(
        ExecutionRequest("bench", id_, SpecConfig(type="qemu", params=dict(params)), limits, scratch / id_)
    )
    async for chunk in executor.logs(LogStreamRequest(id_, follow=True)):
        if b"up" in chunk:
            break
    taken = time.perf_counter() - begun
    await executor.remove(id_, grace_s=0)
    return taken


def _pack(images: Path, path: Path) -> Path:
    with path.open("wb") as file:
        archive = CpioWriter(file, limit_bytes=1 << 28)
        archive.tree(images / "root")
        archive.directory("dev")
        archive.device("dev/console", 0o600, 5, 1)
        archive.file("init", INIT, 0o755)
        archive.finish()
    return path


def _command(images: Path, initrd: Path, *, uses_kvm: bool) -> list[str]:
    command = [BINARY, "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-m", f"{MEMORY_MIB}M"]
    command += ["-machine", f"pc,accel={'kvm' if uses_kvm else 'tcg'}", *(("-cpu", "host") if uses_kvm else ())]
    command += ["-kernel", str(images / "vmlinuz"), "-initrd", str(initrd)]
    return [*command, "-append", "console=ttyS0 panic=-1 quiet rdinit=/init"]


def _by_hand(command: list[str]) -> float:
    begun = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while b"up" not in (line := process.stdout.readline()):
            if not line:
                raise RuntimeError("the machine ended before it said anything")
        taken = time.perf_counter() - begun
        process.kill()
    return taken
