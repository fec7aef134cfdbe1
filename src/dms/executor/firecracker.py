"""MicroVMs of Firecracker, driven over its API socket (``spec/execution.md`` 3).

With a ``jailer`` each machine runs in a folder that it cannot leave, as a user of its own, without a network namespace
of the host's where one is given to it; without one it runs, where the daemon is root, as a user of its own. Firecracker
confines its threads with seccomp in either case.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import trio

from dms.executor import firecracker_api as api
from dms.executor.errors import EngineRefused, ExecutorUnavailable, Unsupported
from dms.executor.kvm import kvm_works
from dms.executor.process import RunDirectory
from dms.executor.protocol import ExecutionRequest
from dms.executor.vm import DEFAULT_LOG_LIMIT_BYTES, MachineExecutor
from dms.executor.vm_machine import Machine, MachineExecution, run_of
from dms.executor.vm_member import member_of
from dms.executor.vm_network import DEVICE
from dms.executor.vm_params import FIRECRACKER, MachineParams

BINARY = "firecracker"
SOCKET, LOG, METRICS = "api.sock", "firecracker.log", "metrics.json"
INTERFACE = "eth0"
PROBE_TIMEOUT_S = 2.0


class FirecrackerExecutor(MachineExecutor):
    """See the module and :mod:`dms.executor.vm`. ``image_dirs`` hold the kernels and images that may be booted."""

    type = FIRECRACKER
    BASE_ARGS = "console=ttyS0 reboot=k panic=1 pci=off"
    OPENS_TAP_FOR_MACHINE = False
    MAC_PREFIX = (0x06, 0x00)

    def __init__(
        self,
        nursery: trio.Nursery,
        state_dir: Path,
        *,
        image_dirs: Iterable[Path],
        binary: Path,
        jailer: Path | None = None,
        uses_kvm: bool = True,
        has_own_users: bool = True,
        log_limit_bytes: int = DEFAULT_LOG_LIMIT_BYTES,
    ) -> None:
        super().__init__(
            nursery,
            state_dir,
            image_dirs=image_dirs,
            binary=binary,
            uses_kvm=uses_kvm,
            has_own_users=has_own_users,
            log_limit_bytes=log_limit_bytes,
        )
        self._jailer = jailer

    @classmethod
    async def open(
        cls, nursery: trio.Nursery, state_dir: Path, *, image_dirs: Iterable[Path], with_jailer: bool = False
    ) -> FirecrackerExecutor:
        """An executor that is known to work here and has found what an earlier process left.

        :raises ExecutorUnavailable: it cannot work here, with the reason.
        """
        jailer = shutil.which("jailer") if with_jailer else None
        if with_jailer and (jailer is None or os.geteuid() != 0):
            raise ExecutorUnavailable("the jailer is not on the PATH, or this is not root")
        binary = await cls._find_binary(BINARY, timeout_s=PROBE_TIMEOUT_S)
        if not await trio.to_thread.run_sync(kvm_works):
            raise ExecutorUnavailable("Firecracker needs KVM, which does not work here")
        executor = cls(
            nursery,
            state_dir,
            image_dirs=image_dirs,
            binary=binary,
            jailer=Path(jailer) if jailer else None,
        )
        await executor._ready()
        return executor

    async def pause(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.pause`. The limit of wall-clock time goes on counting."""
        await self._tell(execution_id, "Paused")

    async def resume(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.resume`."""
        await self._tell(execution_id, "Resumed")

    def _check(self, request: ExecutionRequest, params: MachineParams) -> None:
        super()._check(request, params)
        if request.ports and member_of(request, self._obstacle(params)) is None:
            raise Unsupported("Firecracker cannot bind ports", hint="give tap_device: the machine has its own address")

    def _obstacle(self, params: MachineParams) -> str:
        if params.tap_device:
            return "Firecracker opens its devices in one network namespace, and tap_device is in the host's"
        return super()._obstacle(params)

    def _folder(self, run: RunDirectory) -> Path:
        """Where the machine finds its files: with a jailer, the root of its jail."""
        if self._jailer is None:
            return super()._folder(run)
        folder = run.path / "machine"
        jail = run.path / "jail" / self._binary.name / run.path.name / "root"
        jail.mkdir(mode=0o700, parents=True)
        folder.symlink_to(jail.relative_to(run.path))
        return folder

    def _user_of_runner(self, machine: Machine) -> tuple[int, int, list[int]] | None:
        return None if self._jailer is not None else super()._user_of_runner(machine)

    def _argv(self, machine: Machine) -> list[str]:
        for name in (LOG, METRICS):
            (machine.directory / name).touch(mode=0o600)
        number = machine.directory.parent.name
        own = ["--id", number, "--api-sock", SOCKET]
        if self._jailer is None:
            return [str(self._binary), *own]
        uid, gid, _ = machine.user or (0, 0, [])
        jail = ["--id", number, "--exec-file", str(self._binary), "--uid", str(uid), "--gid", str(gid)]
        jail += ["--chroot-base-dir", str(machine.directory.parent / "jail")]
        return [str(self._jailer), *jail, "--", "--api-sock", SOCKET]

    async def _boot(self, execution: MachineExecution, machine: Machine) -> None:
        socket = run_of(execution).path / "machine" / SOCKET
        await self._until_answering(execution, lambda: api.instance_info(socket))
        if machine.member is not None:
            await self._join(execution, machine.request)
        for request in self._requests(machine):
            await api.send(socket, request)
        if machine.params.mmds_message:
            await api.send_metadata(socket, machine.params.mmds_message)
        await api.send(socket, api.Action(action_type="InstanceStart"))

    def _requests(self, machine: Machine) -> Iterator[api.Request]:
        """What makes the machine, in the order in which it is sent."""
        yield api.Logger(log_path=LOG, level="Error", show_level=True)
        yield api.Metrics(metrics_path=METRICS)
        vcpus = machine.vcpus + machine.vcpus % 2 if machine.vcpus > 1 else 1
        yield api.MachineConfiguration(vcpu_count=vcpus, mem_size_mib=machine.memory_mib)
        yield api.BootSource(
            kernel_image_path="kernel",
            boot_args=machine.kernel_args,
            initrd_path="initrd" if machine.has_initrd else "",
        )
        for drive in machine.drives:
            yield api.Drive(
                drive_id=drive.name.replace("-", "_"),
                path_on_host=drive.name,
                is_root_device=False,  # the kernel's arguments name the root
                is_read_only=drive.is_read_only,
            )
        if machine.params.tap_device:
            yield api.NetworkInterface(
                iface_id=INTERFACE,
                host_dev_name=machine.params.tap_device,
                guest_mac=self._mac(machine.execution_id),
            )
        if machine.member is not None:
            yield api.NetworkInterface(
                iface_id=INTERFACE,
                host_dev_name=DEVICE,
                guest_mac=self._private_mac(machine.execution_id),
            )
        if machine.params.mmds_message:
            yield api.MmdsConfig(network_interfaces=(INTERFACE,), version="V2")

    async def _is_paused(self, execution: MachineExecution) -> bool:
        info = await api.instance_info(run_of(execution).path / "machine" / SOCKET)
        return info.state == "Paused"

    async def _thaw(self, execution: MachineExecution) -> None:
        try:
            if await self._is_paused(execution):
                await api.send(run_of(execution).path / "machine" / SOCKET, api.Vm(state="Resumed"))
        except (ExecutorUnavailable, EngineRefused):
            return  # it has ended, or will be killed

    async def _tell(self, execution_id: str, state: str) -> None:
        execution = await self._get(execution_id)
        await execution.spawned.wait()
        if execution.result is not None:
            return
        try:
            if await self._is_paused(execution) != (state == "Paused"):
                await api.send(run_of(execution).path / "machine" / SOCKET, api.Vm(state=state))
        except (ExecutorUnavailable, EngineRefused):
            if execution.result is None:
                raise
