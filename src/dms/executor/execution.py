"""What all backends share: the table of executions, waiting for their end, and logs that grow while they are read."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import trio

from dms.executor.errors import AlreadyStarted, ExecutionNotFound, InvalidEngineSpec, Unsupported
from dms.executor.protocol import (
    EndReason,
    ExecOutput,
    ExecutionInfo,
    ExecutionRequest,
    ExecutionResult,
    ExecutionStatus,
    LogStreamRequest,
)

LOG_POLL_S = 0.1
"""How often a followed log is looked at."""
LOG_CHUNK_BYTES = 1 << 16
STDOUT_LOG, STDERR_LOG = "stdout.log", "stderr.log"
LOG_FILES = {"stdout": STDOUT_LOG, "stderr": STDERR_LOG}


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
        """Record the end; only the first counts."""
        if self.result is not None:
            return
        logs = [self.results_dir / name for name in (STDOUT_LOG, STDERR_LOG)] if self.results_dir else [None, None]
        self.result = ExecutionResult(exit_code, reason, error_msg, *logs)
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

    def logs(self, request: LogStreamRequest) -> AsyncIterator[bytes]:
        """See :meth:`dms.executor.protocol.Executor.logs`."""
        if request.stream not in LOG_FILES:
            raise InvalidEngineSpec(f'there is no log "{request.stream}"', hint="stdout or stderr")
        return LogReader(request, self._get, in_thread=self.reads_logs_in_thread)

    async def list(self) -> tuple[ExecutionInfo, ...]:
        """See :meth:`dms.executor.protocol.Executor.list`."""
        await self._ready()
        return tuple(
            [
                ExecutionInfo(
                    execution.execution_id,
                    execution.job_id,
                    execution.final_status or await self._live_status(execution),
                    self.type,
                    self._detail(execution),
                )
                for execution in list(self._executions.values())
            ]
        )

    async def _ready(self) -> None:
        """Called before any execution is looked up."""

    async def _live_status(self, execution: ExecutionT) -> ExecutionStatus:
        """The status of an execution that has not ended."""
        return ExecutionStatus.RUNNING

    def _detail(self, execution: ExecutionT) -> dict[str, str]:
        """The backend's own facts about an execution."""
        return {}

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


class LogReader:
    """The chunks of one log file as it grows.

    An iterator object and no generator: it holds nothing open between two chunks, so it needs no closing.
    """

    def __init__(
        self, request: LogStreamRequest, get: Callable[[str], Awaitable[Execution]], *, in_thread: bool
    ) -> None:
        self._request, self._get, self._in_thread = request, get, in_thread
        self._execution: Execution | None = None
        self._offset: int | None = None

    def __aiter__(self) -> LogReader:
        return self

    async def __anext__(self) -> bytes:
        if self._execution is None:
            self._execution = await self._get(self._request.execution_id)
        execution = self._execution
        if execution.results_dir is None:
            if self._request.follow:
                await execution.done.wait()
            raise StopAsyncIteration
        path = execution.results_dir / LOG_FILES[self._request.stream]
        while True:
            ended = execution.done.is_set()  # asked before reading: what was written before the end is then seen
            chunk = await trio.to_thread.run_sync(self._read, path) if self._in_thread else self._read(path)
            if chunk:
                return chunk
            if ended or not self._request.follow:
                raise StopAsyncIteration
            with trio.move_on_after(LOG_POLL_S):
                await execution.done.wait()

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                if self._offset is None:
                    tail, size = self._request.tail_bytes, os.fstat(file.fileno()).st_size
                    self._offset = 0 if tail is None else max(0, size - max(0, tail))
                file.seek(self._offset)
                chunk = file.read(LOG_CHUNK_BYTES)
        except FileNotFoundError:
            return b""
        self._offset += len(chunk)
        return chunk
