"""How the machine is, as a whole and right now, for metrics: reads of the kernel's counters that take no time."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Vitals:
    """``cpu_share``: of all cores, from 0 to 1, since the last look; ``net_…``: since the start of the machine."""

    cpu_share: float
    memory_used_bytes: int
    memory_total_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int
    uptime_s: float
    load_15: float
    net_in_bytes: int
    net_out_bytes: int


def read_vitals(directory: Path) -> Vitals:
    """Look now; the disk is that of ``directory``."""
    memory = psutil.virtual_memory()
    try:
        disk = shutil.disk_usage(directory)
        used, total = disk.used, disk.total
    except OSError:
        used = total = 0
    network = psutil.net_io_counters()
    return Vitals(
        cpu_share=psutil.cpu_percent(None) / 100,
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        disk_used_bytes=used,
        disk_total_bytes=total,
        uptime_s=max(0.0, time.time() - psutil.boot_time()),
        load_15=psutil.getloadavg()[2],
        net_in_bytes=getattr(network, "bytes_recv", 0),  # None where there is no network
        net_out_bytes=getattr(network, "bytes_sent", 0),
    )
