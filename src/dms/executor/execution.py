"""What all backends share: the table of executions, and what can be answered from it alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import trio

from dms.executor.errors import AlreadyStarted, ExecutionNotFound, InvalidEngineSpec, StatusNotReached, Unsupported
from dms.executor.logs import LOG_FILES, STDERR_LOG, STDOUT_LOG, LogReader
from dms.executor.protocol import (
    EndReason,
    ExecOutput,
    ExecutionInfo,
    ExecutionRequest,
    ExecutionResult,
    ExecutionStatus,
    LogStreamRequest,
    NetInfo,
)
from dms.executor.sessions import ExecRequest, ExecSession, WholeCommand
from dms.executor.text import shown

STATUS_POLL_S, STATUS_TIMEOUT_S = 0.1, 10.0
"""How often :meth:`ExecutionTable.wait_for_status` looks, and how long."""
RUN_CANCEL_GRACE_S = 10.0


@dataclass(eq=False, slots=True)
class Execution:
    """One execution as this process knows it; backends derive their own from it."""

    execution_id: str
    job_id: str
    results_dir: Path | None
    adopted: bool = False
    """It was begun by an earlier process, and nobody has asked for it in this one yet."""
    result: ExecutionResult | None = None
    done: trio.Event = field(default_factory=trio.Event)

    def finish(self, exit_code: int, reason: EndReason, error_msg: str = "") -> None:
        """Record the end; only the first counts. The message may quote whatever the workload said."""
        if self.result is not None:
            return
        logs = [self.results_dir / name for name in (STDOUT_LOG, STDERR_LOG)] if self.results_dir else [None, None]
        self.result = ExecutionResult(exit_code, reason, shown(error_msg), *logs)
        self.done.set()

    @property
    def final_status(self) -> ExecutionStatus | None:
        """``success`` or ``failed``; ``None`` while it goes on."""
        if self.result is None:
            return None
        return ExecutionStatus.SUCCESS if self.result.ok else ExecutionStatus.FAILED


ExecutionT = TypeVar("ExecutionT", bound=Execution)


class ExecutionTable(Generic[ExecutionT]):
    """The executions that a backend knows, and what a backend can answer from them alone.

    Backends derive from it and override :meth:`_ready` (where they find executions of an earlier process) and
    :meth:`_live_status`.
    """

    type = ""
    reads_logs_in_thread = True
    """Off in twins that live on a virtual clock, which does not wait for threads."""

    def __init__(self) -> None:
        self._executions: dict[str, ExecutionT] = {}

    async def start(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.start`."""
        raise Unsupported(f"the {self.type} executor starts nothing")

    async def connect(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.connect`."""
        raise Unsupported(f"the {self.type} executor connects nothing that runs already")

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.cancel`."""
        await self._get(execution_id)

    async def run(self, request: ExecutionRequest) -> ExecutionResult:
        """See :meth:`dms.executor.protocol.Executor.run`."""
        await self.start(request)
        try:
            return await self.wait(request.execution_id)
        except trio.Cancelled:
            with trio.move_on_after(2 * RUN_CANCEL_GRACE_S, shield=True):
                await self.cancel(request.execution_id, grace_s=RUN_CANCEL_GRACE_S)
            raise

    async def wait(self, execution_id: str) -> ExecutionResult:
        """See :meth:`dms.executor.protocol.Executor.wait`."""
        execution = await self._get(execution_id)
        await execution.done.wait()
        if execution.result is None:
            raise AssertionError("an execution is done when it has a result")
        return execution.result

    async def status(self, execution_id: str) -> ExecutionStatus:
        """See :meth:`dms.executor.protocol.Executor.status`."""
        execution = await self._get(execution_id)
        return execution.final_status or await self._live_status(execution)

    async def pause(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.pause`."""
        await self._get(execution_id)
        raise Unsupported(f"the {self.type} executor cannot pause")

    async def resume(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.resume`."""
        await self._get(execution_id)
        raise Unsupported(f"the {self.type} executor cannot resume")

    async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
        """See :meth:`dms.executor.protocol.Executor.exec`."""
        await self._get(execution_id)
        raise Unsupported(f"the {self.type} executor cannot run commands inside a program: {argv[:1]}")

    async def open_exec(self, request: ExecRequest) -> ExecSession:
        """See :meth:`dms.executor.protocol.Executor.open_exec`. Unless a backend knows better, without input."""
        await self._get(request.execution_id)
        return WholeCommand.of(self.type, request, lambda: self.exec(request.execution_id, request.argv))

    def logs(self, request: LogStreamRequest) -> AsyncIterator[bytes]:
        """See :meth:`dms.executor.protocol.Executor.logs`."""
        if request.stream not in LOG_FILES:
            raise InvalidEngineSpec(f'there is no log "{request.stream}"', hint="stdout or stderr")
        return LogReader(request, self._get, in_thread=self.reads_logs_in_thread)

    async def wait_for_status(
        self, execution_id: str, status: ExecutionStatus, *, timeout_s: float = STATUS_TIMEOUT_S
    ) -> None:
        """See :meth:`dms.executor.protocol.Executor.wait_for_status`."""
        with trio.move_on_after(timeout_s):
            while True:  # backends tell no changes but the end
                now = await self.status(execution_id)
                if now is status:
                    return
                if now.is_final:
                    break
                await trio.sleep(STATUS_POLL_S)
        raise StatusNotReached(f"execution ({execution_id}) did not reach status {status.value}")

    async def info(self, execution_id: str) -> ExecutionInfo:
        """See :meth:`dms.executor.protocol.Executor.info`."""
        return await self._info(await self._get(execution_id))

    async def list(self) -> tuple[ExecutionInfo, ...]:
        """See :meth:`dms.executor.protocol.Executor.list`."""
        await self._ready()
        return tuple([await self._info(execution) for execution in list(self._executions.values())])

    async def _info(self, execution: ExecutionT) -> ExecutionInfo:
        status = execution.final_status or await self._live_status(execution)
        return ExecutionInfo(
            execution.execution_id,
            execution.job_id,
            status,
            self.type,
            self._detail(execution),
            await self._net(execution),
            self._doing(execution) if status is ExecutionStatus.PENDING else "",
        )

    async def _ready(self) -> None:
        """Called before any execution is looked up."""

    async def _live_status(self, execution: ExecutionT) -> ExecutionStatus:
        """The status of an execution that has not ended."""
        return ExecutionStatus.RUNNING

    def _detail(self, execution: ExecutionT) -> dict[str, str]:
        """The backend's own facts about an execution."""
        return {}

    def _doing(self, execution: ExecutionT) -> str:
        """What one that is pending waits for."""
        return ""

    async def _net(self, execution: ExecutionT) -> NetInfo | None:
        """Its network; ``None`` where it has none of its own."""
        return None

    async def _get(self, execution_id: str) -> ExecutionT:
        await self._ready()
        execution = self._executions.get(execution_id)
        if execution is None:
            raise ExecutionNotFound(f"execution ({execution_id}) not found")
        return execution

    async def _adopt(self, request: ExecutionRequest) -> bool:
        """Whether the execution was begun by an earlier process; from now on it belongs to this one.

        :raises AlreadyStarted: it was begun by this process.
        """
        await self._ready()
        execution = self._executions.get(request.execution_id)
        if execution is None:
            return False
        if not execution.adopted:
            what = "started" if execution.result is None else "completed"
            raise AlreadyStarted(f"execution ({request.execution_id}) is already {what}")
        execution.adopted = False
        return True
