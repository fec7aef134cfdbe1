"""An executor that writes a text, and the names of the files that it was given, and ends."""

from __future__ import annotations

from dms.executor.errors import InvalidEngineSpec
from dms.executor.execution import Execution, ExecutionTable
from dms.executor.logs import STDERR_LOG, STDOUT_LOG
from dms.executor.protocol import EndReason, ExecOutput, ExecutionRequest, ExecutionStatus, ExecutorStats
from dms.plugins.contract import ExecutorPlace
from dms.types.resources import SpecConfig


async def open_echo(place: ExecutorPlace) -> Echo:
    """One that keeps its outputs here. A backend that is missing raises an error, whose message the owner reads."""
    place.state_dir.mkdir(parents=True, exist_ok=True)
    return Echo()


class Echo(ExecutionTable[Execution]):
    """The table of executions answers for status, logs and waiting; what is left is to begin and to end."""

    type = "example.echo"

    async def validate(self, engine: SpecConfig) -> None:
        """``text`` must be text."""
        if not isinstance(engine.params.get("text"), str):
            raise InvalidEngineSpec("example.echo needs a text")

    async def start(self, request: ExecutionRequest) -> None:
        """Write, and end at once."""
        await self.validate(request.engine)
        if await self._adopt(request):
            return
        seen = [f"{mount.target}/{path.name}" for mount in request.inputs for path in sorted(mount.source.iterdir())]
        request.results_dir.mkdir(parents=True, exist_ok=True)
        (request.results_dir / STDOUT_LOG).write_text("\n".join([str(request.engine.params["text"]), *seen]) + "\n")
        (request.results_dir / STDERR_LOG).touch()
        execution = Execution(request.execution_id, request.job_id, request.results_dir)
        self._executions[request.execution_id] = execution
        execution.finish(0, EndReason.EXITED)

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """It has ended already."""
        await self._get(execution_id)

    async def remove(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """Forget it."""
        self._executions.pop(execution_id, None)

    async def pause(self, execution_id: str) -> None:
        """It has ended already."""
        await self._get(execution_id)

    async def resume(self, execution_id: str) -> None:
        """It has ended already."""
        await self._get(execution_id)

    async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
        """Nothing runs in which a command could run."""
        await self._get(execution_id)
        return ExecOutput(127, b"", b"nothing runs here\n")

    async def stats(self, execution_id: str) -> ExecutorStats:
        """Nothing is used."""
        await self._get(execution_id)
        return ExecutorStats()

    async def cleanup(self) -> None:
        """Forget all."""
        self._executions.clear()

    async def _live_status(self, execution: Execution) -> ExecutionStatus:
        return ExecutionStatus.RUNNING
