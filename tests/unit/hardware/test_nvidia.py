from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from dms.hardware.gpu import GPUs
from dms.hardware.nvidia import NvidiaSource
from dms.hardware.pci import graphics
from dms.testing.machines import RecordedNVML, plant

LOST, DRIVER_NOT_LOADED, UNINITIALIZED, VERSION_MISMATCH = 15, 9, 1, 18


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant("nvidia", tmp_path)


@pytest.fixture
def nvml() -> RecordedNVML:
    return RecordedNVML()


def look(source: NvidiaSource, root: Path) -> GPUs:
    return source.gpus(root, graphics(root))


def giving(nvml: RecordedNVML) -> Callable[[], Any]:
    return lambda: nvml


def test_devices_are_told_with_memory_identity_driver_and_cores(root: Path, nvml: RecordedNVML) -> None:
    found = look(NvidiaSource(giving(nvml)), root)
    assert found.problems == ()
    first, second = found.found
    assert (first.vendor, first.model, first.pci_address) == ("NVIDIA", "GeForce RTX 3080", "0000:01:00.0")
    assert (first.vram_bytes, first.vram_used_bytes, first.vram_free_bytes) == (10737418240, 522518528, 10214899712)
    assert (first.driver, first.cores, first.busy_percent) == ("nvidia 550.54.14", 8704, 12)
    assert first.devices == ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm")
    assert second.uuid == "GPU-8e0a6c55-3d42-1f97-6b20-47c9d1e2a3b4"
    assert first.resource.vram == 10737418240
    assert first.used.vram == 10737418240 - 10214899712


def test_a_machine_without_anything_of_nvidia_never_loads_the_library(tmp_path: Path) -> None:
    def load() -> Any:
        raise AssertionError

    source = NvidiaSource(load)
    assert not source.is_present(tmp_path, ())
    assert source.is_present(plant("nvidia", tmp_path), ())


def test_the_library_is_initialised_once_and_let_go_of_at_the_end(root: Path, nvml: RecordedNVML) -> None:
    source = NvidiaSource(giving(nvml))
    look(source, root)
    look(source, root)
    source.close()
    source.close()
    assert [nvml.calls.count(call) for call in ("nvmlInit()", "nvmlShutdown()")] == [1, 1]


def test_bindings_that_are_not_installed_are_a_problem_that_is_told(root: Path) -> None:
    def load() -> Any:
        raise ImportError("No module named 'pynvml'")

    assert look(NvidiaSource(load), root).problems == ("NVIDIA: No module named 'pynvml'",)


@pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="needs a machine without NVIDIA's driver")
def test_without_the_library_the_real_bindings_say_so(root: Path) -> None:
    (problem,) = look(NvidiaSource(), root).problems
    assert problem.startswith("NVIDIA: no working driver for 0000:01:00.0, 0000:41:00.0: ")


def test_a_device_without_a_working_driver_is_named(root: Path, nvml: RecordedNVML) -> None:
    nvml.fail("nvmlInit()", DRIVER_NOT_LOADED, "Driver Not Loaded")
    source = NvidiaSource(giving(nvml))
    assert look(source, root).problems == (
        "NVIDIA: no working driver for 0000:01:00.0, 0000:41:00.0: Driver Not Loaded",
    )
    nvml.answers["nvmlInit()"] = None
    assert len(look(source, root).found) == 2


def test_a_device_that_fell_off_the_bus_costs_itself_only(root: Path, nvml: RecordedNVML) -> None:
    source = NvidiaSource(giving(nvml))
    look(source, root)
    nvml.fail("nvmlDeviceGetMemoryInfo(0)", LOST, "GPU is lost")
    found = look(source, root)
    assert [gpu.model for gpu in found.found] == ["H100 80GB HBM3"]
    assert found.problems == ("NVIDIA: device 0: GPU is lost",)


@pytest.mark.parametrize("value", [UNINITIALIZED, VERSION_MISMATCH])
def test_a_driver_that_was_replaced_is_met_anew(root: Path, nvml: RecordedNVML, value: int) -> None:
    source = NvidiaSource(giving(nvml))
    look(source, root)
    nvml.fail("nvmlDeviceGetCount()", value, "gone")
    assert look(source, root).problems == ("NVIDIA: gone",)
    nvml.answers["nvmlDeviceGetCount()"] = 2
    assert len(look(source, root).found) == 2
    assert nvml.calls.count("nvmlInit()") == 2


def test_what_an_old_driver_does_not_know_is_left_out(root: Path, nvml: RecordedNVML) -> None:
    for function in ("nvmlDeviceGetNumGpuCores", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMinorNumber"):
        del nvml.answers[f"{function}(0)"]
    gpu = look(NvidiaSource(giving(nvml)), root).found[0]
    assert (gpu.cores, gpu.busy_percent, gpu.devices) == (None, None, ())


def test_answers_in_bytes_are_text(root: Path, nvml: RecordedNVML) -> None:
    nvml.answers["nvmlDeviceGetName(0)"] = b"NVIDIA A2\xff"
    assert look(NvidiaSource(giving(nvml)), root).found[0].model == "A2�"


def test_of_a_divided_device_the_parts_are_offered(root: Path) -> None:
    found = look(NvidiaSource(giving(RecordedNVML("nvidia-mig"))), root)
    assert found.problems == ()
    assert [(gpu.uuid[:8], gpu.vram_bytes >> 30, gpu.pci_address) for gpu in found.found] == [
        ("MIG-1c6a", 39, "0000:41:00.0"),
        ("MIG-2d7b", 9, "0000:41:00.0"),
    ]
