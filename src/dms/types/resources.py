"""What a machine has and a job wants, as it travels (``spec/ensemble.md`` 2.3, ``spec/execution.md`` 7.1).

Sizes are bytes, clocks hertz, cores a number with two decimals. Arithmetic and comparison live in ``dms.resources``.
"""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire


class _Untagged(Wire):
    untagged_names = True


class CPU(_Untagged):
    """Processor capacity; ``cores`` may be fractional, ``clock_speed`` is in Hz, ``cache_size`` in bytes."""

    cores: float = 0.0
    clock_speed: float = 0.0
    model: str = ""
    vendor: str = ""
    threads: int = 0
    architecture: str = ""
    cache_size: int = 0


class RAM(_Untagged):
    """Memory in bytes, its clock in Hz."""

    size: int = 0
    clock_speed: int = 0
    type: str = ""


class Disk(_Untagged):
    """Storage in bytes, speeds in bytes per second."""

    size: int = 0
    model: str = ""
    vendor: str = ""
    type: str = ""
    interface: str = ""
    read_speed: int = 0
    write_speed: int = 0


class GPU(_Untagged):
    """One graphics processor; ``vram`` in bytes, ``vendor`` one of ``NVIDIA``, ``AMD/ATI``, ``Intel``."""

    index: int = 0
    vendor: str = ""
    pci_address: str = ""
    model: str = ""
    vram: int = 0
    uuid: str = ""


class Resources(_Untagged):
    """CPU, GPUs, RAM and disk together."""

    cpu: CPU = msgspec.field(default_factory=CPU)
    gpus: tuple[GPU, ...] = ()
    ram: RAM = msgspec.field(default_factory=RAM)
    disk: Disk = msgspec.field(default_factory=Disk)


class Location(Wire):
    """A place on earth: continent code, ISO country, city, autonomous system, provider; empty means unknown or any."""

    continent: str = ""
    country: str = ""
    city: str = ""
    asn: int = 0
    isp: str = ""


class SpecConfig(Wire):
    """A kind and its free parameters, such as ``{"type": "wasm", "params": {…}}`` (``spec/execution.md`` 1.8)."""

    type: str = ""
    params: dict[str, object] = msgspec.field(default_factory=dict)
