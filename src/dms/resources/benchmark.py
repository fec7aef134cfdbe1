"""What a measurement of the machine found, as a value: clients know it without what measures
(:mod:`dms.resources.measuring`).
"""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire
from dms.types.resources import Resources


class Benchmark(Wire):
    """What was measured; 0 where it could not be."""

    measured_at: float
    """Seconds since 1970."""
    seconds: float
    cpu_single_bps: int = 0
    """Bytes a second that one thread hashes with BLAKE2b, which no processor has an instruction of its own for."""
    cpu_all_bps: int = 0
    """The same by one thread for each usable processor."""
    memory_copy_bps: int = 0
    disk_write_bps: int = 0
    """One file written in order and synced to the device."""
    disk_read_bps: int = 0
    """The same file, after the kernel was asked to forget it; where it did not, this is the speed of its memory."""
    disk_sync_s: float = 0.0
    """A small write until it is on the device: the median."""
    loopback_bps: int = 0
    """Bytes a second through one TCP connection of this machine with itself."""
    loopback_rtt_s: float = 0.0
    """One byte there and back: the median."""


def described(resources: Resources, found: Benchmark | None) -> Resources:
    """The resources with the speed of the disk as it was measured."""
    if found is None:
        return resources
    disk = msgspec.structs.replace(resources.disk, read_speed=found.disk_read_bps, write_speed=found.disk_write_bps)
    return msgspec.structs.replace(resources, disk=disk)
