import os
import platform
import shutil
from pathlib import Path

import trio.testing

from dms.hardware import HardwareProbe
from dms.hardware.gpus import GPUProbe
from dms.hardware.machine import MachineProbe
from dms.hardware.processor import ASSUMED_HZ
from dms.testing.hardware import EIGHT_CORES, FixedMachine
from dms.types.resources import RAM, Resources


async def test_the_real_machine_is_seen(tmp_path: Path) -> None:
    probe: HardwareProbe = MachineProbe(tmp_path, cpu_sample_s=0)
    machine = await probe.machine()
    assert 0 < machine.cpu.cores <= machine.cpu.threads == len(os.sched_getaffinity(0))
    assert machine.cpu.clock_speed >= 100e6
    assert machine.cpu.architecture == platform.machine()
    assert 64 << 20 < machine.ram.size < 1 << 50
    assert machine.disk.size == shutil.disk_usage(tmp_path).total
    again = await probe.machine()
    assert (again.cpu, again.ram, again.disk) == (machine.cpu, machine.ram, machine.disk)


async def test_usage_lies_within_the_machine_and_takes_one_sample(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    probe = MachineProbe(tmp_path, cpu_sample_s=5, gpus=GPUProbe(()))  # threads and a virtual clock do not mix
    machine = await probe.machine()
    begun = trio.current_time()
    usage = await probe.usage()
    assert trio.current_time() - begun == 5
    assert 0 <= usage.cpu.cores <= machine.cpu.cores
    assert usage.cpu.clock_speed == machine.cpu.clock_speed
    assert 0 < usage.ram.size <= machine.ram.size
    assert 0 < usage.disk.size <= machine.disk.size


async def test_limits_of_a_container_bound_the_machine(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/me"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/me\n")
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory")
    (group / "cpu.max").write_text("25500 100000\n")
    (group / "memory.max").write_text(f"{64 << 20}\n")
    (group / "memory.current").write_text(f"{63 << 20}\n")
    probe = MachineProbe(tmp_path, cpu_sample_s=0, root=tmp_path)
    machine = await probe.machine()
    assert machine.cpu.cores == 0.25
    assert machine.ram.size == 64 << 20
    assert (await probe.usage()).ram.size == 63 << 20


async def test_a_machine_that_tells_nothing_still_has_a_clock(tmp_path: Path) -> None:
    machine = await MachineProbe(tmp_path, root=tmp_path).machine()
    assert machine.cpu.clock_speed >= ASSUMED_HZ / 10
    assert machine.cpu.cores >= 1


async def test_the_fixed_machine_answers_with_what_it_was_given() -> None:
    fixed = FixedMachine()
    probe: HardwareProbe = fixed
    assert await probe.machine() == EIGHT_CORES
    assert await probe.usage() == Resources()
    fixed.used = Resources(ram=RAM(size=5))
    assert (await probe.usage()).ram.size == 5


async def test_everything_is_found_in_words(tmp_path: Path) -> None:
    probe = MachineProbe(tmp_path)
    found = await probe.inventory()
    probe.close()
    assert found.resources.ram.size == found.memory.total_bytes
    assert found.resources.cpu.cores == found.processor.cores
    assert found.interfaces[-1].name == "lo"
    assert found.probe_ms > 0
