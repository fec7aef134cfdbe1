"""MicroVMs of QEMU: hardware virtualisation where it truly works, emulation elsewhere (``spec/execution.md`` 3).

A machine has what it needs and nothing else: a serial line, its drives, perhaps one network card. Its process runs in
QEMU's seccomp sandbox and, where the daemon is root, as a user of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import trio

from dms.executor import qmp
from dms.executor.errors import EngineRefused, ExecutorUnavailable, Unsupported
from dms.executor.initrd import Card
from dms.executor.kvm import kvm_works
from dms.executor.protocol import ExecutionRequest, Member
from dms.executor.vm import MachineExecutor
from dms.executor.vm_machine import Machine, MachineExecution, run_of
from dms.executor.vm_member import member_of
from dms.executor.vm_params import QEMU, MachineParams

BINARY = "qemu-system-x86_64"
SOCKET = "qmp.sock"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
USER_NETWORK, USER_ADDRESS = "192.0.2.0/24", "192.0.2.15/24"
"""QEMU's own network, which carries nothing but the ports that are bound, and the guest in it. It is one of those for examples
(RFC 5737): all of 10/8 may be private networks."""
PROBE_TIMEOUT_S = 10.0


class QemuExecutor(MachineExecutor):
    """See the module and :mod:`dms.executor.vm`. ``image_dirs`` hold the kernels and images that may be booted.

    Whether KVM is used is found out before the first machine starts, unless ``uses_kvm`` tells: that may take a while.
    """

    type = QEMU
    BINDS = ("tcp",)
    """QEMU's own network drops what a guest answers by UDP, where it is to carry nothing else."""
    BASE_ARGS = "console=ttyS0 panic=-1 reboot=t no_timer_check cryptomgr.notests random.trust_cpu=on i8042.noaux"

    @classmethod
    async def open(cls, nursery: trio.Nursery, state_dir: Path, *, image_dirs: Iterable[Path]) -> QemuExecutor:
        """An executor that is known to work here and has found what an earlier process left.

        :raises ExecutorUnavailable: it cannot work here, with the reason.
        """
        binary = await cls._find_binary(BINARY, timeout_s=PROBE_TIMEOUT_S, hint="apt-get install qemu-system-x86")
        executor = cls(nursery, state_dir, image_dirs=image_dirs, binary=binary)
        await executor._ready()
        return executor

    async def pause(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.pause`. The limit of wall-clock time goes on counting."""
        await self._tell(execution_id, "stop")

    async def resume(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.resume`."""
        await self._tell(execution_id, "cont")

    def _find_out(self) -> bool:
        return kvm_works()

    def _check(self, request: ExecutionRequest, params: MachineParams) -> None:
        super()._check(request, params)
        if request.ports and params.tap_device:
            raise Unsupported("ports are bound without a tap_device only", hint="the machine has an address of its own")
        if len(self._bound(request)) < len(request.ports) and member_of(request, self._obstacle(params)) is None:
            raise Unsupported(
                "QEMU lets no UDP in where the machine may reach nothing else",
                hint="leave the port out, or use a machine that gives addresses in private networks: they lead UDP in",
            )

    def _argv(self, machine: Machine) -> list[str]:
        params = machine.params
        accelerator = "kvm" if self._uses_kvm else "tcg"
        extras = "usb=off" if params.machine == "pc" else "pit=on,pic=on,rtc=on,isa-serial=on"
        argv = [str(self._binary), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        argv += ["-machine", f"{params.machine},accel={accelerator},{extras}", "-sandbox", SANDBOX]
        if self._uses_kvm:
            argv += ["-cpu", "host"]
        argv += ["-smp", str(machine.vcpus), "-m", f"{machine.memory_mib}M", "-kernel", "kernel"]
        if machine.has_initrd:
            argv += ["-initrd", "initrd"]
        argv += ["-append", machine.kernel_args]
        argv += ["-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial"]
        argv += ["-qmp", f"unix:{SOCKET},server=on,wait=off"]
        bus = "pci" if params.machine == "pc" else "device"
        for index, drive in enumerate(machine.drives):
            read_only = "on" if drive.is_read_only else "off"
            argv += ["-drive", f"file={drive.name},if=none,id=drive{index},format={drive.format},readonly={read_only}"]
            argv += ["-device", f"virtio-blk-{bus},drive=drive{index}"]
        return [*argv, *self._private_network(machine, bus), *self._network(machine, bus)]

    def _private_network(self, machine: Machine, bus: str) -> list[str]:
        """The first card; the guest runs once packets reach it."""
        if machine.member is None:
            return []
        card = f"{_card(bus, 'private', self._private_mac(machine.execution_id))},host_mtu={machine.member.mtu}"
        return ["-S", "-netdev", "tap,id=private,fd={private}", "-device", card]

    def _network(self, machine: Machine, bus: str) -> list[str]:
        card = ["-device", _card(bus, "net", self._mac(machine.execution_id))]
        if machine.params.tap_device:
            return ["-netdev", "tap,id=net,fd={tap}", *card]
        bound = self._bound(machine.request)
        if not bound:
            return []
        forwards = [f"hostfwd={port.protocol}:{port.ip}:{port.host_port}-:{port.executor_port}" for port in bound]
        return ["-netdev", ",".join([f"user,id=net,net={USER_NETWORK},restrict=on,ipv6=off", *forwards]), *card]

    async def _boot(self, execution: MachineExecution, machine: Machine) -> None:
        await self._until_answering(execution, lambda: self._is_paused(execution))
        if machine.member is not None:
            await self._join(execution, machine.request)
            await self._command(execution, "cont")

    async def _is_paused(self, execution: MachineExecution) -> bool:
        told = await self._command(execution, "query-status")
        return told.get("status") == "paused"

    async def _thaw(self, execution: MachineExecution) -> None:
        try:
            await self._command(execution, "cont")
        except (ExecutorUnavailable, EngineRefused):
            return  # it has ended, or will be killed

    def _guest_cards(self, request: ExecutionRequest, params: MachineParams, member: Member | None) -> tuple[Card, ...]:
        cards = super()._guest_cards(request, params, member)
        return (*cards, Card(self._mac(request.execution_id), USER_ADDRESS)) if self._bound(request) else cards

    async def _tell(self, execution_id: str, command: str) -> None:
        execution = await self._get(execution_id)
        await execution.spawned.wait()
        if execution.result is not None:
            return
        try:
            await self._command(execution, command)
        except (ExecutorUnavailable, EngineRefused):
            if execution.result is None:
                raise

    async def _command(self, execution: MachineExecution, name: str) -> qmp.Json:
        async with execution.lock:
            return await qmp.command(run_of(execution).path / "machine" / SOCKET, name)


def _card(bus: str, network: str, mac: str) -> str:
    return f"virtio-net-{bus},netdev={network},mac={mac}" + (",romfile=" if bus == "pci" else "")
