"""What backends share that run each workload in a detached process of their own: WebAssembly, microVMs.

The process outlives the daemon; an executor opened later on the same state directory finds it again. (A service
manager that ends all processes of a service together must be told not to: ``KillMode=process`` of systemd.)
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import trio

from dms.executor.errors import InvalidEngineSpec, StartFailed
from dms.executor.execution import Execution, ExecutionTable
from dms.executor.process import Process, Record, RunDirectory, boot_id
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus, ExecutorStats, Mount

MAX_MOUNTS = 64
KILLED_EXIT_CODE = 137
"""Reported where only the fact is known: 128 + SIGKILL."""
CLEANUP_GRACE_S = 1.0


@dataclass(eq=False, slots=True)
class SupervisedExecution(Execution):
    """With its run directory and, while it runs, its process."""

    run: RunDirectory | None = None
    process: Process | None = None
    memory_bytes: int = 0
    is_cancelled: bool = False
    spawned: trio.Event = field(default_factory=trio.Event)
    """Set when ``process`` tells whether there is one."""
    sample: tuple[float, float] | None = None
    """(clock, processor time) in seconds when usage was last asked for."""


SupervisedT = TypeVar("SupervisedT", bound=SupervisedExecution)


class SupervisedTable(ExecutionTable[SupervisedT]):
    """Finds, watches, stops and forgets such processes.

    ``nursery`` holds one waiting task per running execution; cancelling it leaves the workloads running. Backends
    give :meth:`_make`, and start processes between :meth:`_begin` and :meth:`_supervise`.
    """

    def __init__(self, nursery: trio.Nursery, runs_dir: Path) -> None:
        super().__init__()
        self._nursery, self._runs_dir = nursery, runs_dir
        self._opening, self._is_open = trio.Lock(), False

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.cancel`."""
        execution = await self._get(execution_id)
        await execution.spawned.wait()
        process, run = execution.process, execution.run
        if execution.result is not None or process is None or run is None:
            return
        execution.is_cancelled = True
        with contextlib.suppress(OSError):  # on a full disk only a restarted daemon would miss the mark
            await trio.to_thread.run_sync(run.write, "cancelled", b"")
        await self._thaw(execution)
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)
        with trio.move_on_after(grace_s):
            await execution.done.wait()
        process.send(signal.SIGKILL)  # does nothing when it has ended
        await execution.done.wait()

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
            await trio.to_thread.run_sync(self._forget, execution.run)
        self._executions.pop(execution_id, None)

    async def stats(self, execution_id: str) -> ExecutorStats:
        """See :meth:`dms.executor.protocol.Executor.stats`. Memory is that of the whole process."""
        execution = await self._get(execution_id)
        nothing = ExecutorStats(memory_limit_bytes=execution.memory_bytes)
        pid = self._measured_pid(execution)
        if pid is None or execution.result is not None:
            return nothing
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times, rss, born = process.cpu_times(), process.memory_info().rss, process.create_time()
                peak = _peak_bytes(pid)
                read_bytes, write_bytes = _disk_bytes(process)
        except psutil.Error:
            return nothing
        used_s, now = times.user + times.system, time.time()
        then, used_then_s = execution.sample or (born, 0.0)
        execution.sample = (now, used_s)
        percent = 100 * (used_s - used_then_s) / (now - then) if now > then else 0.0
        return ExecutorStats(
            max(0.0, percent),
            int(used_s * 1e9),
            rss,
            execution.memory_bytes,
            cpu_user_ns=int(times.user * 1e9),
            cpu_kernel_ns=int(times.system * 1e9),
            memory_max_bytes=max(peak, rss),
            block_read_bytes=read_bytes,
            block_write_bytes=write_bytes,
        )

    async def cleanup(self) -> None:
        """See :meth:`dms.executor.protocol.Executor.cleanup`."""
        await self._ready()
        async with trio.open_nursery() as nursery:
            for execution_id in list(self._executions):
                nursery.start_soon(lambda id_: self.remove(id_, grace_s=CLEANUP_GRACE_S), execution_id)
        await trio.to_thread.run_sync(delete, self._runs_dir)

    def _make(self, execution_id: str, job_id: str, results_dir: Path) -> SupervisedT:
        """An execution of the backend's own kind."""
        raise AssertionError("every backend makes its own")

    def _forget(self, run: RunDirectory) -> None:
        """Delete what an execution that has ended leaves on this machine."""
        delete(run.path)

    def _measured_pid(self, execution: SupervisedT) -> int | None:
        """The process whose usage is the execution's."""
        return execution.process.pid if execution.process is not None else None

    async def _thaw(self, execution: SupervisedT) -> None:
        """Before it is asked to stop: undo a pause that would keep it from hearing that."""

    def _begin(self, request: ExecutionRequest, memory_bytes: int) -> SupervisedT:
        """Enter it into the table; before the first checkpoint, so that no second start slips in."""
        execution = self._make(request.execution_id, request.job_id, request.results_dir)
        execution.run = RunDirectory.of(self._runs_dir, request.execution_id)
        execution.memory_bytes = memory_bytes
        self._executions[request.execution_id] = execution
        return execution

    async def _spawn(self, execution: SupervisedT, prepare_and_spawn: Callable[[], int]) -> None:
        """Prepare the disk and start the process, in a thread; undone when that fails.

        :raises StartFailed: the system refused.
        """
        try:
            with trio.CancelScope(shield=True):  # a process must not be started and forgotten
                pid = await trio.to_thread.run_sync(prepare_and_spawn)
        except BaseException as exc:
            self._executions.pop(execution.execution_id, None)
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))  # somebody may wait already
            execution.spawned.set()
            if isinstance(exc, OSError):
                raise StartFailed(f"the program could not be started: {exc}") from exc
            raise
        self._supervise(execution, Process.open(pid))

    def _supervise(self, execution: SupervisedT, process: Process | None, *, lost_at_boot: bool = False) -> None:
        execution.process = process
        execution.spawned.set()
        if process is None:
            finish(execution, 0, lost_at_boot=lost_at_boot)
        else:
            self._nursery.start_soon(_watch, execution, process)

    async def _ready(self) -> None:
        async with self._opening:
            if not self._is_open:
                self._adopt_all(await trio.to_thread.run_sync(self._find))
                self._is_open = True

    async def _live_status(self, execution: SupervisedT) -> ExecutionStatus:
        if execution.process is None:
            return ExecutionStatus.PENDING
        return ExecutionStatus.PAUSED if execution.process.is_stopped else ExecutionStatus.RUNNING

    def _detail(self, execution: SupervisedT) -> dict[str, str]:
        pid = self._measured_pid(execution)
        return {"pid": str(pid)} if pid is not None and execution.result is None else {}

    def _find(self) -> list[tuple[RunDirectory, Record]]:
        """Executions of an earlier process, from the disk. Directories that cannot be read any more are dropped."""
        found = []
        for path in sorted(self._runs_dir.glob("*")):
            run = RunDirectory(path)
            record = run.record
            if record is None:
                delete(path)
            else:
                found.append((run, record))
        return found

    def _adopt_all(self, found: list[tuple[RunDirectory, Record]]) -> None:
        for run, record in found:
            execution = self._make(record.execution_id, record.job_id, Path(record.results_dir))
            execution.adopted, execution.run, execution.memory_bytes = True, run, record.memory_bytes
            self._executions[record.execution_id] = execution
            is_same_boot = record.boot_id == boot_id()
            self._supervise(execution, run.process() if is_same_boot else None, lost_at_boot=not is_same_boot)


async def _watch(execution: SupervisedExecution, process: Process) -> None:
    try:
        finish(execution, await process.wait())
    finally:
        process.close()


def finish(execution: SupervisedExecution, killed_by: int, *, lost_at_boot: bool = False) -> None:
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
        execution.finish(128 + killed_by, EndReason.TRAPPED, f"its process crashed: {signal_name(killed_by)}")
    elif killed_by:
        execution.finish(128 + killed_by, EndReason.KILLED, f"killed from outside by {signal_name(killed_by)}")
    elif reason := _last_words(run):
        execution.finish(-1, EndReason.INFRASTRUCTURE, f"its process failed: {reason}")
    else:
        execution.finish(KILLED_EXIT_CODE, EndReason.KILLED, "its process is gone: killed from outside")


def signal_name(number: int) -> str:
    """``SIGKILL`` of 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def checked_mounts(request: ExecutionRequest) -> tuple[Mount, ...]:
    """The directories that a request mounts, their sources resolved.

    :raises InvalidEngineSpec: too many, a target that is not absolute, or two that are the same.
    :raises StartFailed: a source is not there.
    """
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
    return tuple(Mount(mount.source.resolve(), mount.target, mount.read_only) for mount in mounts)


def delete(directory: Path) -> None:
    """Remove a directory with all that is in it, as far as possible."""
    shutil.rmtree(directory, ignore_errors=True)


def _last_words(run: RunDirectory | None) -> str:
    """What the interpreter said when the runner itself failed, before it could report."""
    try:
        text = (run.path / "runner.log").read_text("utf-8", "replace") if run is not None else ""
    except OSError:
        return ""
    return "".join(text.strip().splitlines()[-1:])[:300]


def _peak_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _disk_bytes(process: psutil.Process) -> tuple[int, int]:
    try:
        counters = process.io_counters()
    except (psutil.Error, OSError, AttributeError):
        return 0, 0
    return counters.read_bytes, counters.write_bytes
