"""What the machine has.

:mod:`~dms.hardware.probe`    :class:`HardwareProbe`: the seam
:mod:`~dms.hardware.machine`  :class:`MachineProbe`: this machine
:mod:`~dms.hardware.cpuinfo`  what the kernel tells of processors
:mod:`~dms.hardware.cgroup`   what a container may use of them
"""

from dms.hardware.probe import HardwareProbe

__all__ = ["HardwareProbe"]
