"""Whether hardware virtualisation truly works here (x86-64).

That ``/dev/kvm`` opens and makes machines says little: on some hosts every guest instruction is emulated behind it,
thousands of times slower than without. So a small guest is run (:mod:`dms.executor.kvm_guest`), in a process of its own
that can be ended, and must be done within :data:`LIMIT_S`.
"""

from __future__ import annotations

import os
import platform
import subprocess

from dms.executor.kvm_guest import DEVICE
from dms.executor.process import interpreter

LIMIT_S = 2.0
"""A working processor takes some 10 ms beside the start of the process."""


def kvm_works() -> bool:
    """Try it; blocks for :data:`LIMIT_S` at most."""
    if platform.machine() not in ("x86_64", "AMD64") or not os.access(DEVICE, os.R_OK | os.W_OK):
        return False
    command = interpreter("kvm_guest", "main", "")
    try:
        done = subprocess.run(command, env={}, capture_output=True, check=False, timeout=LIMIT_S)
    except (subprocess.TimeoutExpired, OSError):
        return False
    return done.returncode == 0
