"""A guest of a few instructions that tells whether KVM is worth its name; see :mod:`dms.executor.kvm`.

It enters protected mode, counts down, and writes to a port. The code is loaded where the processor begins, so no state
has to be set up. Standard library only: it runs in a bare interpreter.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import sys

ROUNDS = 20_000_000
DEVICE = "/dev/kvm"
_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
_CREATE_VCPU, _SET_TSS_ADDR, _RUN = 0xAE41, 0xAE47, 0xAE80
_SET_USER_MEMORY_REGION = 0x4020AE46
_API_VERSION, _EXIT_IO = 12, 2
_ROM_BYTES, _ROM_BASE, _TSS_BASE = 0x10000, 0xFFFF0000, 0x70000000
_PORT = 0xF4


def main(_argument: str) -> None:
    """Run the guest; ends the process with 0 when it did what it should."""
    kvm = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    if fcntl.ioctl(kvm, _GET_API_VERSION, 0) != _API_VERSION:
        sys.exit("another version of KVM")
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    fcntl.ioctl(machine, _SET_TSS_ADDR, _TSS_BASE)
    memory = mmap.mmap(-1, _ROM_BYTES)
    memory[:] = rom(ROUNDS)
    address = _address(memory)
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, struct.pack("=IIQQQ", 0, 0, _ROM_BASE, _ROM_BYTES, address))
    processor = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    state = mmap.mmap(processor, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0))
    fcntl.ioctl(processor, _RUN, 0)
    (reason,) = struct.unpack_from("=I", state, 8)
    if reason != _EXIT_IO:
        sys.exit(f"it stopped for reason {reason}")


def rom(rounds: int) -> bytes:
    """64 KiB that end at 4 GiB, where the processor begins."""
    code16, code32, table, pointer = 0xFF00, 0xFD00, 0xFE00, 0xFE40
    segments = bytes(8) + bytes.fromhex("ffff0000009bcf00") + bytes.fromhex("ffff00000093cf00")
    enter = b"\xfa"  # cli
    enter += b"\x2e\x66\x0f\x01\x16" + struct.pack("<H", pointer)  # lgdt cs:[pointer]
    enter += b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"  # cr0 |= 1: protected mode
    enter += b"\x66\xea" + struct.pack("<IH", _ROM_BASE + code32, 8)  # far jump into it
    count = b"\xb9" + struct.pack("<I", rounds) + b"\x49\x75\xfd"  # ecx = rounds; loop: dec ecx; jnz loop
    count += b"\x66\xba" + struct.pack("<H", _PORT) + b"\xb0\x01\xee\xf4"  # out port, 1; hlt
    image = bytearray(_ROM_BYTES)
    for offset, part in (
        (code16, enter),
        (code32, count),
        (table, segments),
        (pointer, struct.pack("<HI", len(segments) - 1, _ROM_BASE + table)),
        (0xFFF0, b"\xe9" + struct.pack("<h", code16 - 0xFFF3)),  # the reset vector: jmp enter
    ):
        image[offset : offset + len(part)] = part
    return bytes(image)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
