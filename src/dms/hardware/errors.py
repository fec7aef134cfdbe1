"""Errors of looking at hardware. What a driver does wrong is a problem that is told, never an error.

::

    DMSError
    └── HardwareError
        ├── NoGPU       there is no graphics processor, or none of this index   (NotFound)
        └── GPUFailed   it does not do what it should
"""

from __future__ import annotations

from dms.types.errors import DMSError, NotFound


class HardwareError(DMSError):
    """The hardware is not as it should be."""

    code = "hardware"


class NoGPU(NotFound, HardwareError):
    """There is no such GPU on this machine."""

    code = "no_gpu"
    default_hint = "nunet gpu list shows those that its drivers tell of"


class GPUFailed(HardwareError):
    """The GPU failed its test."""

    code = "gpu_failed"
