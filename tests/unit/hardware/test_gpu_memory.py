"""The vendors' libraries are played by small ones in C, so that every call crosses the boundary for real."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dms.hardware.gpu import GPUInfo
from dms.hardware.gpu_memory import NoLibrary, write_and_read
from dms.testing.machines import plant

SOURCES = Path(__file__).resolve().parent / "libraries"
NAMES = {"nvml": "libnvidia-ml.so.1", "cuda": "libcuda.so.1", "hip": "libamdhip64.so"}

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None, reason="needs a C compiler: apt-get install gcc libc6-dev"
)

WRITE = """
import sys
from dms.hardware.gpu import GPUInfo
from dms.hardware.gpu_memory import DeviceFailed, NoLibrary, write_and_read
try:
    print(write_and_read(GPUInfo(vendor=sys.argv[1], uuid="u", pci_address=sys.argv[2])))
except (DeviceFailed, NoLibrary) as exc:
    print(type(exc).__name__, exc)
"""
LIST = """
import sys, trio
from pathlib import Path
from dms.hardware.gpus import GPUProbe
found = trio.run(GPUProbe(root=Path(sys.argv[1])).gpus)
print(found.problems, found.found[0])
"""

Run = Callable[..., str]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libraries")
    for source, name in NAMES.items():
        command = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(folder / name)]
        subprocess.run([*command, str(SOURCES / f"{source}.c")], check=True, timeout=60)
    return folder


@pytest.fixture
def run(libraries: Path) -> Run:
    def inside(program: str, *arguments: object, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *(str(argument) for argument in arguments)],
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries), **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return inside


@needs_compiler
def test_the_real_bindings_of_nvml_are_called_as_they_want(run: Run, tmp_path: Path) -> None:
    told = run(LIST, plant("nvidia", tmp_path))
    assert told == (
        "() GPUInfo(index=0, vendor='NVIDIA', model='Compiled', uuid='GPU-compiled', pci_address='0000:0a:00.0', "
        "vram_bytes=8589934592, vram_used_bytes=2147483648, vram_free_bytes=6442450944, driver='nvidia 550.54.14', "
        "cores=2560, busy_percent=42, devices=('/dev/nvidia3', '/dev/nvidiactl', '/dev/nvidia-uvm'))"
    )


@needs_compiler
@pytest.mark.parametrize(
    ("vendor", "address", "env", "told"),
    [
        ("NVIDIA", "0000:0a:00.0", {}, "16 MiB written by the device and read back"),
        ("AMD/ATI", "0000:0b:00.0", {}, "16 MiB written by the device and read back"),
        ("NVIDIA", "0000:0a:00.0", {"SICK": "1"}, "DeviceFailed the memory holds something else than was written"),
        ("NVIDIA", "0000:0a:00.0", {"FULL": "1"}, "DeviceFailed cuMemAlloc_v2: out of memory (2)"),
        ("NVIDIA", "0000:0c:00.0", {}, "DeviceFailed cuDeviceGetByPCIBusId: error 101"),
        ("AMD/ATI", "0000:0b:00.0", {"FULL": "1"}, "DeviceFailed hipMalloc: out of memory (2)"),
    ],
)
def test_memory_is_written_by_the_device_and_compared(
    run: Run, vendor: str, address: str, env: dict[str, str], told: str
) -> None:
    assert run(WRITE, vendor, address, **env) == told


@needs_compiler
def test_a_library_without_what_is_needed_cannot_be_tried(run: Run, libraries: Path, tmp_path: Path) -> None:
    shutil.copy(libraries / NAMES["hip"], tmp_path / NAMES["cuda"])
    told = run(WRITE, "NVIDIA", "0000:0a:00.0", LD_LIBRARY_PATH=str(tmp_path))
    assert told == "NoLibrary this CUDA library has no cuInit"


def test_what_cannot_be_reached_cannot_be_tried() -> None:
    with pytest.raises(NoLibrary, match="divided"):
        write_and_read(GPUInfo(vendor="NVIDIA", uuid="MIG-1"))
    with pytest.raises(NoLibrary, match="Intel"):
        write_and_read(GPUInfo(vendor="Intel", uuid="PCI-1"))
