"""Asking a graphics driver of the kernel for the memory of its device (``include/uapi/drm/{xe,i915}_drm.h``).

Both drivers are asked twice: first how long the answer is, then for the answer. Without ``CAP_PERFMON`` they tell of no
memory in use.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DRIVERS = ("xe", "i915")

MAX_ANSWER_BYTES = 1 << 16

_COMMAND_BASE = 0x40
_DEVICE_MEMORY = 1
_XE_QUERY = struct.Struct("=QIIQ2Q")  # extensions, query, size, data, reserved
_XE_MEM_REGIONS = 1
_XE_REGION = struct.Struct("=HHIQQQQ6Q")  # class, instance, page size, total, used, visible, visible used, reserved
_I915_QUERY = struct.Struct("=IIQ")  # number of items, flags, items
_I915_ITEM = struct.Struct("=QiIQ")  # query, length, flags, data
_I915_MEMORY_REGIONS = 4
_I915_REGION = struct.Struct("=HHIQQ8Q")  # class, instance, reserved, probed, unallocated, reserved
_HEADER_BYTES = {"xe": 8, "i915": 16}  # a count, and zeros

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a graphics processor."""

    total_bytes: int = 0
    used_bytes: int = 0


def query_memory(driver: str, node: Path, ioctl: Ioctl = fcntl.ioctl) -> Memory:
    """Ask the ``driver`` behind a render ``node``.

    :raises OSError: the node cannot be opened, or the driver does not know the question.
    """
    handle = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        answer = _xe(handle, ioctl) if driver == "xe" else _i915(handle, ioctl)
    finally:
        os.close(handle)
    return read_regions(driver, answer)


def read_regions(driver: str, answer: bytes) -> Memory:
    """The regions that lie on the device, together."""
    if len(answer) < _HEADER_BYTES[driver]:
        return Memory()
    region = _XE_REGION if driver == "xe" else _I915_REGION
    (count,) = struct.unpack_from("=I", answer)
    total = used = 0
    for start in range(_HEADER_BYTES[driver], len(answer) - region.size + 1, region.size)[:count]:
        kind, _, _, size, amount, *_ = region.unpack_from(answer, start)
        if kind != _DEVICE_MEMORY:
            continue
        total += size
        used += min(amount if driver == "xe" else size - min(amount, size), size)
    return Memory(total, used)


def request_number(command: int, size: int) -> int:
    """The number of a driver's command that reads and writes ``size`` bytes."""
    return 3 << 30 | size << 16 | ord("d") << 8 | _COMMAND_BASE + command


def _xe(handle: int, ioctl: Ioctl) -> bytes:
    request = request_number(0x00, _XE_QUERY.size)
    question = bytearray(_XE_QUERY.pack(0, _XE_MEM_REGIONS, 0, 0, 0, 0))
    ioctl(handle, request, question)
    answer = _buffer(_XE_QUERY.unpack(question)[2])
    question = bytearray(_XE_QUERY.pack(0, _XE_MEM_REGIONS, len(answer), ctypes.addressof(answer), 0, 0))
    ioctl(handle, request, question)
    return answer.raw


def _i915(handle: int, ioctl: Ioctl) -> bytes:
    request = request_number(0x39, _I915_QUERY.size)
    item = ctypes.create_string_buffer(_I915_ITEM.pack(_I915_MEMORY_REGIONS, 0, 0, 0), _I915_ITEM.size)
    question = bytearray(_I915_QUERY.pack(1, 0, ctypes.addressof(item)))
    ioctl(handle, request, question)
    answer = _buffer(_I915_ITEM.unpack(item.raw)[1])
    item.raw = _I915_ITEM.pack(_I915_MEMORY_REGIONS, len(answer), 0, ctypes.addressof(answer))
    ioctl(handle, request, question)
    length = _I915_ITEM.unpack(item.raw)[1]
    if length < 0:
        raise OSError(-length, os.strerror(-length))
    return answer.raw


def _buffer(length: int) -> ctypes.Array[ctypes.c_char]:
    if length < 0:
        raise OSError(-length, os.strerror(-length))
    return ctypes.create_string_buffer(min(length, MAX_ANSWER_BYTES))
