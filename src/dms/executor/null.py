"""An executor that runs nothing: for nodes without a backend, and for tests (``spec/execution.md`` 1.7).

An execution succeeds at once, or, with the parameter ``duration`` (such as ``30s``), when so much time has passed on
trio's clock, unless it is cancelled before. It has no logs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from dms.executor.execution import Execution, ExecutionTable
from dms.executor.params import Params
from dms.executor.protocol import EndReason, ExecOutput, ExecutionRequest, ExecutionStatus, ExecutorStats
from dms.types.resources import SpecConfig

ENGINE = "null"
CANCELLED_EXIT_CODE = 143


@dataclass(eq=False, slots=True)
class NullExecution(Execution):
    """With the clock that ends it."""

    is_paused: bool = False
    timer: trio.CancelScope = field(default_factory=trio.CancelScope)


class NullExecutor(ExecutionTable[NullExecution]):
    """See the module; ``nursery`` holds the timers."""

    type = ENGINE

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__()
        self._nursery = nursery

    async def validate(self, engine: SpecConfig) -> None:
        """See :meth:`dms.executor.protocol.Executor.validate`. Unknown parameters are ignored."""
        _duration_s(engine)

    async def start(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.start`."""
        if await self._adopt(request):
            return
        duration_s = _duration_s(request.engine)
        execution = NullExecution(request.execution_id, request.job_id, None)
        self._executions[request.execution_id] = execution
        if duration_s is None:
            execution.finish(0, EndReason.EXITED)
        else:
            self._nursery.start_soon(_run, execution, duration_s)

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.cancel`."""
        execution = await self._get(execution_id)
        execution.finish(CANCELLED_EXIT_CODE, EndReason.CANCELLED, "cancelled")
        execution.timer.cancel()

    async def pause(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.pause`. The time goes on."""
        (await self._get(execution_id)).is_paused = True

    async def resume(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.resume`."""
        (await self._get(execution_id)).is_paused = False

    async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
        """See :meth:`dms.executor.protocol.Executor.exec`: succeeds and says nothing."""
        await self._get(execution_id)
        return ExecOutput(0, b"", b"")

    async def remove(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.remove`."""
        if execution_id in self._executions:
            await self.cancel(execution_id, grace_s=grace_s)
            self._executions.pop(execution_id, None)

    async def stats(self, execution_id: str) -> ExecutorStats:
        """See :meth:`dms.executor.protocol.Executor.stats`: nothing is used."""
        await self._get(execution_id)
        return ExecutorStats()

    async def cleanup(self) -> None:
        """See :meth:`dms.executor.protocol.Executor.cleanup`."""
        for execution_id in list(self._executions):
            await self.remove(execution_id)

    async def _live_status(self, execution: NullExecution) -> ExecutionStatus:
        return ExecutionStatus.PAUSED if execution.is_paused else ExecutionStatus.RUNNING


async def _run(execution: NullExecution, duration_s: float) -> None:
    with execution.timer:
        await trio.sleep(duration_s)
        execution.finish(0, EndReason.EXITED)


def _duration_s(engine: SpecConfig) -> float | None:
    return Params(engine, ENGINE).duration_s("duration")
