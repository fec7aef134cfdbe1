import os
from pathlib import Path

import pytest

from dms.hardware.amd import AmdSource
from dms.hardware.gpu import GPUs
from dms.hardware.pci import graphics
from dms.testing.machines import plant

FIRST = "sys/bus/pci/devices/0000:0b:00.0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant("amd", tmp_path)


def look(root: Path) -> GPUs:
    return AmdSource().gpus(root, graphics(root))


def test_devices_are_told_with_memory_identity_driver_and_cores(root: Path) -> None:
    found = look(root)
    first, second = found.found
    assert first.model == "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]"
    assert (first.vram_bytes, first.vram_used_bytes) == (17163091968, 1073741824)
    assert first.vram_free_bytes == 17163091968 - 1073741824
    assert (first.uuid, first.cores) == ("GPU-4a9c1bd5e80f2376", 4608)
    assert first.driver == "amdgpu 6.8.5"
    assert first.devices == ("/dev/kfd", "/dev/dri/card0", "/dev/dri/renderD128")
    assert (second.model, second.cores) == ("AMD Instinct MI210", 6656)


def test_a_device_without_an_identity_is_known_by_its_place(root: Path) -> None:
    assert look(root).found[1].uuid == "PCI-0000:43:00.0"


def test_a_device_without_a_driver_is_a_problem_that_is_told(root: Path) -> None:
    assert look(root).problems == ("AMD: 0000:63:00.0: the driver is missing",)


@pytest.mark.parametrize("content", ["", "nonsense", "-5", "0"])
def test_a_driver_that_answers_nonsense_costs_itself_only(root: Path, content: str) -> None:
    (root / FIRST / "mem_info_vram_total").write_text(content)
    found = look(root)
    assert [gpu.model for gpu in found.found] == ["AMD Instinct MI210"]
    assert found.problems[0] == "AMD: 0000:0b:00.0: the driver does not tell its memory"


def test_more_in_use_than_there_is_counts_as_all(root: Path) -> None:
    (root / FIRST / "mem_info_vram_used").write_text("99999999999999")
    gpu = look(root).found[0]
    assert (gpu.vram_used_bytes, gpu.vram_free_bytes) == (gpu.vram_bytes, 0)


def test_without_the_compute_driver_the_cores_are_not_known(root: Path) -> None:
    for node in (root / "sys/class/kfd/kfd/topology/nodes").iterdir():
        (node / "properties").write_text("broken\nsimd_count\n")
    assert {gpu.cores for gpu in look(root).found} == {None}


def test_without_a_version_of_its_own_the_driver_has_that_of_the_kernel(root: Path) -> None:
    (root / "sys/module/amdgpu/version").unlink()
    assert look(root).found[0].driver == "amdgpu 6.8.0-49-generic"


def test_a_sleeping_device_is_not_woken_up(root: Path) -> None:
    busy = root / FIRST / "gpu_busy_percent"
    busy.unlink()
    os.mkfifo(busy)  # reading it would never end
    assert look(root).found[0].busy_percent is None
