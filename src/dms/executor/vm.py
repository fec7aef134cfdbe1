"""MicroVMs, each with its own kernel: what the QEMU and the Firecracker executor share (``spec/execution.md`` 3).

Beside each machine stands a process of ours (:mod:`dms.executor.vm_runner`), which outlives the daemon. With ``cmd`` the
machine boots our initial RAM disk, whose agent runs the program, separates its outputs, tells its exit code and runs
commands; without it the image boots its own init, the console is the standard output, and nothing can be run inside.

Directories of the host do not reach into a machine. What a request mounts is packed onto a drive of its own before the
start; what the program leaves in its output directories is taken back when it has ended.
"""

from __future__ import annotations

import base64
import math
import shutil
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import trio

from dms.executor.cgroup import group_name, make_group, remove_group
from dms.executor.console import exec_line
from dms.executor.errors import (
    EngineRefused,
    ExecutorError,
    ExecutorUnavailable,
    InvalidEngineSpec,
    NotRunning,
    StartFailed,
    Unsupported,
)
from dms.executor.initrd import INIT, Card, Drive, Guest, find_modules, static_busybox, write_initrd
from dms.executor.logs import STDERR_LOG, STDOUT_LOG
from dms.executor.machine_files import (
    DEFAULT_OUTPUT_BYTES,
    DriveFile,
    clone,
    give,
    image_format,
    machine_user,
    make_empty,
    pack,
)
from dms.executor.process import Record, RunDirectory, boot_id, dump, spawn
from dms.executor.protocol import (
    EndReason,
    ExecOutput,
    ExecutionRequest,
    ExecutionStatus,
    Member,
    NetInfo,
    PortBinding,
)
from dms.executor.qmp import Lines, short_path
from dms.executor.supervision import SupervisedTable, checked_mounts, delete
from dms.executor.vm_machine import Machine, MachineExecution, has_agent, is_member, net_info, run_of
from dms.executor.vm_member import card_of, mac_of, may_make_networks, member_of, namespace_of, private_job
from dms.executor.vm_network import DEVICE
from dms.executor.vm_params import MachineParams, allowed_path
from dms.observe import get_logger
from dms.types.errors import DMSError
from dms.types.resources import SpecConfig

DEFAULT_MEMORY_BYTES = 512 * 1024 * 1024
DEFAULT_LOG_LIMIT_BYTES = 64 * 1024 * 1024
MIB = 1024 * 1024
MIN_MEMORY_MIB, MAX_VCPUS = 32, 32
BOOT_TIMEOUT_S, BOOT_POLL_S = 20.0, 0.02
"""Until the machine's own process answers; the guest needs longer."""
OVERHEAD_BYTES, OVERHEAD_CORES, MAX_THREADS = 512 * MIB, 0.25, 512
"""What the machine's process may use beside the guest: to emulate, to serve drives and network."""
EXEC_TIMEOUT_S = 3600.0
MODULES = ("virtio_pci", "virtio_mmio")
DRIVE_MODULES, NETWORK_MODULES = ("virtio_blk", "ext4"), ("virtio_net",)
RUNNER = "vm_runner"
DIRECT = "root=/dev/vda rw"
"""Kernel arguments where the image boots itself."""

log = get_logger(__name__)


class MachineExecutor(SupervisedTable[MachineExecution]):
    """See the module. Derived classes know how their machines are started and paused."""

    TTY = "ttyS0"
    BASE_ARGS = ""
    """Kernel arguments that this kind of machine needs."""
    BINDS: Collection[str] = ()
    """By which protocols its process binds public ports itself; by others the private network leads them in."""
    OPENS_TAP_FOR_MACHINE = True
    """Whether the machine is given its TAP device open, or opens it by its name."""
    MAC_PREFIX = (0x52, 0x54)

    def __init__(
        self,
        nursery: trio.Nursery,
        state_dir: Path,
        *,
        image_dirs: Iterable[Path],
        binary: Path,
        uses_kvm: bool | None = None,
        has_own_users: bool = True,
        log_limit_bytes: int = DEFAULT_LOG_LIMIT_BYTES,
    ) -> None:
        super().__init__(nursery, state_dir / "runs")
        self._binary = binary
        self._image_dirs = tuple(path.resolve() for path in image_dirs)
        self._kvm, self._has_own_users, self._log_limit_bytes = uses_kvm, has_own_users, log_limit_bytes

    @staticmethod
    async def _find_binary(name: str, *, timeout_s: float, hint: str = "") -> Path:
        """The program that runs such machines, which is there and says its version in time.

        :raises ExecutorUnavailable: it is not or does not, or what every guest needs is not there.
        """
        found = shutil.which(name)
        if found is None:
            raise ExecutorUnavailable(f"there is no {name} on the PATH", hint=hint)
        static_busybox()
        with trio.move_on_after(timeout_s) as scope:
            done = await trio.run_process([found, "--version"], capture_stdout=True, capture_stderr=True, check=False)
        if scope.cancelled_caught or done.returncode:
            raise ExecutorUnavailable(f"{found} does not work")
        return Path(found)

    async def validate(self, engine: SpecConfig) -> None:
        """See :meth:`dms.executor.protocol.Executor.validate`."""
        self._paths(MachineParams.parse(engine, self.type))

    async def start(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.start`. Returns when the machine runs; its guest boots on.

        :raises Unsupported: the request wants GPUs, or ports that this kind of machine cannot bind.
        """
        if await self._adopt(request):
            execution = self._executions[request.execution_id]
            if execution.result is None and await trio.to_thread.run_sync(is_member, execution):
                await self._join(execution, request)
            return
        params = MachineParams.parse(request.engine, self.type)
        self._check(request, params)
        memory_bytes = request.resources.ram.size or DEFAULT_MEMORY_BYTES
        if memory_bytes < MIN_MEMORY_MIB * MIB:
            raise InvalidEngineSpec(f"a machine needs at least {MIN_MEMORY_MIB} MiB of memory")
        execution = self._begin(request, memory_bytes)
        machines: list[Machine] = []
        obstacle = ""

        def prepare_and_spawn() -> int:
            nonlocal obstacle
            obstacle = self._obstacle(params)
            if request.join is not None and request.must_join and obstacle:
                raise StartFailed(f"no private address: {obstacle}")
            machines.append(self._prepare(execution, request, params))
            return spawn(run_of(execution), RUNNER)

        await self._spawn(execution, prepare_and_spawn)
        if request.join is not None and machines[0].member is None:
            _tell_unjoined(request, obstacle)
        try:
            with trio.fail_after(BOOT_TIMEOUT_S):
                await self._boot(execution, machines[0])
            await trio.to_thread.run_sync(lambda: run_of(execution).write("started", b"", sync=True))
        except BaseException as exc:
            with trio.CancelScope(shield=True):
                reason = await self._undo(execution)
            if isinstance(exc, ExecutorError | OSError | trio.TooSlowError):
                raise StartFailed(
                    f"the machine could not be started: {reason or str(exc) or 'it does not answer'}"
                ) from exc
            raise
        execution.has_booted = True

    async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
        """See :meth:`dms.executor.protocol.Executor.exec`. Waits until the guest listens; each output is cut at 1 MiB.

        :raises NotRunning: the machine has ended.
        """
        execution = await self._get(execution_id)
        if not argv:
            raise InvalidEngineSpec("there is no command to run")
        try:
            exec_line(0, argv)
        except ValueError as exc:
            raise InvalidEngineSpec(str(exc)) from None
        if not await trio.to_thread.run_sync(has_agent, execution):
            raise Unsupported("nothing of ours runs in this machine that could run commands", hint="give cmd")
        if execution.result is not None:
            raise NotRunning(f"execution ({execution_id}) has ended")
        try:
            with trio.fail_after(EXEC_TIMEOUT_S):
                socket = run_of(execution).path / "control.sock"
                async with short_path(socket) as path, await trio.open_unix_socket(path) as stream:
                    lines = Lines(stream, max_line_bytes=4 * MIB)
                    await lines.send({"argv": list(argv)})
                    reply = await lines.next()
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, ValueError) as exc:
            raise NotRunning(f"execution ({execution_id}) does not listen: {exc}") from exc
        return _output(execution_id, reply)

    @property
    def _uses_kvm(self) -> bool:
        """Found out once, in the thread that prepares the first machine."""
        if self._kvm is None:
            self._kvm = self._find_out()
        return self._kvm

    # what derived classes know -------------------------------------------------------------------------------------

    def _find_out(self) -> bool:
        """Whether machines can use KVM."""
        return False

    def _check(self, request: ExecutionRequest, params: MachineParams) -> None:
        """Refuse what this kind of machine cannot do."""
        if request.resources.gpus:
            raise Unsupported(f"the {self.type} executor cannot give GPUs to machines")

    def _argv(self, machine: Machine) -> list[str]:
        """The command line of the machine's process, started in its folder."""
        raise AssertionError("every kind of machine has its own")

    def _bound(self, request: ExecutionRequest) -> list[PortBinding]:
        """The public ports that the machine's process binds itself; the private network leads the others in."""
        return [port for port in request.ports if port.protocol in self.BINDS]

    def _obstacle(self, params: MachineParams) -> str:
        """Why such a machine cannot be a member of a private network; empty when it can."""
        return "" if may_make_networks() else "network namespaces cannot be made here"

    async def _boot(self, execution: MachineExecution, machine: Machine) -> None:
        """Wait for the machine's process, make the machine a member of its private network, and have the guest run.

        :raises ExecutorError: it does not work.
        """
        raise AssertionError("every kind of machine has its own")

    async def _is_paused(self, execution: MachineExecution) -> bool:
        raise AssertionError("every kind of machine has its own")

    # -----------------------------------------------------------------------------------------------------------------

    async def _join(self, execution: MachineExecution, request: ExecutionRequest) -> None:
        """Let packets of the private network reach the machine; at its start before its guest runs. Where that cannot be done
        it runs without: it is reached at its public ports."""
        assert execution.process is not None
        if request.join is None:
            return
        try:
            await request.join(namespace_of(execution.process.pid), behind=DEVICE, published=self.BINDS)
        except DMSError as exc:
            if request.must_join and not execution.has_booted:
                raise StartFailed(f"no private address: {exc.message}") from exc
            _tell_unjoined(request, exc.message)

    def _forget(self, run: RunDirectory) -> None:
        super()._forget(run)
        remove_group(group_name(run.path))

    def _make(self, execution_id: str, job_id: str, results_dir: Path) -> MachineExecution:
        return MachineExecution(execution_id, job_id, results_dir)

    def _adopt_all(self, found: list[tuple[RunDirectory, Record]]) -> None:
        super()._adopt_all(found)
        for run, record in found:
            execution = self._executions[record.execution_id]
            execution.has_booted = (run.path / "started").exists()
            if not execution.has_booted and execution.process is not None:
                execution.process.send(signal.SIGKILL)  # the daemon ended while it started it: nobody will finish that

    async def _live_status(self, execution: MachineExecution) -> ExecutionStatus:
        if not execution.has_booted:
            return ExecutionStatus.PENDING
        try:
            is_paused = await self._is_paused(execution)
        except (ExecutorUnavailable, EngineRefused):
            is_paused = False  # it is about to end
        return execution.final_status or (ExecutionStatus.PAUSED if is_paused else ExecutionStatus.RUNNING)

    def _measured_pid(self, execution: MachineExecution) -> int | None:
        try:
            return int((run_of(execution).path / "machine.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    async def _net(self, execution: MachineExecution) -> NetInfo | None:
        return await trio.to_thread.run_sync(net_info, execution)

    async def _until_answering(self, execution: MachineExecution, attempt: Callable[[], Awaitable[object]]) -> None:
        """Try again until the machine's process answers, or has ended."""
        while True:
            try:
                await attempt()
                return
            except ExecutorUnavailable:
                with trio.move_on_after(BOOT_POLL_S):
                    await execution.done.wait()
                if execution.done.is_set():
                    raise

    async def _undo(self, execution: MachineExecution) -> str:
        """Leave nothing of a start that failed; returns what the runner said of it."""
        if execution.process is not None and not execution.done.is_set():
            execution.process.send(signal.SIGKILL)
        await execution.done.wait()
        await trio.to_thread.run_sync(self._forget, run_of(execution))
        if self._executions.get(execution.execution_id) is execution:
            del self._executions[execution.execution_id]
        result = execution.result
        return result.error_msg if result is not None and result.reason is EndReason.INFRASTRUCTURE else ""

    def _paths(self, params: MachineParams) -> dict[str, Path]:
        """The provider's files that the parameters name.

        :raises InvalidEngineSpec: one is not allowed, or they do not fit together.
        """
        given = {
            "kernel_image": params.kernel_image,
            "root_file_system": params.root_file_system,
            "initrd_path": params.initrd_path,
            "kernel_modules": params.kernel_modules,
        }
        paths = {
            key: allowed_path(self.type, key, text, self._image_dirs, is_folder=key == "kernel_modules")
            for key, text in given.items()
            if text
        }
        if paths["root_file_system"].is_dir() and not params.cmd:
            raise InvalidEngineSpec(
                f"invalid {self.type} engine params: root_file_system is a folder, so cmd must tell what to run in it"
            )
        return paths

    def _prepare(self, execution: MachineExecution, request: ExecutionRequest, params: MachineParams) -> Machine:
        """In a thread: everything on the disk."""
        run = run_of(execution)
        paths, mounts = self._paths(params), checked_mounts(request)
        for directory in (self._runs_dir.parent, self._runs_dir, request.results_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        request.results_dir.chmod(0o700)
        delete(run.path)
        run.path.mkdir(mode=0o700)
        try:
            directory = self._folder(run)
            clone(paths["kernel_image"], directory / "kernel")
            drives: list[DriveFile] = []
            root: Path | str = paths["root_file_system"]
            if isinstance(root, Path) and not root.is_dir():
                drives.append(DriveFile("root", is_read_only=False, is_root=True, format=image_format(root)))
                clone(root, directory / "root")
                root = "vda"
            targets: dict[bool, list[Drive]] = {True: [], False: []}
            for index, mount in enumerate(mounts):
                is_input = index < len(request.inputs)
                name = f"{'input' if is_input else 'output'}-{index}"
                targets[is_input].append(Drive(f"vd{chr(ord('a') + len(drives))}", mount.target))
                drives.append(DriveFile(name, is_read_only=is_input))
                if is_input:
                    pack(mount, directory / name)
                else:
                    make_empty(directory / name, request.resources.disk.size or DEFAULT_OUTPUT_BYTES)
            member = member_of(request, self._obstacle(params))
            if params.cmd:
                self._write_initrd(request, params, member, paths, directory, root, drives, targets)
            elif "initrd_path" in paths:
                clone(paths["initrd_path"], directory / "initrd")
            user = machine_user(request.execution_id, uses_kvm=self._uses_kvm) if self._has_own_users else None
            own = f"{self.BASE_ARGS} quiet rdinit={INIT}" if params.cmd else f"{self.BASE_ARGS} {DIRECT}"
            machine = Machine(
                request.execution_id,
                directory,
                params,
                min(MAX_VCPUS, max(1, math.ceil(request.resources.cpu.cores))),
                execution.memory_bytes // MIB,
                f"{own} {params.kernel_args}".strip(),
                (directory / "initrd").exists(),
                tuple(drives),
                request,
                user,
                member,
            )
            job = {
                "argv": self._argv(machine),
                "has_agent": bool(params.cmd),
                "stdout": str(request.results_dir / STDOUT_LOG),
                "stderr": str(request.results_dir / STDERR_LOG),
                "log_limit_bytes": self._log_limit_bytes,
                "timeout_s": params.timeout_s,
                "user": self._user_of_runner(machine),
                "tap": params.tap_device if self.OPENS_TAP_FOR_MACHINE else "",
                "lent_tap": "" if self.OPENS_TAP_FOR_MACHINE else params.tap_device,
                "files_limit_bytes": self._files_limit(directory, request),
                "outputs": [
                    (str(directory / drive.name), str(mount.source))
                    for drive, mount in zip(drives[len(drives) - len(mounts) :], mounts, strict=True)
                    if not drive.is_read_only
                ],
                "cgroups": self._make_group(run, request, execution.memory_bytes),
                "net": [params.tap_device, params.ip_address],
                "private": self._private_job(machine),
            }
            run.write("job.json", dump(job))
            record = Record(
                request.execution_id, request.job_id, str(request.results_dir), execution.memory_bytes, boot_id()
            )
            run.write(
                "record.json", dump({name: getattr(record, name) for name in record.__struct_fields__}), sync=True
            )
            give(directory, user)
        except BaseException:
            delete(run.path)
            remove_group(group_name(run.path))
            raise
        return machine

    def _make_group(self, run: RunDirectory, request: ExecutionRequest, memory_bytes: int) -> tuple[str, ...]:
        if not self._has_own_users:
            return ()
        return make_group(
            group_name(run.path),
            memory_bytes=memory_bytes + OVERHEAD_BYTES,
            cores=(request.resources.cpu.cores or 1.0) + OVERHEAD_CORES,
            max_processes=MAX_THREADS,
        )

    def _folder(self, run: RunDirectory) -> Path:
        """Make the folder in which the machine's process works."""
        folder = run.path / "machine"
        folder.mkdir(mode=0o700)
        return folder

    def _private_job(self, machine: Machine) -> dict[str, Any] | None:
        if machine.member is None:
            return None
        return private_job(
            machine.member,
            is_lent=not self.OPENS_TAP_FOR_MACHINE,
            is_inside=not self._bound(machine.request),
            has_agent=bool(machine.params.cmd),
        )

    def _user_of_runner(self, machine: Machine) -> tuple[int, int, list[int]] | None:
        """The user that the machine's process becomes; ``None``: it does not change."""
        return machine.user

    def _files_limit(self, directory: Path, request: ExecutionRequest) -> int:
        """How large any file of the machine may become: a raw drive is as large as it will ever be."""
        largest = max((path.stat().st_size for path in directory.iterdir()), default=0)
        return max(largest, request.resources.disk.size, self._log_limit_bytes)

    def _write_initrd(
        self,
        request: ExecutionRequest,
        params: MachineParams,
        member: Member | None,
        paths: dict[str, Path],
        directory: Path,
        root: Path | str,
        drives: list[DriveFile],
        targets: dict[bool, list[Drive]],
    ) -> None:
        wanted: tuple[str, ...] = ()
        if drives:
            wanted += (*MODULES, *DRIVE_MODULES)
        cards = self._guest_cards(request, params, member)
        if cards:
            wanted += (*MODULES, *NETWORK_MODULES)
        modules = find_modules(paths["kernel_modules"], wanted) if "kernel_modules" in paths else ()
        guest = Guest(
            params.cmd,
            params.environment,
            params.working_directory,
            root,
            self.TTY,
            _hostname(request.execution_id),
            request.provision_scripts,
            tuple(targets[True]),
            tuple(targets[False]),
            cards,
        )
        with (directory / "initrd").open("xb") as file:
            write_initrd(file, guest, busybox=static_busybox(), modules=modules)

    def _guest_cards(self, request: ExecutionRequest, params: MachineParams, member: Member | None) -> tuple[Card, ...]:
        """What the guest's network cards are given: that of the private network first, whose resolver is asked first."""
        cards = () if member is None else (card_of(member, self._private_mac(request.execution_id)),)
        if not params.tap_device:
            return cards
        return (*cards, Card(self._mac(request.execution_id), params.ip_address, params.gateway, params.dns))

    def _mac(self, execution_id: str) -> str:
        return mac_of(execution_id, self.MAC_PREFIX)

    def _private_mac(self, execution_id: str) -> str:
        return mac_of(execution_id, self.MAC_PREFIX, "/private")


def _tell_unjoined(request: ExecutionRequest, reason: str) -> None:
    """Why a machine has no address in a private network."""
    log.error("private_network_not_joined", execution=request.execution_id, reason=reason)
    if request.unjoined is not None:
        request.unjoined(reason)


def _output(execution_id: str, reply: dict[str, Any]) -> ExecOutput:  # JSON of our runner
    if "error" in reply:
        raise NotRunning(f"execution ({execution_id}): {reply['error']}")
    return ExecOutput(int(reply["exit_code"]), base64.b64decode(reply["stdout"]), base64.b64decode(reply["stderr"]))


def _hostname(execution_id: str) -> str:
    name = "".join(char if char.isalnum() and char.isascii() else "-" for char in execution_id.rpartition("_")[2])
    return name.strip("-")[:63].lower() or "machine"
