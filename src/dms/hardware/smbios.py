"""The kind and speed of the memory modules, out of the tables that the firmware leaves (DMTF DSP0134, 7.18).

The kernel shows them in ``/sys/firmware/dmi/tables/DMI`` and to root alone; virtual machines tend to invent theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TABLE = "sys/firmware/dmi/tables/DMI"
MAX_BYTES = 1 << 20
HZ_PER_MTS = 1_000_000

MEMORY_DEVICE, END = 17, 127
_SIZE, _TYPE, _SPEED, _CONFIGURED = 0x0C, 0x12, 0x15, 0x20
_TYPES = {
    0x12: "DDR",
    0x13: "DDR2",
    0x18: "DDR3",
    0x1A: "DDR4",
    0x1B: "LPDDR",
    0x1C: "LPDDR2",
    0x1D: "LPDDR3",
    0x1E: "LPDDR4",
    0x20: "HBM",
    0x21: "HBM2",
    0x22: "DDR5",
    0x23: "LPDDR5",
    0x24: "HBM3",
}


def read_memory_kind(root: Path) -> tuple[str, int]:
    """Type and transfers a second of the slowest module; empty and 0 where they cannot be read."""
    try:
        with (root / TABLE).open("rb") as file:
            table = file.read(MAX_BYTES)
    except OSError:
        return "", 0
    return memory_kind(table)


def memory_kind(table: bytes) -> tuple[str, int]:
    """The same from a table."""
    types: list[str] = []
    speeds: list[int] = []
    for kind, entry in _entries(table):
        if kind != MEMORY_DEVICE or not _word(entry, _SIZE):
            continue  # an empty slot has no size
        if name := _TYPES.get(entry[_TYPE] if len(entry) > _TYPE else 0):
            types.append(name)
        if speed := _word(entry, _CONFIGURED) or _word(entry, _SPEED):
            speeds.append(speed)
    return types[0] if types else "", min(speeds, default=0) * HZ_PER_MTS


def _entries(table: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and formatted part of each structure; texts follow it, up to two zeros."""
    start = 0
    while start + 4 <= len(table):
        kind, length = table[start], table[start + 1]
        if length < 4 or kind == END:
            return
        yield kind, table[start : start + length]
        end = table.find(b"\0\0", start + length)
        if end < 0:
            return
        start = end + 2


def _word(entry: bytes, offset: int) -> int:
    """16 bits; 0 where the entry is shorter, or says that it does not know."""
    value = int.from_bytes(entry[offset : offset + 2], "little") if offset + 2 <= len(entry) else 0
    return 0 if value == 0xFFFF else value
