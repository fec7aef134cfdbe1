"""Which devices a container is given: those of the GPUs that were allocated to it, and no others.

NVIDIA's are asked for by UUID: numbers change their meaning with the order in which drivers count. Of AMD's and Intel's
only the device nodes of the very card are given (and ``/dev/kfd``, which all of AMD's share), not all of ``/dev/dri``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dms.executor.errors import Unsupported
from dms.types.resources import GPU

NVIDIA_VARIABLE = "NVIDIA_VISIBLE_DEVICES"
GPU_VARIABLES = (
    NVIDIA_VARIABLE,
    *("NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES", "NVIDIA_IMEX_CHANNELS"),
    *("AMD_VISIBLE_DEVICES", "HABANA_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES"),
)
"""With a vendor's runtime as an engine's default, a container, or its image, could take devices by setting them."""


def gpu_config(gpus: Sequence[GPU], *, sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> dict[str, Any]:
    """The members of the engine's ``HostConfig`` for these GPUs; empty without any.

    :raises Unsupported: a GPU cannot be told from others.
    """
    by_vendor: dict[str, list[GPU]] = {}
    for gpu in gpus:
        by_vendor.setdefault(_vendor(gpu), []).append(gpu)
    made: dict[str, Any] = {}
    if nvidia := by_vendor.get("NVIDIA"):
        ids = [_uuid(gpu) for gpu in nvidia]
        made["DeviceRequests"] = [
            {"Driver": "nvidia", "DeviceIDs": ids, "Capabilities": [["gpu", "compute", "utility"]]}
        ]
    nodes: list[Path] = []
    for gpu in by_vendor.get("AMD", []) + by_vendor.get("INTEL", []):
        nodes += _nodes(gpu, sys, dev)
    if "AMD" in by_vendor:
        nodes.insert(0, dev / "kfd")
    if nodes:
        made["Devices"] = [
            {"PathOnHost": str(node), "PathInContainer": f"/dev/{node.relative_to(dev)}", "CgroupPermissions": "rw"}
            for node in dict.fromkeys(nodes)
        ]
        made["GroupAdd"] = sorted({str(_group(node)) for node in nodes})
    return made


def has_nvidia(gpus: Sequence[GPU]) -> bool:
    """Whether one of them is NVIDIA's."""
    return any(_vendor(gpu) == "NVIDIA" for gpu in gpus)


def _vendor(gpu: GPU) -> str:
    shown = gpu.vendor.upper()
    for word, vendor in (("NVIDIA", "NVIDIA"), ("INTEL", "INTEL"), ("AMD", "AMD"), ("ATI", "AMD")):
        if word in shown:
            return vendor
    raise Unsupported(f'a GPU of vendor "{gpu.vendor[:32]}" cannot be given to a container')


def _uuid(gpu: GPU) -> str:
    if not gpu.uuid:
        raise Unsupported(f"GPU {gpu.index} has no UUID, so it cannot be told from others")
    return gpu.uuid


def _nodes(gpu: GPU, sys: Path, dev: Path) -> list[Path]:
    address = gpu.pci_address.lower()
    address = address if address.count(":") == 2 else f"0000:{address}"
    names = sorted(path.name for path in (sys / "bus/pci/devices" / Path(address).name / "drm").glob("[cr]*[0-9]"))
    if not names:
        raise Unsupported(f'GPU {gpu.index} at PCI address "{gpu.pci_address[:32]}" has no device nodes')
    return [dev / "dri" / name for name in names]


def _group(node: Path) -> int:
    try:
        return node.stat().st_gid
    except OSError as exc:
        raise Unsupported(f"the device {node} is not there: {exc.strerror}") from None
