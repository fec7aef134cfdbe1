"""The machine that the figures belong to."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec
import psutil

from dms.hardware.cpuinfo import parse_cpuinfo


class Machine(msgspec.Struct, frozen=True):
    """What must be known to compare figures of two machines."""

    cpu: str
    cores: int
    """Those that this process may use."""
    ram_gib: float
    kernel: str
    python: str


def describe_machine() -> Machine:
    """This machine."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        cpuinfo = ""
    return Machine(
        cpu=parse_cpuinfo(cpuinfo).model or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        ram_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )
