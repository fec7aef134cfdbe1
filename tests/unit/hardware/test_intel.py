import ctypes
import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.hardware.drm import Ioctl, Memory, query_memory, read_regions, request_number
from dms.hardware.intel import IntelSource
from dms.hardware.pci import graphics
from dms.testing.machines import plant

GIB = 1 << 30
SYSTEM, DEVICE = 0, 1


def xe_answer(*regions: tuple[int, int, int]) -> bytes:
    """Kind, size and use of each region, as ``struct drm_xe_query_mem_regions``."""
    header = struct.pack("=II", len(regions), 0)
    return header + b"".join(
        struct.pack("=HHIQQQQ48x", kind, place, 4096, size, used, size, used)
        for place, (kind, size, used) in enumerate(regions)
    )


def i915_answer(*regions: tuple[int, int, int]) -> bytes:
    """The same as ``struct drm_i915_query_memory_regions``, which tells what is left instead."""
    header = struct.pack("=IIII", len(regions), 0, 0, 0)
    return header + b"".join(
        struct.pack("=HHIQQ64x", kind, place, 0, size, size - used) for place, (kind, size, used) in enumerate(regions)
    )


XE = xe_answer((SYSTEM, 32 * GIB, 5 * GIB), (DEVICE, 12 * GIB, GIB))
I915 = i915_answer((SYSTEM, 32 * GIB, 0), (DEVICE, 16 * GIB, 2 * GIB))


def kernel(driver: str, answer: bytes, *, item_error: int = 0) -> Ioctl:
    """Answers the queries of one driver through the pointers that it is given, as the kernel does."""

    def xe(_handle: int, request: int, question: bytearray) -> int:
        assert request == 0xC0286440
        extensions, query, size, data, *reserved = struct.unpack("=QIIQ2Q", question)
        assert (extensions, query, reserved) == (0, 1, [0, 0])
        if not size:
            question[:] = struct.pack("=QIIQ2Q", 0, query, len(answer), 0, 0, 0)
            return 0
        assert size == len(answer)
        ctypes.memmove(data, answer, size)
        return 0

    def i915(_handle: int, request: int, question: bytearray) -> int:
        assert request == 0xC0106479
        count, flags, items = struct.unpack("=IIQ", question)
        assert (count, flags) == (1, 0)
        query, length, flags, data = struct.unpack("=QiIQ", ctypes.string_at(items, 24))
        assert (query, flags) == (4, 0)
        if length:
            ctypes.memmove(data, answer, length)
        said = -item_error if item_error else len(answer)
        ctypes.memmove(items, struct.pack("=QiIQ", query, said, 0, data), 24)
        return 0

    return xe if driver == "xe" else i915


@pytest.mark.parametrize(
    ("driver", "answer", "memory"), [("xe", XE, Memory(12 * GIB, GIB)), ("i915", I915, Memory(16 * GIB, 2 * GIB))]
)
def test_the_kernel_is_asked_in_its_own_words(tmp_path: Path, driver: str, answer: bytes, memory: Memory) -> None:
    node = tmp_path / "renderD128"
    node.touch()
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    assert query_memory(driver, node, kernel(driver, answer)) == memory
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_a_question_that_the_driver_does_not_know_is_an_error(tmp_path: Path) -> None:
    node = tmp_path / "renderD128"
    node.touch()
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        query_memory("i915", node, kernel("i915", I915, item_error=errno.EINVAL))
    with pytest.raises(FileNotFoundError):
        query_memory("xe", tmp_path / "missing")
    with pytest.raises(OSError, match=os.strerror(errno.ENOTTY)):  # the real kernel, about a plain file
        query_memory("xe", node)


def test_the_numbers_of_requests_are_those_of_the_headers() -> None:
    assert request_number(0x39, 16) == 3222299769  # DRM_IOCTL_I915_QUERY


@given(st.sampled_from(["xe", "i915"]), st.binary(max_size=400))
def test_no_answer_whatever_breaks_the_reader(driver: str, answer: bytes) -> None:
    memory = read_regions(driver, answer)
    assert 0 <= memory.used_bytes <= memory.total_bytes


def test_devices_are_told_with_memory_and_driver(tmp_path: Path) -> None:
    root = plant("intel", tmp_path)
    answers = {
        "renderD128": Memory(),
        "renderD129": Memory(17079205888, GIB),
        "renderD130": Memory(12 * GIB, 0),
    }
    asked: list[tuple[str, str]] = []

    def query(driver: str, node: Path) -> Memory:
        asked.append((driver, node.name))
        return answers[node.name]

    found = IntelSource(query).gpus(root, graphics(root))
    assert found.problems == ()
    inside, arc, battlemage = found.found
    assert (inside.model, inside.vram_bytes) == ("AlderLake-S GT1 [UHD Graphics 770]", 0)
    assert (arc.model, arc.vram_bytes, arc.vram_free_bytes) == ("DG2 [Arc A770]", 17079205888, 17079205888 - GIB)
    assert (battlemage.model, battlemage.driver) == ("Intel e20b", "xe 6.11.0-9-generic")
    assert arc.devices == ("/dev/dri/card1", "/dev/dri/renderD129")
    assert arc.uuid == "PCI-0000:03:00.0"
    assert asked == [("i915", "renderD128"), ("i915", "renderD129"), ("xe", "renderD130")]


def test_a_node_that_may_not_be_opened_is_a_problem_that_is_told(tmp_path: Path) -> None:
    root = plant("intel", tmp_path)

    def query(driver: str, node: Path) -> Memory:
        raise PermissionError(errno.EACCES, "Permission denied", str(node))

    found = IntelSource(query).gpus(root, graphics(root))
    assert [gpu.vram_bytes for gpu in found.found] == [0, 0, 0]
    assert found.problems[1] == "Intel: 0000:03:00.0: /dev/dri/renderD129: Permission denied"


def test_another_driver_is_a_problem_that_is_told(tmp_path: Path) -> None:
    root = plant("intel", tmp_path)
    link = root / "sys/bus/pci/devices/0000:03:00.0/driver"
    link.unlink()
    link.symlink_to("../../../../bus/pci/drivers/vfio-pci")
    found = IntelSource(lambda _driver, _node: Memory()).gpus(root, graphics(root))
    assert found.problems == ("Intel: 0000:03:00.0: the driver is vfio-pci",)
