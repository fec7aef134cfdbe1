"""What machines offer and ensembles ask for, as a table: part of :mod:`dms.ensemble.format`."""

from __future__ import annotations

from dms.ensemble.containers import Member, Object
from dms.ensemble.dialect import (
    MAX_CARDS,
    Cards,
)
from dms.ensemble.kinds import Integer, Number, frequency, size
from dms.ensemble.texts import (
    FILLED,
    TEXT,
)

CPU = Object(
    {
        "cores": Member(Number("cpu.cores", decimals=2), "cores, such as 0.5; two decimals count", required=True),
        "clock_speed": Member(frequency("cpu.clock_speed"), "lowest clock; GHz without a unit"),
        "model": Member(TEXT, "model, as information"),
        "vendor": Member(TEXT, "vendor, as information"),
        "threads": Member(Integer(), "threads, as information"),
        "architecture": Member(TEXT, "x86_64, aarch64 …; must be the provider's"),
        "cache_size": Member(size("cpu.cache_size"), "cache, as information; GiB without a unit"),
    },
    is_untagged=True,
)
RAM = Object(
    {
        "size": Member(
            size("ram.size", must_be_positive=True), "memory, such as 512MiB; GiB without a unit", required=True
        ),
        "clock_speed": Member(frequency("ram.clock_speed"), "clock, as information; GHz without a unit"),
        "type": Member(TEXT, "type, as information"),
    },
    is_untagged=True,
)
DISK = Object(
    {
        "size": Member(
            size("disk.size", must_be_positive=True), "storage, such as 1GiB; GiB without a unit", required=True
        ),
        "model": Member(TEXT, "model, as information"),
        "vendor": Member(TEXT, "vendor, as information"),
        "type": Member(TEXT, "type, as information"),
        "interface": Member(TEXT, "interface, as information"),
        "read_speed": Member(Integer(), "bytes per second, as information"),
        "write_speed": Member(Integer(), "bytes per second, as information"),
    },
    is_untagged=True,
)
GPU = Object(
    {
        "index": Member(Integer(), "number on the provider; better left out"),
        "vendor": Member(FILLED, "NVIDIA, AMD/ATI or Intel"),
        "pci_address": Member(TEXT, "address on the provider; better left out"),
        "model": Member(FILLED, "model, such as RTX 3080"),
        "vram": Member(size("vram"), "lowest memory of the card; GiB without a unit"),
        "uuid": Member(TEXT, "a certain card; better left out"),
        "count": Member(Integer(minimum=1, maximum=MAX_CARDS), "so many equal cards; 1 unless given"),
    },
    is_untagged=True,
)
RESOURCES = Object(
    {
        "cpu": Member(CPU, "processor: cores", required=True),
        "gpus": Member(Cards(GPU), "graphics processors", aliases=("gpu",)),
        "ram": Member(RAM, "memory: size", required=True),
        "disk": Member(DISK, "storage: size", required=True),
    },
    is_untagged=True,
    definition="resources",
)
