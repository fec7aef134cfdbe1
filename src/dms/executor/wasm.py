"""WebAssembly programs, each in a process of its own (``spec/execution.md`` 1; Wasmtime, WASI preview 1 and 0.2).

A program sees its arguments, its environment, the directories that it was given, and nothing else of the machine.
The process in which it runs (:mod:`dms.executor.wasm_runner`) holds it to its limits, writes its logs and its end, and
outlives this one (:mod:`dms.executor.supervision`).

Under ``state_dir`` (mode 0700): ``runs/`` with one private directory per execution, ``modules/`` with compiled
programs (or elsewhere, where several nodes of one user share them; see :mod:`dms.executor.wasm_cache`).

A program that is named by its address or content id is fetched after :meth:`WasmExecutor.start` has returned, with
status ``pending``: that may take longer than any caller waits.

A module with ports takes part in the private network of its ensemble; how is told in :mod:`dms.executor.wasm_network`.

What a program cannot have: connections of its own, provision scripts, commands run inside it, GPUs. Limits come from
``resources.ram.size`` (linear memory; tables may hold as much again) and ``resources.disk.size`` (any one file that it
writes), further from ``fuel``, ``max_cpu_s`` and ``timeout`` of its parameters.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec
import trio

from dms.executor.cgroup import group_name, make_group, remove_group
from dms.executor.errors import ExecutorError, InvalidEngineSpec, StartFailed, Unsupported
from dms.executor.logs import STDERR_LOG, STDOUT_LOG
from dms.executor.process import Exit, Record, RunDirectory, boot_id, dump
from dms.executor.protocol import EndReason, ExecutionRequest, FetchFile, NetInfo, PortBinding
from dms.executor.supervision import SupervisedExecution, SupervisedTable, checked_mounts, delete
from dms.executor.vm_member import may_make_networks, namespace_of
from dms.executor.wasm_network import NO_NAMESPACES, Inheritance, private_ports, spawn_listening, variables
from dms.executor.wasm_params import ENGINE, MAX_MODULE_BYTES, WasmParams, is_component, module_defect
from dms.executor.wasm_process import compiled_name, library_path, probe, spawn
from dms.executor.wasm_server import modules
from dms.observe import get_logger
from dms.types.errors import DMSError
from dms.types.resources import SpecConfig

log = get_logger(__name__)

DEFAULT_MEMORY_BYTES = 512 * 1024 * 1024
DEFAULT_LOG_LIMIT_BYTES = 64 * 1024 * 1024
CANCELLED_EXIT_CODE = 143
"""Of one that never ran: what a shell reports after ``SIGTERM``."""


BEGIN = b"!"
"""Says to a process that waits for it that its program may begin."""
MEMBER = "member"
"""A file in the run directory of a program that is started in a network namespace of its own."""
NO_PORTS = "a WebAssembly program without ports can neither be reached nor reach others"
MAX_THREADS = 256
"""Of the process that runs a program; the program itself has one."""


@dataclass(eq=False, slots=True)
class WasmExecution(SupervisedExecution):
    """With what ends the fetching of its program."""

    fetching: trio.CancelScope = field(default_factory=trio.CancelScope)
    gate: int = -1
    """While its process waits for the word to begin: where that is said."""


class WasmExecutor(SupervisedTable[WasmExecution]):
    """See the module.

    ``nursery`` holds one waiting task per running execution; cancelling it leaves the programs running. Without
    ``fetch_file`` programs are not fetched from anywhere.
    """

    type = ENGINE

    def __init__(
        self,
        nursery: trio.Nursery,
        state_dir: Path,
        *,
        modules_dir: Path | None = None,
        allowed_module_dirs: Iterable[Path] = (),
        fetch_file: FetchFile | None = None,
        default_memory_bytes: int = DEFAULT_MEMORY_BYTES,
        log_limit_bytes: int = DEFAULT_LOG_LIMIT_BYTES,
    ) -> None:
        super().__init__(nursery, state_dir / "runs")
        self._modules_dir = modules_dir or state_dir / "modules"
        self._owns_modules = modules_dir is None
        self._allowed_module_dirs = tuple(path.resolve() for path in allowed_module_dirs)
        self._fetch_file = fetch_file
        self._default_memory_bytes, self._log_limit_bytes = default_memory_bytes, log_limit_bytes

    @classmethod
    async def open(
        cls,
        nursery: trio.Nursery,
        state_dir: Path,
        *,
        modules_dir: Path | None = None,
        allowed_module_dirs: Iterable[Path] = (),
        fetch_file: FetchFile | None = None,
    ) -> WasmExecutor:
        """An executor that is known to work here and has found what an earlier process left.

        :raises ExecutorUnavailable: it cannot work here, with the reason.
        """
        await probe()
        executor = cls(
            nursery,
            state_dir,
            modules_dir=modules_dir,
            allowed_module_dirs=allowed_module_dirs,
            fetch_file=fetch_file,
        )
        await executor._ready()
        return executor

    async def validate(self, engine: SpecConfig) -> None:
        """See :meth:`dms.executor.protocol.Executor.validate`."""
        self._check_source(WasmParams.parse(engine))

    async def start(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.start`.

        :raises Unsupported: the request wants provision scripts, GPUs, or ports that it cannot listen at.
        """
        if await self._adopt(request):
            execution = self._executions[request.execution_id]
            if execution.result is None and await trio.to_thread.run_sync(_is_member, execution):
                await self._join(execution, request, is_new=False)
            return
        params = WasmParams.parse(request.engine)
        if request.provision_scripts:
            raise Unsupported(
                "WebAssembly programs cannot be provisioned by scripts", hint="use a docker allocation for that"
            )
        if request.resources.gpus:
            raise Unsupported("WebAssembly programs cannot use GPUs")
        self._check_source(params)
        memory_bytes = request.resources.ram.size or self._default_memory_bytes
        execution = self._begin(request, memory_bytes)
        if params.source is None:
            await self._begin_running(execution, request, params, params.module)
        else:
            self._nursery.start_soon(self._fetch_and_spawn, execution, request, params, params.source)

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.cancel`. Fetching is given up."""
        (await self._get(execution_id)).fetching.cancel()
        await super().cancel(execution_id, grace_s=grace_s)

    async def pause(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.pause`. The limit of wall-clock time goes on counting."""
        await self._freeze(execution_id, frozen=True)

    async def resume(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.resume`."""
        await self._freeze(execution_id, frozen=False)

    async def cleanup(self) -> None:
        """See :meth:`dms.executor.protocol.Executor.cleanup`. Compiled modules go too, unless they are shared."""
        await super().cleanup()
        if self._owns_modules:
            await trio.to_thread.run_sync(delete, self._modules_dir)

    def _make(self, execution_id: str, job_id: str, results_dir: Path) -> WasmExecution:
        return WasmExecution(execution_id, job_id, results_dir)

    def _check_source(self, params: WasmParams) -> None:
        if params.module_path:
            self._allowed(params)
        if params.source is not None and self._fetch_file is None:
            raise InvalidEngineSpec(
                f"invalid {ENGINE} engine params: programs are not fetched from elsewhere here",
                hint="send the program itself in module",
            )

    def _doing(self, execution: WasmExecution) -> str:
        return "fetching its program"

    async def _fetch_and_spawn(
        self, execution: WasmExecution, request: ExecutionRequest, params: WasmParams, source: SpecConfig
    ) -> None:
        try:
            code = b""
            with execution.fetching:
                code = await self._fetched(params, source)
            if execution.fetching.cancelled_caught:
                execution.finish(CANCELLED_EXIT_CODE, EndReason.CANCELLED, "cancelled before it ran")
                execution.spawned.set()
                return
            await self._begin_running(execution, request, params, code)
        except ExecutorError as exc:
            execution.finish(-1, EndReason.INFRASTRUCTURE, exc.message)
            execution.spawned.set()
            self._executions[execution.execution_id] = execution  # whoever asks must be told how it ended

    async def _begin_running(
        self, execution: WasmExecution, request: ExecutionRequest, params: WasmParams, code: bytes | None
    ) -> None:
        """Start its process, and have it begin once it is where it belongs.

        :raises ExecutorError: it does not begin; nothing is left.
        """
        await self._spawn(execution, lambda: self._prepare_and_spawn(execution, request, params, code))
        if execution.gate < 0:
            return
        try:
            await self._join(execution, request, is_new=True)
            with contextlib.suppress(BrokenPipeError):  # it has ended already, and told why
                os.write(execution.gate, BEGIN)
        except BaseException as exc:
            with contextlib.suppress(OSError):
                _run_of(execution).write(
                    "exit.json", dump(msgspec.structs.asdict(Exit(-1, "infrastructure", str(exc))))
                )
            if execution.process is not None:
                execution.process.send(signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await execution.done.wait()
                await trio.to_thread.run_sync(self._forget, _run_of(execution))
            self._executions.pop(execution.execution_id, None)
            raise
        finally:
            os.close(execution.gate)
            execution.gate = -1

    async def _join(self, execution: WasmExecution, request: ExecutionRequest, *, is_new: bool) -> None:
        """Let packets of the private network reach it. Where that cannot be done, it is still reached at its public ports.

        :raises StartFailed: it cannot, and must not run without.
        """
        if request.join is None or execution.process is None:
            return
        try:
            await request.join(namespace_of(execution.process.pid))
        except DMSError as exc:
            if is_new and request.must_join:
                raise StartFailed(f"no private address: {exc.message}") from exc
            log.error("private_network_not_joined", execution=request.execution_id, reason=exc.message)
            if request.unjoined is not None:
                request.unjoined(exc.message)

    async def _net(self, execution: WasmExecution) -> NetInfo | None:
        if execution.process is None or not await trio.to_thread.run_sync(_is_member, execution):
            return None
        return NetInfo(namespace=namespace_of(execution.process.pid))

    async def _fetched(self, params: WasmParams, source: SpecConfig) -> bytes:
        """The program from elsewhere.

        :raises StartFailed: it cannot be had, or is no program.
        """
        if self._fetch_file is None:
            raise AssertionError("this was checked before")
        try:
            code = await self._fetch_file(source, max_bytes=MAX_MODULE_BYTES)
        except DMSError as exc:
            raise StartFailed(f"the program cannot be fetched: {exc.message}", hint=exc.hint) from exc
        except OSError as exc:
            raise StartFailed(f"the program cannot be fetched: {exc}") from exc
        if reason := await trio.to_thread.run_sync(module_defect, code, params.sha256):
            raise StartFailed(f"what was fetched {reason}")
        return code

    async def _freeze(self, execution_id: str, *, frozen: bool) -> None:
        execution = await self._get(execution_id)
        await execution.spawned.wait()
        if execution.process is not None and execution.result is None:
            await execution.process.freeze(frozen=frozen)

    def _allowed(self, params: WasmParams) -> Path:
        path = Path(params.module_path).resolve()
        if not any(path.is_relative_to(directory) for directory in self._allowed_module_dirs):
            raise InvalidEngineSpec(
                f"invalid {ENGINE} engine params: module_path is not allowed here: {params.module_path}",
                hint="send the program itself in module, or let the provider allow its directory",
            )
        return path

    def _prepare_and_spawn(
        self, execution: WasmExecution, request: ExecutionRequest, params: WasmParams, code: bytes | None
    ) -> int:
        """In a thread: everything on the disk, then the process."""
        run = _run_of(execution)
        if code is None:
            code = self._read_module(params)
        _check_can_listen(request, code)
        is_member = _takes_part(request)
        nothing = [(str(run.path / "nothing"), f"/{name}", False) for name in private_ports(request.ports)]
        """Directories that keep the numbers of sockets free."""
        preopens = [*nothing, *_mounts(request), *_preopened_files(run, params, request)]
        own_variables = variables(request.ports)
        environment = [one for one in params.environment if one[0] not in dict(own_variables)] + own_variables
        for directory in (self._runs_dir.parent, self._runs_dir, self._modules_dir, request.results_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        request.results_dir.chmod(0o700)
        delete(run.path)
        run.path.mkdir(mode=0o700)
        try:
            library = library_path()
            run.write("program.wasm", code)
            if nothing:
                (run.path / "nothing").mkdir()
            if is_member:
                run.write(MEMBER, b"")
            if params.stdin:
                run.write("stdin", params.stdin.encode())
            for path, content in params.files:
                target = run.path / "files" / path.relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            job = {
                "library": library,
                "is_component": is_component(code),
                "program": str(run.path / "program.wasm"),
                "cache": str(self._modules_dir),
                "name": compiled_name(code, with_fuel=params.fuel is not None),
                "argv": [PurePosixPath(params.module_path).name or "program.wasm", *params.args],
                "environment": environment,
                "stdin": str(run.path / "stdin") if params.stdin else None,
                "preopens": preopens,
                "stdout": str(request.results_dir / STDOUT_LOG),
                "stderr": str(request.results_dir / STDERR_LOG),
                "log_limit_bytes": self._log_limit_bytes,
                "memory_bytes": execution.memory_bytes,
                "file_size_bytes": request.resources.disk.size or None,
                "fuel": params.fuel,
                "timeout_s": params.timeout_s,
                "max_cpu_s": params.max_cpu_s,
                "server_names": _server_names(request, params),
                "cgroups": _share_of_processor(run, request),
            }
            record = Record(
                request.execution_id, request.job_id, str(request.results_dir), execution.memory_bytes, boot_id()
            )
            run.write(
                "record.json", dump({name: getattr(record, name) for name in record.__struct_fields__}), sync=True
            )
            return self._spawn_inside(execution, request.ports, job, is_member=is_member)
        except BaseException:
            self._forget(run)
            raise

    def _spawn_inside(
        self, execution: WasmExecution, ports: tuple[PortBinding, ...], job: dict[str, object], *, is_member: bool
    ) -> int:
        run, gate = _run_of(execution), None

        def start(inheritance: Inheritance) -> int:
            told = {"listeners": inheritance.listeners, "gate": inheritance.gate}
            run.write(
                "job", marshal.dumps(job | told)
            )  # not JSON: to read that, the process would load more than all else
            return spawn(run, inheritance.numbers)

        if is_member:
            gate, execution.gate = os.pipe()
        try:
            return spawn_listening(ports, gate, start, is_member=is_member)
        except BaseException:
            if execution.gate >= 0:
                os.close(execution.gate)
                execution.gate = -1
            raise
        finally:
            if gate is not None:
                os.close(gate)

    def _forget(self, run: RunDirectory) -> None:
        super()._forget(run)
        remove_group(group_name(run.path))

    def _read_module(self, params: WasmParams) -> bytes:
        path = self._allowed(params)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise InvalidEngineSpec(f"{path} is not a file")
            with path.open("rb") as file:
                code = file.read(MAX_MODULE_BYTES + 1)
        except OSError as exc:
            raise InvalidEngineSpec(f"module_path cannot be read: {exc}") from None
        if reason := module_defect(code, params.sha256):
            raise InvalidEngineSpec(f"{path} {reason}")
        return code


def _run_of(execution: WasmExecution) -> RunDirectory:
    if execution.run is None:
        raise AssertionError("an execution that starts has a run directory")
    return execution.run


def _is_member(execution: WasmExecution) -> bool:
    """Whether its process was started in a network namespace of its own."""
    return (_run_of(execution).path / MEMBER).exists()


def _check_can_listen(request: ExecutionRequest, code: bytes) -> None:
    """Whether this kind of program can listen at the ports that it was given.

    :raises Unsupported: it cannot.
    """
    if request.ports and is_component(code):
        raise Unsupported("components of WASI 0.2 cannot listen on ports here", hint="compile it to wasm32-wasip1")
    if any(port.protocol == "udp" for port in request.ports):
        raise Unsupported("WebAssembly programs cannot listen on UDP ports", hint="use a docker allocation for that")


def _takes_part(request: ExecutionRequest) -> bool:
    """Whether a program is to have a network namespace of its own.

    :raises StartFailed: it must, and cannot.
    """
    if request.join is None:
        return False
    obstacle = "" if request.ports else NO_PORTS
    if not obstacle and not may_make_networks():
        obstacle = NO_NAMESPACES
    if not obstacle:
        return True
    if request.must_join:
        raise StartFailed(f"no private address: {obstacle}")
    if request.unjoined is not None:
        request.unjoined(obstacle)
    return False


def _server_names(request: ExecutionRequest, params: WasmParams) -> list[str]:
    """What our own modules beside a server are called when they are compiled."""
    count = len(private_ports(request.ports))
    texts = modules(count) if count else ()
    return [compiled_name(text.encode(), with_fuel=params.fuel is not None) for text in texts]


def _share_of_processor(run: RunDirectory, request: ExecutionRequest) -> tuple[str, ...]:
    """The files of the control group to which the program belongs, where there is one."""
    cores = request.resources.cpu.cores
    return make_group(group_name(run.path), cores=cores, max_processes=MAX_THREADS) if cores > 0 else ()


def _mounts(request: ExecutionRequest) -> list[tuple[str, str, bool]]:
    """(host, guest, writable) of the directories that the request mounts."""
    return [(str(mount.source), mount.target, not mount.read_only) for mount in checked_mounts(request)]


def _preopened_files(run: RunDirectory, params: WasmParams, request: ExecutionRequest) -> list[tuple[str, str, bool]]:
    """The directories that hold ``files``: of nested ones the outermost, read-only."""
    parents = {path.parent for path, _ in params.files}
    targets = {PurePosixPath(mount.target) for mount in (*request.inputs, *request.outputs)}
    for parent in parents:
        if parent in targets:
            raise InvalidEngineSpec(
                f"invalid {ENGINE} engine params: files go to {parent}, where a volume is mounted",
                hint="put them into another directory",
            )
    outermost = [parent for parent in parents if parents.isdisjoint(parent.parents)]
    return [(str(run.path / "files" / parent.relative_to("/")), str(parent), False) for parent in sorted(outermost)]
