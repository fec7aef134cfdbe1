"""NVIDIA's graphics processors, as NVML tells of them.

The library is loaded once something of NVIDIA is there and stays initialised, as that may take a second where no
persistence daemon runs. What a driver that was replaced or removed answers makes the next look start anew. A device in
MIG mode cannot be used as a whole; its parts are listed in its place.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from dms.hardware.gpu import NVIDIA, GPUInfo, GPUs
from dms.hardware.pci import NVIDIA as VENDOR
from dms.hardware.pci import PCIDevice, normalized

SIGNS = ("dev/nvidiactl", "proc/driver/nvidia/version", "dev/dxg")
"""Any of them: there may be a driver, also where the bus cannot be seen."""

MAX_GPUS = 256
COMMON_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")


def load_nvml() -> ModuleType:
    """The bindings of nvidia-ml-py; the library itself is only looked for when it is initialised."""
    return importlib.import_module("pynvml")


class NvidiaSource:
    """Asks NVML; ``load`` gives the bindings."""

    vendor = NVIDIA

    def __init__(self, load: Callable[[], Any] = load_nvml) -> None:  # a module without types
        self._load = load
        self._nvml: Any = None

    def is_present(self, root: Path, devices: Sequence[PCIDevice]) -> bool:
        """See :class:`~dms.hardware.gpu.GPUSource`."""
        return any(device.vendor == VENDOR for device in devices) or any((root / sign).exists() for sign in SIGNS)

    def gpus(self, root: Path, devices: Sequence[PCIDevice]) -> GPUs:
        """See :class:`~dms.hardware.gpu.GPUSource`."""
        on_bus = [device for device in devices if device.vendor == VENDOR]
        if self._nvml is None:
            try:
                nvml = self._load()
            except ImportError as exc:
                return GPUs(problems=(f"NVIDIA: {exc}",))
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as exc:
                where = f" for {', '.join(d.address for d in on_bus)}" if on_bus else ""
                return GPUs(problems=(f"NVIDIA: no working driver{where}: {exc}",))
            self._nvml = nvml
        try:
            return self._ask(self._nvml)
        except self._nvml.NVMLError as exc:
            self.close()
            return GPUs(problems=(f"NVIDIA: {exc}",))

    def close(self) -> None:
        """See :class:`~dms.hardware.gpu.GPUSource`."""
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                return  # there is nothing to let go of any more

    def _ask(self, nvml: Any) -> GPUs:
        driver = f"nvidia {_text(nvml.nvmlSystemGetDriverVersion())}"
        found: list[GPUInfo] = []
        problems: list[str] = []
        for place in range(min(nvml.nvmlDeviceGetCount(), MAX_GPUS)):
            try:
                for handle, parent in _parts(nvml, nvml.nvmlDeviceGetHandleByIndex(place)):
                    found.append(_describe(nvml, handle, parent, driver))
            except nvml.NVMLError as exc:  # fallen off the bus, say; the others are well
                problems.append(f"NVIDIA: device {place}: {exc}")
        return GPUs(tuple(found), tuple(problems))


def _parts(nvml: Any, handle: Any) -> Iterator[tuple[Any, Any]]:
    """The device itself, or the parts it is divided into; each with the device it lies on."""
    is_divided = _optional(nvml, nvml.nvmlDeviceGetMigMode, handle, default=(0, 0))[0]
    if not is_divided:
        yield handle, handle
        return
    for place in range(min(nvml.nvmlDeviceGetMaxMigDeviceCount(handle), MAX_GPUS)):
        part = _optional(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place)
        if part is not None:  # places that hold no part are errors
            yield part, handle


def _describe(nvml: Any, handle: Any, parent: Any, driver: str) -> GPUInfo:
    # Of version 1 the memory that the driver keeps counts as used, which is the truth for whoever wants some.
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    busy = _optional(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    minor = _optional(nvml, nvml.nvmlDeviceGetMinorNumber, parent)
    return GPUInfo(
        vendor=NVIDIA,
        model=_text(nvml.nvmlDeviceGetName(handle)).removeprefix("NVIDIA ").strip(),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        pci_address=normalized(_text(nvml.nvmlDeviceGetPciInfo(parent).busId)),
        vram_bytes=int(memory.total),
        vram_used_bytes=int(memory.used),
        vram_free_bytes=int(memory.free),
        driver=driver,
        cores=_optional(nvml, nvml.nvmlDeviceGetNumGpuCores, handle),
        busy_percent=None if busy is None else int(busy.gpu),
        devices=() if minor is None else (f"/dev/nvidia{minor}", *COMMON_NODES),
    )


def _optional(nvml: Any, ask: Callable[..., Any], *arguments: Any, default: Any = None) -> Any:
    """An answer that older drivers and lesser devices do not have."""
    try:
        return ask(*arguments)
    except nvml.NVMLError as exc:
        if exc.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
            raise
        return default


def _text(answer: str | bytes) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
