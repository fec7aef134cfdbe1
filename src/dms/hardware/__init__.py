"""What the machine has.

:mod:`~dms.hardware.probe`       :class:`HardwareProbe`: the seam
:mod:`~dms.hardware.machine`     :class:`~dms.hardware.machine.MachineProbe`: this machine
:mod:`~dms.hardware.inventory`   :class:`~dms.hardware.inventory.Inventory`: all that it finds, in words
:mod:`~dms.hardware.processor`   processors; :mod:`~dms.hardware.cpuinfo` is what the kernel tells of them
:mod:`~dms.hardware.memory`      main memory; :mod:`~dms.hardware.smbios` is what the firmware tells of it
:mod:`~dms.hardware.disk`        the file system of the work directory, and its device
:mod:`~dms.hardware.interfaces`  the network
:mod:`~dms.hardware.vitals`      how all of it is right now, for metrics
:mod:`~dms.hardware.gpus`        graphics processors of all vendors, as :mod:`~dms.hardware.nvidia`,
                                 :mod:`~dms.hardware.amd` and :mod:`~dms.hardware.intel` find them
:mod:`~dms.hardware.gpu`         one of them, and the seam between vendors
:mod:`~dms.hardware.gpu_check`   does one work
:mod:`~dms.hardware.gpu_memory`  a pattern written into its memory and read back
:mod:`~dms.hardware.drm`         asking the kernel's graphics drivers for memory
:mod:`~dms.hardware.pci`         what is plugged in
:mod:`~dms.hardware.cgroup`      what a container may use of it all
:mod:`~dms.hardware.sysfs`       reading the kernel's small files
"""

from dms.hardware.probe import HardwareProbe

__all__ = ["HardwareProbe"]
