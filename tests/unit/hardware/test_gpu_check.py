from pathlib import Path

import pytest

from dms.hardware.gpu import GPUInfo
from dms.hardware.gpu_check import GPUCheck, check_gpu
from dms.hardware.gpu_memory import DeviceFailed, NoLibrary

GIB = 1 << 30


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[str, ...]:
    paths = [tmp_path / name for name in ("card0", "renderD128")]
    for path in paths:
        path.touch()
    return tuple(str(path) for path in paths)


def device(nodes: tuple[str, ...] = (), vendor: str = "NVIDIA", vram: int = GIB) -> GPUInfo:
    return GPUInfo(vendor=vendor, uuid="GPU-1", driver="nvidia 550", vram_bytes=vram, devices=nodes)


def tool(folder: Path, name: str, script: str) -> str:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(folder)


def fine(_gpu: GPUInfo) -> str:
    return "done"


def no_library(_gpu: GPUInfo) -> str:
    raise NoLibrary("not installed")


def results(check: GPUCheck) -> dict[str, bool | None]:
    return {step.name: step.passed for step in check.steps}


def detail(check: GPUCheck, name: str) -> str:
    return next(step.detail for step in check.steps if step.name == name)


async def test_a_device_whose_memory_works_passes(nodes: tuple[str, ...], tmp_path: Path) -> None:
    check = await check_gpu(device(nodes), search_path=str(tmp_path), write=fine)
    assert check.passed
    assert results(check) == {
        "driver": True,
        "device nodes": True,
        "tool nvidia-smi": None,
        "tool clinfo": None,
        "containers": None,
        "memory": True,
    }


async def test_a_device_that_nothing_could_use_does_not_pass(nodes: tuple[str, ...], tmp_path: Path) -> None:
    check = await check_gpu(device(nodes), search_path=str(tmp_path), write=no_library)
    assert not check.passed
    assert False not in results(check).values()


async def test_a_tool_that_sees_the_device_is_enough(nodes: tuple[str, ...], tmp_path: Path) -> None:
    path = tool(tmp_path / "bin", "nvidia-smi", "echo GPU-1")
    tool(tmp_path / "bin", "nvidia-ctk", "exit 0")
    check = await check_gpu(device(nodes), search_path=path, write=no_library)
    assert check.passed
    assert (results(check)["containers"], detail(check, "containers")) == (True, "nvidia-ctk")


@pytest.mark.parametrize(
    ("script", "told"),
    [("echo GPU-2", "it does not list GPU-1"), ("echo no  devices >&2; exit 6", "exit code 6: no devices")],
)
async def test_a_tool_that_fails_or_sees_another_device_fails_the_test(
    nodes: tuple[str, ...], tmp_path: Path, script: str, told: str
) -> None:
    path = tool(tmp_path / "bin", "nvidia-smi", script)
    check = await check_gpu(device(nodes), search_path=path, write=fine)
    assert not check.passed
    assert detail(check, "tool nvidia-smi") == told


async def test_a_tool_that_cannot_be_started_fails_the_test(nodes: tuple[str, ...], tmp_path: Path) -> None:
    path = tool(tmp_path / "bin", "rocm-smi", "")
    (tmp_path / "bin/rocm-smi").write_bytes(b"\x7fELF nonsense")
    check = await check_gpu(device(nodes, "AMD/ATI"), search_path=path, write=fine)
    assert (check.passed, results(check)["tool rocm-smi"]) == (False, False)


async def test_memory_that_fails_fails_the_test(nodes: tuple[str, ...], tmp_path: Path) -> None:
    def broken(_gpu: GPUInfo) -> str:
        raise DeviceFailed("cuMemAlloc_v2: out of memory (2)")

    check = await check_gpu(device(nodes), search_path=str(tmp_path), write=broken)
    assert (check.passed, detail(check, "memory")) == (False, "cuMemAlloc_v2: out of memory (2)")


async def test_missing_nodes_and_a_driver_without_memory_are_told(tmp_path: Path) -> None:
    gone = str(tmp_path / "nvidia0")
    check = await check_gpu(device((gone,), vram=0), search_path=str(tmp_path), write=fine)
    assert not check.passed
    assert detail(check, "device nodes") == f"missing: {gone}"
    assert detail(check, "driver") == "nvidia 550 tells of no memory"
    assert (await check_gpu(device(), search_path=str(tmp_path), write=fine)).steps[1].passed is None
