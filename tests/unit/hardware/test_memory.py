import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.hardware.cgroup import Limits
from dms.hardware.memory import read_memory
from dms.hardware.smbios import memory_kind

GIB = 1 << 30


def module(kind: int, speed: int, configured: int = 0, size: int = 16384, length: int = 40) -> bytes:
    """One memory device as DMTF DSP0134 7.18 lays it out, with one text behind it."""
    entry = struct.pack(
        "<BBHHHHHHBBBBBHH", 17, length, 0x1100, 0x1000, 0xFFFE, 64, 64, size, 9, 0, 1, 0, kind, 0, speed
    )
    entry = entry.ljust(0x20, b"\0") + struct.pack("<H", configured)
    return entry.ljust(length, b"\0")[:length] + b"DIMM_A1\0\0"


OTHER = struct.pack("<BBH", 1, 8, 0x0100) + b"\0" * 4 + b"\0\0"
END = struct.pack("<BBH", 127, 4, 0xFEFF) + b"\0\0"


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (OTHER + module(0x1A, 3200, 2933) + module(0x1A, 3200, 3200) + END, ("DDR4", 2_933_000_000)),
        (module(0x22, 5600) + END, ("DDR5", 5_600_000_000)),
        (module(0x22, 5600, size=0) + module(0x18, 1600) + END, ("DDR3", 1_600_000_000)),
        (module(0x02, 0xFFFF) + END, ("", 0)),
        (module(0x1A, 0, length=0x15), ("DDR4", 0)),
        (END + module(0x1A, 3200), ("", 0)),
        (b"", ("", 0)),
    ],
)
def test_type_and_clock_come_from_the_firmware(table: bytes, kind: tuple[str, int]) -> None:
    assert memory_kind(table) == kind


@given(st.binary(max_size=200))
def test_no_table_whatever_breaks_the_reader(table: bytes) -> None:
    memory_kind(table)
    memory_kind(OTHER + table)


def test_the_real_memory_is_told() -> None:
    found = read_memory(Path("/"), Limits())
    assert 64 << 20 < found.total_bytes == found.machine_bytes < 1 << 50
    assert 0 < found.available_bytes <= found.total_bytes
    assert found.used_bytes == found.total_bytes - found.available_bytes


def test_a_control_group_bounds_it(tmp_path: Path) -> None:
    table = tmp_path / "sys/firmware/dmi/tables/DMI"
    table.parent.mkdir(parents=True)
    table.write_bytes(module(0x22, 4800) + END)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1 kB\nSwapTotal:       2048 kB\n")
    found = read_memory(tmp_path, Limits(memory_bytes=1 << 20, memory_used_bytes=1 << 18))
    assert (found.total_bytes, found.available_bytes, found.used_bytes) == (1 << 20, 3 << 18, 1 << 18)
    assert (found.swap_bytes, found.type, found.clock_hz) == (2 << 20, "DDR5", 4_800_000_000)
    assert found.resource.clock_speed == 4_800_000_000
    assert read_memory(tmp_path, Limits(memory_bytes=1, memory_used_bytes=9)).available_bytes == 0
