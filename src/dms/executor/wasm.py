"""WebAssembly programs, each in a process of its own (``spec/execution.md`` 1; Wasmtime, WASI preview 1).

A program sees its arguments, its environment, the directories that it was given, and nothing else of the machine.
The process in which it runs (:mod:`dms.executor.wasm_runner`) holds it to its limits, writes its logs and its end,
and outlives this one: an executor opened later on the same state directory finds it again. (A service manager that
ends all processes of a service together must be told not to: ``KillMode=process`` of systemd.)

Under ``state_dir`` (mode 0700): ``runs/`` with one private directory per execution, ``modules/`` with compiled
modules by the SHA-256 of their source (or elsewhere, where several nodes of one user share them). Whoever can write
there can run code: it must belong to us alone.

What a program cannot have: network ports, provision scripts, commands run inside it, a share of a core. Limits come
from ``resources.ram.size`` (linear memory) and ``resources.disk.size`` (any one file that it writes), further from
``fuel``, ``max_cpu_s`` and ``timeout`` of its parameters.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import psutil
import trio

from dms.executor.errors import InvalidEngineSpec, StartFailed, Unsupported
from dms.executor.execution import Execution, ExecutionTable
from dms.executor.logs import STDERR_LOG, STDOUT_LOG
from dms.executor.process import Process, Record, RunDirectory, boot_id, dump
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus, ExecutorStats, Mount
from dms.executor.wasm_params import ENGINE, MAX_MODULE_BYTES, WasmParams, module_defect
from dms.executor.wasm_process import library_path, probe, spawn
from dms.types.resources import SpecConfig

DEFAULT_MEMORY_BYTES = 512 * 1024 * 1024
DEFAULT_LOG_LIMIT_BYTES = 64 * 1024 * 1024
MODULE_CACHE_BYTES = 512 * 1024 * 1024
"""Compiled modules beyond this are dropped, those unused for longest first."""
MAX_MOUNTS = 64
KILLED_EXIT_CODE = 137
"""Reported where only the fact is known: 128 + SIGKILL."""


@dataclass(eq=False, slots=True)
class WasmExecution(Execution):
    """With its run directory and, while it runs, its process."""

    run: RunDirectory | None = None
    process: Process | None = None
    memory_bytes: int = 0
    is_cancelled: bool = False
    spawned: trio.Event = field(default_factory=trio.Event)
    """Set when ``process`` tells whether there is one."""
    sample: tuple[float, float] | None = None
    """(clock, processor time) in seconds when usage was last asked for."""


class WasmExecutor(ExecutionTable[WasmExecution]):
    """See the module.

    ``nursery`` holds one waiting task per running execution; cancelling it leaves the programs running.
    """

    type = ENGINE

    def __init__(
        self,
        nursery: trio.Nursery,
        state_dir: Path,
        *,
        modules_dir: Path | None = None,
        allowed_module_dirs: Iterable[Path] = (),
        default_memory_bytes: int = DEFAULT_MEMORY_BYTES,
        log_limit_bytes: int = DEFAULT_LOG_LIMIT_BYTES,
    ) -> None:
        super().__init__()
        self._nursery = nursery
        self._runs_dir, self._modules_dir = state_dir / "runs", modules_dir or state_dir / "modules"
        self._owns_modules = modules_dir is None
        self._allowed_module_dirs = tuple(path.resolve() for path in allowed_module_dirs)
        self._default_memory_bytes, self._log_limit_bytes = default_memory_bytes, log_limit_bytes
        self._opening, self._is_open = trio.Lock(), False

    @classmethod
    async def open(
        cls,
        nursery: trio.Nursery,
        state_dir: Path,
        *,
        modules_dir: Path | None = None,
        allowed_module_dirs: Iterable[Path] = (),
    ) -> WasmExecutor:
        """An executor that is known to work here and has found what an earlier process left.

        :raises ExecutorUnavailable: it cannot work here, with the reason.
        """
        await probe()
        executor = cls(nursery, state_dir, modules_dir=modules_dir, allowed_module_dirs=allowed_module_dirs)
        await executor._ready()
        return executor

    async def validate(self, engine: SpecConfig) -> None:
        """See :meth:`dms.executor.protocol.Executor.validate`."""
        params = WasmParams.parse(engine)
        if params.module_path:
            self._allowed(params)

    async def start(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.start`.

        :raises Unsupported: the request wants ports, provision scripts or GPUs.
        """
        if await self._adopt(request):
            return
        params = WasmParams.parse(request.engine)
        if request.ports or request.provision_scripts:
            what = "listen on ports" if request.ports else "be provisioned by scripts"
            raise Unsupported(f"WebAssembly programs cannot {what}", hint="use a docker allocation for that")
        if request.resources.gpus:
            raise Unsupported("WebAssembly programs cannot use GPUs")
        memory_bytes = request.resources.ram.size or self._default_memory_bytes
        execution = WasmExecution(
            request.execution_id,
            request.job_id,
            request.results_dir,
            run=RunDirectory.of(self._runs_dir, request.execution_id),
            memory_bytes=memory_bytes,
        )
        self._executions[request.execution_id] = execution  # before the first checkpoint: no second start slips in
        try:
            with trio.CancelScope(shield=True):  # a process must not be started and forgotten
                pid = await trio.to_thread.run_sync(self._prepare_and_spawn, execution, request, params)
        except BaseException as exc:
            del self._executions[request.execution_id]
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))  # somebody may wait already
            execution.spawned.set()
            if isinstance(exc, OSError):
                raise StartFailed(f"the program could not be started: {exc}") from exc
            raise
        self._supervise(execution, Process.open(pid))

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.cancel`. WASI knows no signals: a program is ended at once, its
        logs are completed first."""
        execution = await self._get(execution_id)
        await execution.spawned.wait()
        process, run = execution.process, execution.run
        if execution.result is not None or process is None or run is None:
            return
        execution.is_cancelled = True
        with contextlib.suppress(OSError):  # on a full disk only a restarted daemon would miss the mark
            await trio.to_thread.run_sync(run.write, "cancelled", b"")
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)
        with trio.move_on_after(grace_s):
            await execution.done.wait()
        process.send(signal.SIGKILL)  # does nothing when it has ended
        await execution.done.wait()

    async def pause(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.pause`. The limit of wall-clock time goes on counting."""
        await self._freeze(execution_id, frozen=True)

    async def resume(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.resume`."""
        await self._freeze(execution_id, frozen=False)

    async def remove(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.remove`."""
        await self._ready()
        execution = self._executions.get(execution_id)
        if execution is None:
            return
        await self.cancel(execution_id, grace_s=grace_s)
        if self._executions.get(execution_id) is not execution:
            return  # somebody else was faster
        if execution.run is not None:
            await trio.to_thread.run_sync(_delete, execution.run.path)
        self._executions.pop(execution_id, None)

    async def stats(self, execution_id: str) -> ExecutorStats:
        """See :meth:`dms.executor.protocol.Executor.stats`. Memory is that of the whole process."""
        execution = await self._get(execution_id)
        if execution.process is None or execution.result is not None:
            return ExecutorStats(memory_limit_bytes=execution.memory_bytes)
        try:
            process = psutil.Process(execution.process.pid)
            with process.oneshot():
                times, rss, born = process.cpu_times(), process.memory_info().rss, process.create_time()
        except psutil.Error:
            return ExecutorStats(memory_limit_bytes=execution.memory_bytes)
        used_s, now = times.user + times.system, time.time()
        then, used_then_s = execution.sample or (born, 0.0)
        execution.sample = (now, used_s)
        percent = 100 * (used_s - used_then_s) / (now - then) if now > then else 0.0
        return ExecutorStats(max(0.0, percent), int(used_s * 1e9), rss, execution.memory_bytes)

    async def cleanup(self) -> None:
        """See :meth:`dms.executor.protocol.Executor.cleanup`. Compiled modules go too, unless they are shared."""
        await self._ready()
        async with trio.open_nursery() as nursery:
            for execution_id in list(self._executions):
                nursery.start_soon(lambda id_: self.remove(id_, grace_s=1.0), execution_id)
        await trio.to_thread.run_sync(_delete, self._runs_dir)
        if self._owns_modules:
            await trio.to_thread.run_sync(_delete, self._modules_dir)

    async def _ready(self) -> None:
        async with self._opening:
            if not self._is_open:
                self._adopt_all(await trio.to_thread.run_sync(self._find))
                self._is_open = True

    async def _live_status(self, execution: WasmExecution) -> ExecutionStatus:
        if execution.process is None:
            return ExecutionStatus.PENDING
        return ExecutionStatus.PAUSED if execution.process.is_stopped else ExecutionStatus.RUNNING

    def _detail(self, execution: WasmExecution) -> dict[str, str]:
        return {"pid": str(execution.process.pid)} if execution.process and execution.result is None else {}

    async def _freeze(self, execution_id: str, *, frozen: bool) -> None:
        execution = await self._get(execution_id)
        await execution.spawned.wait()
        if execution.process is not None and execution.result is None:
            await execution.process.freeze(frozen=frozen)

    def _find(self) -> list[tuple[RunDirectory, Record]]:
        """Executions of an earlier process, from the disk. Directories that cannot be read any more are dropped."""
        found = []
        for path in sorted(self._runs_dir.glob("*")):
            run = RunDirectory(path)
            record = run.record
            if record is None:
                _delete(path)
            else:
                found.append((run, record))
        return found

    def _adopt_all(self, found: list[tuple[RunDirectory, Record]]) -> None:
        for run, record in found:
            execution = WasmExecution(
                record.execution_id,
                record.job_id,
                Path(record.results_dir),
                adopted=True,
                run=run,
                memory_bytes=record.memory_bytes,
            )
            self._executions[record.execution_id] = execution
            is_same_boot = record.boot_id == boot_id()
            self._supervise(execution, run.process() if is_same_boot else None, lost_at_boot=not is_same_boot)

    def _supervise(self, execution: WasmExecution, process: Process | None, *, lost_at_boot: bool = False) -> None:
        execution.process = process
        execution.spawned.set()
        if process is None:
            _finish(execution, 0, lost_at_boot=lost_at_boot)
        else:
            self._nursery.start_soon(_watch, execution, process)

    def _allowed(self, params: WasmParams) -> Path:
        path = Path(params.module_path).resolve()
        if not any(path.is_relative_to(directory) for directory in self._allowed_module_dirs):
            raise InvalidEngineSpec(
                f"invalid {ENGINE} engine params: module_path is not allowed here: {params.module_path}",
                hint="send the program itself in module, or let the provider allow its directory",
            )
        return path

    def _prepare_and_spawn(self, execution: WasmExecution, request: ExecutionRequest, params: WasmParams) -> int:
        """In a thread: everything on the disk, then the process."""
        run = execution.run
        if run is None:
            raise AssertionError("an execution that starts has a run directory")
        module, compiled = self._module(params)
        preopens = [*_mounts(request), *_preopened_files(run, params, request)]
        for directory in (self._runs_dir.parent, self._runs_dir, self._modules_dir, request.results_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        request.results_dir.chmod(0o700)
        _delete(run.path)
        run.path.mkdir(mode=0o700)
        try:
            library = library_path()
            if compiled.exists():
                os.utime(compiled)  # it was used
            else:
                self._prune_modules()
            run.write("module.wasm", module)  # in any case: another version may have compiled it
            if params.stdin:
                run.write("stdin", params.stdin.encode())
            for path, content in params.files:
                target = run.path / "files" / path.relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            job = {
                "library": library,
                "module": str(run.path / "module.wasm"),
                "compiled": str(compiled),
                "argv": [PurePosixPath(params.module_path).name or "program.wasm", *params.args],
                "environment": params.environment,
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
            }
            run.write("job.json", dump(job))
            record = Record(
                request.execution_id, request.job_id, str(request.results_dir), execution.memory_bytes, boot_id()
            )
            run.write(
                "record.json", dump({name: getattr(record, name) for name in record.__struct_fields__}), sync=True
            )
            return spawn(run)
        except BaseException:
            _delete(run.path)
            raise

    def _module(self, params: WasmParams) -> tuple[bytes, Path]:
        """The program and the place of its compiled form, which differs when instructions are counted."""
        code = params.module
        if code is None:
            path = self._allowed(params)
            try:
                if not stat.S_ISREG(path.stat().st_mode):
                    raise InvalidEngineSpec(f"{path} is not a file")
                with path.open("rb") as file:
                    code = file.read(MAX_MODULE_BYTES + 1)
            except OSError as exc:
                raise InvalidEngineSpec(f"module_path cannot be read: {exc}") from None
            if reason := module_defect(code):
                raise InvalidEngineSpec(f"{path} {reason}")
        suffix = "-fuel" if params.fuel is not None else ""
        return code, self._modules_dir / f"{hashlib.sha256(code).hexdigest()}{suffix}.cwasm"

    def _prune_modules(self) -> None:
        cached = [(path.stat(), path) for path in self._modules_dir.glob("*.cwasm")]
        total = sum(info.st_size for info, _ in cached)
        for info, path in sorted(cached, key=lambda item: item[0].st_mtime):
            if total <= MODULE_CACHE_BYTES:
                return
            path.unlink(missing_ok=True)
            total -= info.st_size


async def _watch(execution: WasmExecution, process: Process) -> None:
    try:
        _finish(execution, await process.wait())
    finally:
        process.close()


def _finish(execution: WasmExecution, killed_by: int, *, lost_at_boot: bool = False) -> None:
    """Tell how it ended, from what the process left and from the signal that killed it."""
    run = execution.run
    told = run.exit if run is not None else None
    cancelled = execution.is_cancelled or (run is not None and run.is_cancelled)
    if told is not None and told.reason != "signalled":
        execution.finish(told.exit_code, EndReason(told.reason), told.error_msg)
    elif cancelled:
        execution.finish(told.exit_code if told else 128 + (killed_by or 9), EndReason.CANCELLED, "cancelled")
    elif told is not None:
        execution.finish(told.exit_code, EndReason.KILLED, told.error_msg)
    elif lost_at_boot:
        execution.finish(KILLED_EXIT_CODE, EndReason.KILLED, "the machine restarted while it ran")
    elif killed_by in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
        execution.finish(128 + killed_by, EndReason.TRAPPED, f"its process crashed: {_signal_name(killed_by)}")
    elif killed_by:
        execution.finish(128 + killed_by, EndReason.KILLED, f"killed from outside by {_signal_name(killed_by)}")
    else:
        reason = _last_words(run)
        if reason:
            execution.finish(-1, EndReason.INFRASTRUCTURE, f"its process failed: {reason}")
        else:
            execution.finish(KILLED_EXIT_CODE, EndReason.KILLED, "its process is gone: killed from outside")


def _last_words(run: RunDirectory | None) -> str:
    """What the interpreter said when the runner itself failed, before it could report."""
    try:
        text = (run.path / "runner.log").read_text("utf-8", "replace") if run is not None else ""
    except OSError:
        return ""
    return "".join(text.strip().splitlines()[-1:])[:300]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _mounts(request: ExecutionRequest) -> list[tuple[str, str, bool]]:
    """(host, guest, writable) of the directories that the request mounts."""
    mounts: list[Mount] = [*request.inputs, *request.outputs]
    if len(mounts) > MAX_MOUNTS:
        raise InvalidEngineSpec(f"more than {MAX_MOUNTS} mounts")
    for mount in mounts:
        if not mount.target.startswith("/"):
            raise InvalidEngineSpec(f'the mount target "{mount.target[:64]}" is not absolute')
        if not mount.source.is_dir():
            raise StartFailed(f"the mount source {mount.source} is not a directory")
    if len({mount.target for mount in mounts}) < len(mounts):
        raise InvalidEngineSpec("two mounts have the same target")
    return [(str(mount.source.resolve()), mount.target, not mount.read_only) for mount in mounts]


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


def _delete(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
