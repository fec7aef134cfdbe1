"""WebAssembly programs, each in a process of its own (``spec/execution.md`` 1; Wasmtime, WASI preview 1).

A program sees its arguments, its environment, the directories that it was given, and nothing else of the machine.
The process in which it runs (:mod:`dms.executor.wasm_runner`) holds it to its limits, writes its logs and its end, and
outlives this one (:mod:`dms.executor.supervision`).

Under ``state_dir`` (mode 0700): ``runs/`` with one private directory per execution, ``modules/`` with compiled
modules by the SHA-256 of their source (or elsewhere, where several nodes of one user share them). Whoever can write
there can run code: it must belong to us alone.

What a program cannot have: network ports, provision scripts, commands run inside it, a share of a core. Limits come
from ``resources.ram.size`` (linear memory) and ``resources.disk.size`` (any one file that it writes), further from
``fuel``, ``max_cpu_s`` and ``timeout`` of its parameters.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import trio

from dms.executor.errors import InvalidEngineSpec, Unsupported
from dms.executor.logs import STDERR_LOG, STDOUT_LOG
from dms.executor.process import Record, RunDirectory, boot_id, dump
from dms.executor.protocol import ExecutionRequest
from dms.executor.supervision import SupervisedExecution, SupervisedTable, checked_mounts, delete
from dms.executor.wasm_params import ENGINE, MAX_MODULE_BYTES, WasmParams, module_defect
from dms.executor.wasm_process import library_path, probe, spawn
from dms.types.resources import SpecConfig

DEFAULT_MEMORY_BYTES = 512 * 1024 * 1024
DEFAULT_LOG_LIMIT_BYTES = 64 * 1024 * 1024
MODULE_CACHE_BYTES = 512 * 1024 * 1024
"""Compiled modules beyond this are dropped, those unused for longest first."""


class WasmExecutor(SupervisedTable[SupervisedExecution]):
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
        super().__init__(nursery, state_dir / "runs")
        self._modules_dir = modules_dir or state_dir / "modules"
        self._owns_modules = modules_dir is None
        self._allowed_module_dirs = tuple(path.resolve() for path in allowed_module_dirs)
        self._default_memory_bytes, self._log_limit_bytes = default_memory_bytes, log_limit_bytes

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
        execution = self._begin(request, memory_bytes)
        await self._spawn(execution, lambda: self._prepare_and_spawn(execution, request, params))

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

    def _make(self, execution_id: str, job_id: str, results_dir: Path) -> SupervisedExecution:
        return SupervisedExecution(execution_id, job_id, results_dir)

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

    def _prepare_and_spawn(self, execution: SupervisedExecution, request: ExecutionRequest, params: WasmParams) -> int:
        """In a thread: everything on the disk, then the process."""
        run = execution.run
        if run is None:
            raise AssertionError("an execution that starts has a run directory")
        module, compiled = self._module(params)
        preopens = [*_mounts(request), *_preopened_files(run, params, request)]
        for directory in (self._runs_dir.parent, self._runs_dir, self._modules_dir, request.results_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        request.results_dir.chmod(0o700)
        delete(run.path)
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
            delete(run.path)
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
