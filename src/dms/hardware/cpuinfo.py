"""Reading ``/proc/cpuinfo``: model, vendor, clock, cache and features of the first processor, and how many cores there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLOCK_IN_MODEL = re.compile(r"@\s*([0-9.]+)\s*GHz", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
_CACHE = re.compile(r"([0-9]+)\s*KB", re.IGNORECASE)

ARM_IMPLEMENTERS = {"0x41": "ARM", "0x42": "Broadcom", "0x51": "Qualcomm", "0x61": "Apple", "0xc0": "Ampere"}


@dataclass(frozen=True, slots=True)
class CPUInfo:
    """What the kernel tells; zero and empty: it does not."""

    model: str = ""
    vendor: str = ""
    cache_bytes: int = 0
    present_hz: float = 0.0
    """The clock of this moment, which power saving changes."""
    nominal_hz: float = 0.0
    """The clock in the model's name."""
    physical_cores: int = 0
    """Cores of all sockets, each of which may run several threads."""
    features: tuple[str, ...] = ()
    """What the processor can do beyond the basics, by the kernel's names: ``avx2``, ``aes``, ``asimd``."""


def parse_cpuinfo(text: str) -> CPUInfo:
    """The first processor of ``/proc/cpuinfo``, and the cores of all."""
    fields: dict[str, str] = {}
    cores: set[tuple[str, str]] = set()
    socket = ""
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if not separator:
            continue
        name, value = name.strip().lower(), value.strip()
        fields.setdefault(name, value)
        if name == "physical id":
            socket = value
        elif name == "core id":
            cores.add((socket, value))
    model = fields.get("model name") or fields.get("model") or ""
    implementer = fields.get("cpu implementer", "").lower()
    clock = _CLOCK_IN_MODEL.search(model)
    cache = _CACHE.search(fields.get("cache size", ""))
    return CPUInfo(
        model="" if model.isdigit() else model,
        vendor=fields.get("vendor_id") or ARM_IMPLEMENTERS.get(implementer, implementer),
        cache_bytes=int(cache[1]) * 1024 if cache else 0,
        present_hz=_number(fields.get("cpu mhz", "")) * 1e6,
        nominal_hz=_number(clock[1]) * 1e9 if clock else 0.0,
        physical_cores=len(cores),
        features=tuple(sorted(set((fields.get("flags") or fields.get("features") or "").split()))),
    )


def _number(text: str) -> float:
    return float(text) if _NUMBER.fullmatch(text) else 0.0
