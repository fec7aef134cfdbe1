"""Whether virtualisation works is found out by running something."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from dms.executor import kvm_guest
from dms.executor.kvm import LIMIT_S, kvm_works
from dms.executor.process import interpreter


def test_the_answer_is_what_a_guest_shows() -> None:
    """Where a guest counts in time, the answer is yes; where there is no device, it is no."""
    works = kvm_works()
    if not os.access(kvm_guest.DEVICE, os.R_OK | os.W_OK):
        assert not works
        return
    assert works == run_guest()


def run_guest() -> bool:
    try:
        command = interpreter("kvm_guest", "main", "")
        return subprocess.run(command, env={}, capture_output=True, check=False, timeout=LIMIT_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def test_the_guest_begins_at_the_reset_vector() -> None:
    rom = kvm_guest.rom(12345)
    assert len(rom) == 65536
    (jump,) = struct.unpack_from("<h", rom, 0xFFF1)
    assert rom[0xFFF0] == 0xE9
    assert rom[0xFFF3 + jump] == 0xFA  # cli: the code begins where the jump leads
    assert struct.pack("<I", 12345) in rom


def test_the_guest_needs_the_standard_library_only() -> None:
    source = Path(kvm_guest.__file__).read_text()
    assert "import trio" not in source
    assert "dms.executor." not in source.split('"""', 2)[2]
