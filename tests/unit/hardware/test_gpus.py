import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import trio

from dms.hardware.amd import AmdSource
from dms.hardware.drm import Memory
from dms.hardware.gpu import GPUInfo, GPUs
from dms.hardware.gpus import GPUProbe
from dms.hardware.intel import IntelSource
from dms.hardware.machine import MachineProbe
from dms.hardware.nvidia import NvidiaSource
from dms.hardware.pci import PCIDevice
from dms.testing.machines import RecordedNVML, plant

GIB = 1 << 30


class Scripted:
    """A source that answers with what it is given, or fails with it; ``gate`` holds it up."""

    def __init__(self, vendor: str, answer: GPUs | BaseException = GPUs(), gate: threading.Event | None = None) -> None:  # noqa: B008
        self.vendor = vendor
        self.answer = answer
        self.gate = gate
        self.asked = 0
        self.is_closed = False

    def is_present(self, root: Path, devices: Sequence[PCIDevice]) -> bool:
        return True

    def gpus(self, root: Path, devices: Sequence[PCIDevice]) -> GPUs:
        self.asked += 1
        if self.gate:
            self.gate.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.is_closed = True


def gpu(uuid: str, vendor: str = "NVIDIA") -> GPUInfo:
    return GPUInfo(vendor=vendor, uuid=uuid, vram_bytes=GIB, vram_free_bytes=GIB)


@contextmanager
def stuck() -> Iterator[threading.Event]:
    gate = threading.Event()
    try:
        yield gate
    finally:
        gate.set()


async def test_several_vendors_in_one_machine_count_through(tmp_path: Path) -> None:
    root = plant("intel", plant("amd", plant("nvidia", tmp_path)))
    probe = GPUProbe(
        (NvidiaSource(RecordedNVML), AmdSource(), IntelSource(lambda _driver, _node: Memory(8 * GIB))), root=root
    )
    found = (await probe.gpus()).found
    assert [gpu.index for gpu in found] == list(range(7))
    assert [gpu.vendor for gpu in found] == ["NVIDIA"] * 2 + ["AMD/ATI"] * 2 + ["Intel"] * 3
    assert len({gpu.uuid for gpu in found}) == 7
    resources = await MachineProbe(tmp_path, root=root, gpus=probe, cpu_sample_s=0).machine()
    assert [(g.index, g.vram) for g in resources.gpus][:2] == [(0, 10737418240), (1, 85520809984)]
    assert all(g.uuid and g.pci_address and g.model for g in resources.gpus)


async def test_the_usage_of_the_machine_tells_of_the_memory_in_use(tmp_path: Path) -> None:
    root = plant("amd", tmp_path)
    probe = MachineProbe(tmp_path, root=root, cpu_sample_s=0, gpus=GPUProbe((AmdSource(),), root=root))
    assert [(g.index, g.vram) for g in (await probe.usage()).gpus] == [(0, 1073741824), (1, 10960896)]


async def test_a_device_without_memory_of_its_own_is_shown_and_not_offered(tmp_path: Path) -> None:
    root = plant("intel", tmp_path)
    gpus = GPUProbe((IntelSource(lambda _driver, _node: Memory()),), root=root)
    probe = MachineProbe(tmp_path, root=root, gpus=gpus)
    assert len((await probe.inventory()).gpus) == 3
    assert (await probe.machine()).gpus == ()


async def test_a_device_that_goes_and_comes_back_keeps_its_index() -> None:
    source = Scripted("NVIDIA", GPUs((gpu("a"), gpu("b"))))
    probe = GPUProbe((source,))
    assert [(g.uuid, g.index) for g in (await probe.gpus()).found] == [("a", 0), ("b", 1)]
    source.answer = GPUs((gpu("b"),))
    assert [(g.uuid, g.index) for g in (await probe.gpus()).found] == [("b", 1)]
    source.answer = GPUs((gpu("c"), gpu("b"), gpu("a")))
    assert [(g.uuid, g.index) for g in (await probe.gpus()).found] == [("a", 0), ("b", 1), ("c", 2)]


async def test_a_device_that_two_drivers_tell_of_counts_once() -> None:
    probe = GPUProbe((Scripted("NVIDIA", GPUs((gpu("a"),))), Scripted("Intel", GPUs((gpu("a"), gpu("b"))))))
    assert [g.uuid for g in (await probe.gpus()).found] == ["a", "b"]


async def test_a_driver_that_breaks_costs_its_own_devices_only() -> None:
    broken = Scripted("AMD", ZeroDivisionError("oops"))
    silent = Scripted("Intel", OSError())
    probe = GPUProbe((Scripted("NVIDIA", GPUs((gpu("a"),), ("NVIDIA: odd",))), broken, silent))
    found = await probe.gpus()
    assert [g.uuid for g in found.found] == ["a"]
    assert found.problems == ("NVIDIA: odd", "AMD: oops", "Intel: OSError")
    broken.answer = GPUs((gpu("x"),))
    assert len((await probe.gpus()).found) == 2


async def test_a_driver_that_hangs_is_waited_for_once() -> None:
    with stuck() as gate:
        hanging = Scripted("AMD", GPUs((gpu("x"),)), gate)
        probe = GPUProbe((Scripted("NVIDIA", GPUs((gpu("a"),))), hanging), deadline_s=0.05)
        for _ in range(3):
            found = await probe.gpus()
            assert [g.uuid for g in found.found] == ["a"]
            assert found.problems == ("AMD: the driver does not answer",)
        assert hanging.asked == 1
        probe.close()
        assert not hanging.is_closed
        gate.set()
        with trio.fail_after(5):
            while len((await probe.gpus()).found) < 2:
                await trio.lowlevel.checkpoint()
    probe.close()
    assert hanging.is_closed


async def test_several_who_ask_at_once_ask_a_driver_one_after_the_other() -> None:
    active = SimpleNamespace(now=0, most=0)

    class Counting(Scripted):
        def gpus(self, root: Path, devices: Sequence[PCIDevice]) -> GPUs:
            active.now += 1
            active.most = max(active.most, active.now)
            try:
                return super().gpus(root, devices)
            finally:
                active.now -= 1

    source = Counting("NVIDIA", GPUs((gpu("a"),)))
    probe = GPUProbe((source,))
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(probe.gpus)
    assert (source.asked, active.most) == (8, 1)


async def test_a_machine_without_graphics_asks_nobody(tmp_path: Path) -> None:
    def load() -> None:
        raise AssertionError

    found = await GPUProbe((NvidiaSource(load), AmdSource(), IntelSource()), root=tmp_path).gpus()
    assert found == GPUs()
