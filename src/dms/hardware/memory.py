"""Main memory: how much, how much of it can be had now, and of what kind."""

from __future__ import annotations

from pathlib import Path

import msgspec
import psutil

from dms.hardware.cgroup import Limits
from dms.hardware.smbios import read_memory_kind
from dms.types.resources import RAM


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What of the machine's memory this process may use."""

    total_bytes: int
    available_bytes: int
    machine_bytes: int
    """Of the whole machine, whatever a control group allows."""
    swap_bytes: int = 0
    clock_hz: int = 0
    """Transfers a second; 0: only the firmware knows, and tells root alone."""
    type: str = ""
    """Such as ``DDR5``; empty: as above."""

    @property
    def resource(self) -> RAM:
        """As it is counted and offered."""
        return RAM(size=self.total_bytes, clock_speed=self.clock_hz, type=self.type)

    @property
    def used_bytes(self) -> int:
        """What of it cannot be had now."""
        return min(max(self.total_bytes - self.available_bytes, 0), self.total_bytes)


def read_memory(root: Path, limits: Limits, kind: tuple[str, int] | None = None) -> Memory:
    """The memory as of this moment; ``kind``: its type and clock where they are known already."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    if limits.memory_bytes is not None:
        total = min(total, limits.memory_bytes)
        available = min(available, limits.memory_bytes - limits.memory_used_bytes)
    type_, clock_hz = read_memory_kind(root) if kind is None else kind
    return Memory(
        total_bytes=total,
        available_bytes=min(max(available, 0), total),
        machine_bytes=machine.total,
        swap_bytes=_swap_bytes(root),
        clock_hz=clock_hz,
        type=type_,
    )


def _swap_bytes(root: Path) -> int:
    """From ``/proc/meminfo``: psutil looks at more than that and warns where it is missing."""
    try:
        lines = (root / "proc/meminfo").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, rest = line.partition(":")
        amount = rest.split()
        if name == "SwapTotal" and amount and amount[0].isdigit():
            return int(amount[0]) * 1024
    return 0
