import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from dms.hardware import HardwareProbe
from dms.resources.monitor import UsageMonitor, smooth
from dms.tasks import Scheduler
from dms.testing.hardware import EIGHT_CORES, FixedMachine
from dms.types.resources import CPU, GPU, RAM, Disk, Resources


def used(cores: float, ram: int = 0, *gpus: GPU) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram), disk=Disk(size=ram), gpus=gpus)


class Counting(FixedMachine):
    samples = 0
    error: OSError | None = None

    async def usage(self) -> Resources:
        self.samples += 1
        if self.error:
            raise self.error
        return await super().usage()


def test_processors_follow_an_exponential_average() -> None:
    value = smooth(None, used(0))
    seen = []
    for _ in range(3):
        value = smooth(value, used(4))
        seen.append(value.cpu.cores)
    assert seen == [1.6, 2.56, 3.14]


def test_amounts_rise_at_once_and_fall_slowly() -> None:
    value = smooth(used(0, 100, GPU(uuid="u", vram=10)), used(0, 1000, GPU(uuid="u", vram=20)))
    assert (value.ram.size, value.gpus[0].vram) == (1000, 20)
    value = smooth(value, used(0, 0, GPU(uuid="u", vram=0)))
    assert (value.ram.size, value.gpus[0].vram, value.disk.size) == (600, 12, 0)


def test_gpus_come_and_go() -> None:
    value = smooth(used(0, 0, GPU(uuid="a", vram=5)), used(0, 0, GPU(index=1, uuid="b", vram=7)))
    assert [(gpu.uuid, gpu.vram) for gpu in value.gpus] == [("b", 7)]


@given(st.lists(st.integers(0, 800), min_size=1, max_size=20))
def test_the_average_stays_between_the_least_and_the_most(samples: list[int]) -> None:
    value: Resources | None = None
    for sample in samples:
        value = smooth(value, used(sample / 100, sample))
        assert value.ram.size >= sample
    assert value is not None
    assert min(samples) / 100 - 0.01 <= value.cpu.cores <= max(samples) / 100 + 0.01


async def start(nursery: trio.Nursery, monitor: UsageMonitor) -> None:
    tasks = Scheduler()
    await nursery.start(tasks.run)
    nursery.start_soon(monitor.run, tasks)


async def test_usage_is_known_without_waiting_while_the_monitor_runs(autojump_clock: trio.testing.MockClock) -> None:
    machine = Counting(used=used(2))
    monitor = UsageMonitor(machine, interval_s=4)
    probe: HardwareProbe = monitor
    async with trio.open_nursery() as nursery:
        await start(nursery, monitor)
        await trio.sleep(1)
        assert machine.samples == 1
        machine.used = used(4)
        assert (await probe.usage()).cpu.cores == 2
        await trio.sleep(4)
        assert (await probe.usage()).cpu.cores == 2.8
        assert machine.samples == 2
        assert await probe.machine() == EIGHT_CORES
        nursery.cancel_scope.cancel()


async def test_without_a_running_monitor_usage_is_measured_now(autojump_clock: trio.testing.MockClock) -> None:
    machine = Counting(used=used(3))
    monitor = UsageMonitor(machine)
    assert (await monitor.usage()).cpu.cores == 3
    async with trio.open_nursery() as nursery:
        await start(nursery, monitor)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    machine.used = used(5)
    assert (await monitor.usage()).cpu.cores == 5


async def test_a_sample_that_fails_is_followed_by_the_next(autojump_clock: trio.testing.MockClock) -> None:
    machine = Counting(used=used(1))
    machine.error = FileNotFoundError("the work directory is gone")
    monitor = UsageMonitor(machine, interval_s=1)
    async with trio.open_nursery() as nursery:
        await start(nursery, monitor)
        await trio.sleep(2.5)
        assert machine.samples == 3
        machine.error = None
        await trio.sleep(1)
        assert (await monitor.usage()).cpu.cores == 1
        assert machine.samples == 4
        nursery.cancel_scope.cancel()
