"""Whether the wall clock of this machine is kept right, as the kernel knows it: whoever sets it tells the kernel.

Messages carry their expiry; a machine whose clock is wrong refuses good ones and sends dead ones.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_UNSYNCHRONISED = 0x0040
"""``STA_UNSYNC`` of ``adjtimex(2)``."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """``is_synchronised`` is ``None`` where the kernel does not say; ``max_error_s`` bounds how wrong it may be."""

    is_synchronised: bool | None = None
    max_error_s: float = 0.0


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def clock_state() -> ClockState:
    """Ask the kernel; needs no rights and changes nothing."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return ClockState()
    timex = _Timex()
    if adjtimex(ctypes.byref(timex)) < 0:
        return ClockState()
    return ClockState(not timex.status & _UNSYNCHRONISED, timex.maxerror / 1e6)
