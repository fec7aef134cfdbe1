"""An executor that plays a script: what the real ones do, on trio's clock, without a process.

::

    executor = ScriptedExecutor(nursery)
    executor.on("_node.task", Script(duration_s=3, stdout=((1.0, b"working\\n"),)))    # ids that end so
    executor.on("_node.bad", Script(exit_code=1, reason=EndReason.TRAPPED, error_msg="unreachable"))
    executor.on("_node.service", Script(duration_s=None))                             # until it is cancelled

Logs are real files in the results directory, as with every other executor. :meth:`ScriptedExecutor.restarted` gives
the executor that a daemon would find after a restart, while the executions went on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from dms.executor.errors import ExecutorUnavailable
from dms.executor.execution import Execution, ExecutionTable
from dms.executor.logs import STDERR_LOG, STDOUT_LOG
from dms.executor.protocol import (
    EndReason,
    ExecOutput,
    ExecutionRequest,
    ExecutionStatus,
    ExecutorStats,
)
from dms.executor.sessions import ExecRequest, ExecSession
from dms.testing.commands import ScriptedCommand
from dms.types.errors import DMSError
from dms.types.resources import SpecConfig

CANCELLED_EXIT_CODE, KILLED_EXIT_CODE = 143, 137


@dataclass(frozen=True, slots=True)
class Script:
    """The life of an execution. Times are seconds after its start; output written later than the end is never seen."""

    duration_s: float | None = 0.0
    """``None``: until it is cancelled or killed."""
    exit_code: int = 0
    reason: EndReason = EndReason.EXITED
    error_msg: str = ""
    stdout: Sequence[tuple[float, bytes]] = ()
    stderr: Sequence[tuple[float, bytes]] = ()
    cancel_takes_s: float = 0.0
    """How long it takes to stop when asked; longer than the grace period, it is killed at its end."""
    start_takes_s: float = 0.0
    pending_s: float = 0.0
    """How long after its start it says that its image is pulled."""
    start_error: DMSError | None = None
    invalid: DMSError | None = None
    """Raised when its engine parameters are validated or it is started."""
    exec_output: ExecOutput = ExecOutput(0, b"", b"")  # noqa: RUF009  frozen
    stats: ExecutorStats = ExecutorStats()  # noqa: RUF009  frozen


@dataclass(eq=False, slots=True)
class ScriptedExecution(Execution):
    """With its script and the tasks that play it."""

    script: Script = field(default_factory=Script)
    engine_type: str = ""
    started_at: float = 0.0
    is_paused: bool = False
    written: dict[str, int] = field(default_factory=dict)
    player: trio.CancelScope = field(default_factory=trio.CancelScope)


class ScriptedExecutor(ExecutionTable[ScriptedExecution]):
    """See the module. ``type_`` is what ensembles call it; any engine of that type is accepted."""

    reads_logs_in_thread = False

    def __init__(
        self,
        nursery: trio.Nursery,
        type_: str = "wasm",
        *,
        default: Script = Script(),
    ) -> None:
        super().__init__()
        self.type = type_
        self.started: list[ExecutionRequest] = []
        """Every request that was started, in order."""
        self.cancelled: list[str] = []
        """Every execution that was asked to stop while it ran, in order."""
        self.watch: Callable[[str, str], None] = _nothing
        """Told of every start, and of every end with its exit code: what it is, and the execution."""
        self.choose: Callable[[str], Script | None] = lambda _execution: None
        """Chooses the script of an execution by its id, before :meth:`on` is asked."""
        self.is_cut = False
        self.commands: list[ScriptedCommand] = []
        """Every command that was run inside, in order."""
        self._nursery, self._default = nursery, default
        self._scripts: list[tuple[str, Script]] = []

    def on(self, suffix: str, script: Script) -> None:
        """Play ``script`` for executions whose id ends with ``suffix``; what was said last wins."""
        self._scripts.insert(0, (suffix, script))

    def end(
        self,
        execution_id: str,
        *,
        exit_code: int = KILLED_EXIT_CODE,
        reason: EndReason = EndReason.KILLED,
        error_msg: str = "killed from outside",
    ) -> None:
        """End it now, as if somebody outside had done so."""
        execution = self._executions[execution_id]
        if execution.result is None:
            self.watch(f"ended {exit_code}", execution_id)
        execution.finish(exit_code, reason, error_msg)
        execution.player.cancel()

    def cut(self) -> None:
        """The daemon is gone from one moment to the next: whatever its tasks still do reaches no workload."""
        self.is_cut = True

    def restarted(self, nursery: trio.Nursery) -> ScriptedExecutor:
        """What a new process finds: the same executions, going on, to be adopted. The old object is of no more use."""
        after = ScriptedExecutor(nursery, self.type, default=self._default)
        after._scripts, after.watch, after.choose = list(self._scripts), self.watch, self.choose
        for before in self._executions.values():
            before.player.cancel()
            execution = ScriptedExecution(
                before.execution_id,
                before.job_id,
                before.results_dir,
                adopted=True,
                script=before.script,
                started_at=before.started_at,
                is_paused=before.is_paused,
                written=dict(before.written),
            )
            after._executions[before.execution_id] = execution
            if before.result is not None:
                execution.finish(before.result.exit_code, before.result.reason, before.result.error_msg)
            else:
                nursery.start_soon(after._play, execution)
        return after

    async def _ready(self) -> None:
        if self.is_cut:
            raise ExecutorUnavailable("the daemon is dead")

    async def validate(self, engine: SpecConfig) -> None:
        """Every parameter is right, unless the default script says otherwise."""
        if self._default.invalid is not None:
            raise self._default.invalid

    async def start(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.start`."""
        if await self._adopt(request):
            return
        script = self.choose(request.execution_id)
        if script is None:
            script = next((s for suffix, s in self._scripts if request.execution_id.endswith(suffix)), self._default)
        if script.invalid is not None:
            raise script.invalid
        execution = ScriptedExecution(request.execution_id, request.job_id, request.results_dir, script=script)
        self._executions[request.execution_id] = execution
        try:
            await trio.sleep(script.start_takes_s)
            await self._ready()
            if script.start_error is not None:
                raise script.start_error
        except BaseException as exc:
            del self._executions[request.execution_id]
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))
            raise
        execution.started_at = trio.current_time()
        self.started.append(request)
        self.watch("started", request.execution_id)
        self._nursery.start_soon(self._play, execution)

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.cancel`."""
        execution = await self._get(execution_id)
        if execution.result is not None:
            return
        self.cancelled.append(execution_id)
        with trio.move_on_after(min(execution.script.cancel_takes_s, grace_s)):
            await execution.done.wait()
        await self._ready()
        insisted = execution.script.cancel_takes_s > grace_s
        exit_code = KILLED_EXIT_CODE if insisted else CANCELLED_EXIT_CODE
        if execution_id in self._executions:  # else somebody else removed it meanwhile
            self.end(execution_id, exit_code=exit_code, reason=EndReason.CANCELLED, error_msg="cancelled")

    async def pause(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.pause`. The script goes on."""
        (await self._get(execution_id)).is_paused = True

    async def resume(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.resume`."""
        (await self._get(execution_id)).is_paused = False

    async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
        """See :meth:`dms.executor.protocol.Executor.exec`."""
        return (await self._get(execution_id)).script.exec_output

    async def open_exec(self, request: ExecRequest) -> ExecSession:
        """See :meth:`dms.executor.protocol.Executor.open_exec`; the commands are those of :mod:`dms.testing.commands`."""
        await self._get(request.execution_id)
        self.commands.append(ScriptedCommand(request))
        return self.commands[-1]

    async def remove(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.remove`."""
        await self._ready()
        if execution_id in self._executions:
            await self.cancel(execution_id, grace_s=grace_s)
            await self._ready()
            self._executions.pop(execution_id, None)

    async def stats(self, execution_id: str) -> ExecutorStats:
        """See :meth:`dms.executor.protocol.Executor.stats`."""
        execution = await self._get(execution_id)
        return execution.script.stats if execution.result is None else ExecutorStats()

    async def cleanup(self) -> None:
        """See :meth:`dms.executor.protocol.Executor.cleanup`."""
        for execution_id in list(self._executions):
            await self.remove(execution_id, grace_s=0)

    async def _live_status(self, execution: ScriptedExecution) -> ExecutionStatus:
        if trio.current_time() < execution.started_at + execution.script.pending_s:
            return ExecutionStatus.PENDING
        return ExecutionStatus.PAUSED if execution.is_paused else ExecutionStatus.RUNNING

    def _doing(self, execution: ScriptedExecution) -> str:
        left_s = execution.started_at + execution.script.pending_s - trio.current_time()
        return f"pulling its image: {left_s:.0f} s left"

    async def _play(self, execution: ScriptedExecution) -> None:
        """Write the output at its times, then end."""
        script, results_dir = execution.script, execution.results_dir
        lines = sorted(
            [(at, STDOUT_LOG, index, data) for index, (at, data) in enumerate(script.stdout)]
            + [(at, STDERR_LOG, index, data) for index, (at, data) in enumerate(script.stderr)]
        )
        with execution.player:
            for at, name, index, data in lines:
                if index < execution.written.get(name, 0) or (script.duration_s is not None and at > script.duration_s):
                    continue
                await trio.sleep_until(execution.started_at + at)
                if results_dir is not None:
                    results_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                    with (results_dir / name).open("ab") as file:
                        file.write(data)
                execution.written[name] = index + 1
            if script.duration_s is None:
                await trio.sleep_forever()
            else:
                await trio.sleep_until(execution.started_at + script.duration_s)
            self.watch(f"ended {script.exit_code}", execution.execution_id)
            execution.finish(script.exit_code, script.reason, script.error_msg)


def _nothing(_what: str, _execution: str) -> None:
    return
