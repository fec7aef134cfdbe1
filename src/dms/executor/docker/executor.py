"""Containers of a Docker engine (``spec/execution.md`` 2).

One task per container copies its output into the log files and waits for its end. Containers do not need us: after a
restart they are found by their labels, their logs are written anew from what the engine kept, and an end that nobody
saw is read from the engine's record.

An image that the engine does not have is pulled after ``start`` has returned, with status ``pending``: that may take
longer than any caller waits. Where the image is there, ``start`` returns when the container runs.

Under ``state_dir`` (mode 0700), by digest of the execution's id: ``<digest>/scripts/`` for provisioning and
``<digest>/cancelled``, which tells our own stop from somebody else's.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from dms.executor.docker.api import DockerApi, Json
from dms.executor.docker.facts import net_info, seconds, usage_of
from dms.executor.docker.params import (
    DEFAULT_MEMORY_BYTES,
    ENGINE,
    LABEL_EXECUTOR,
    LABEL_RESULTS,
    DockerParams,
    Names,
    container_config,
    provision_files,
)
from dms.executor.docker.streams import LogFiles
from dms.executor.errors import EngineRefused, ExecutorError, ExecutorUnavailable, StartFailed, Unsupported
from dms.executor.execution import Execution, ExecutionTable
from dms.executor.protocol import (
    EndReason,
    ExecOutput,
    ExecutionRequest,
    ExecutionStatus,
    ExecutorStats,
    NetInfo,
)
from dms.types.errors import DMSError
from dms.types.resources import SpecConfig

DEFAULT_LOG_LIMIT_BYTES = 64 * 1024 * 1024
MAX_EXEC_OUTPUT_BYTES = 1024 * 1024
LOG_DRAIN_S = 5.0
"""How long the copying of logs may go on after the end."""
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts while the engine does not answer; the last one is repeated."""
SIGNAL_EXIT_CODES = {128 + 9: "SIGKILL", 128 + 15: "SIGTERM"}
COMMAND_EXIT_CODES = {126: ": its command cannot be executed", 127: ": its command was not found"}
CANCELLED_EXIT_CODE = 143


@dataclass(eq=False, slots=True)
class DockerExecution(Execution):
    """With its container, once there is one."""

    container_id: str = ""
    image: str = ""
    memory_bytes: int = 0
    is_cancelled: bool = False
    starting: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around everything before the container runs."""
    settled: trio.Event = field(default_factory=trio.Event)
    """Set when the container runs, or never will."""
    sample: tuple[float, int] | None = None
    """(clock in seconds, processor time in nanoseconds) when usage was last asked for."""


class DockerExecutor(ExecutionTable[DockerExecution]):
    """See the module. ``nursery`` holds one task per container; cancelling it leaves the containers running."""

    type = ENGINE

    def __init__(
        self,
        nursery: trio.Nursery,
        state_dir: Path,
        api: DockerApi,
        *,
        executor_id: str,
        allow_privileged: bool = False,
        network_mode: str = "",
        with_init: bool = False,
        log_limit_bytes: int = DEFAULT_LOG_LIMIT_BYTES,
    ) -> None:
        super().__init__()
        self._nursery, self._state_dir, self._api = nursery, state_dir, api
        self._executor_id, self._allow_privileged = executor_id, allow_privileged
        self._network_mode, self._with_init, self._log_limit_bytes = network_mode, with_init, log_limit_bytes
        self._opening, self._is_open = trio.Lock(), False

    @classmethod
    async def open(
        cls,
        nursery: trio.Nursery,
        state_dir: Path,
        *,
        executor_id: str,
        host: str = "",
        allow_privileged: bool = False,
        network_mode: str = "",
    ) -> DockerExecutor:
        """An executor that is known to work here and has found the containers of an earlier process.

        :raises ExecutorUnavailable: no engine answers at ``host`` (empty: ``DOCKER_HOST`` or the usual socket).
        """
        api = DockerApi(host)
        await api.negotiate()
        about = await api.call("GET", "/info") or {}
        executor = cls(
            nursery,
            state_dir,
            api,
            executor_id=executor_id,
            allow_privileged=allow_privileged,
            network_mode=network_mode,
            with_init=bool(about.get("InitBinary")),
        )
        await executor._ready()
        return executor

    async def validate(self, engine: SpecConfig) -> None:
        """See :meth:`dms.executor.protocol.Executor.validate`."""
        self._permitted(DockerParams.parse(engine), allowed=self._allow_privileged)

    async def start(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.start`.

        :raises Unsupported: privileged containers are not allowed, or GPUs are wanted.
        """
        if await self._adopt(request):
            return
        params = DockerParams.parse(request.engine)
        self._permitted(params, allowed=self._allow_privileged and request.allow_privileged)
        if request.resources.gpus:
            raise Unsupported("the docker executor cannot give GPUs to containers")
        execution = DockerExecution(
            request.execution_id,
            request.job_id,
            request.results_dir,
            image=params.image,
            memory_bytes=request.resources.ram.size or DEFAULT_MEMORY_BYTES,
        )
        self._executions[request.execution_id] = execution  # before the first checkpoint: no second start slips in
        try:
            image = await self._api.image(params.image)
            if image is not None:
                await self._launch(execution, request, params, image)
        except BaseException as exc:
            del self._executions[request.execution_id]
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))
            execution.settled.set()
            if isinstance(exc, EngineRefused | OSError):
                raise StartFailed(f"the container could not be started: {exc}") from exc
            raise
        if image is None:
            self._nursery.start_soon(self._pull_and_launch, execution, request, params)
        elif execution.result is None:
            self._nursery.start_soon(self._watch, execution)

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.cancel`. A pull is given up; a container gets ``SIGTERM`` first."""
        execution = await self._get(execution_id)
        if execution.result is not None:
            return
        execution.is_cancelled = True
        execution.starting.cancel()
        await execution.settled.wait()
        if execution.done.is_set():
            return
        with suppress(OSError):  # on a full disk only a restarted daemon would miss the mark
            await trio.to_thread.run_sync(self._mark_cancelled, execution_id)
        path = f"/containers/{execution.container_id}"
        try:
            with suppress(EngineRefused):
                await self._api.call("POST", f"{path}/unpause")  # a frozen process cannot end itself
            await self._api.call(
                "POST", f"{path}/stop", query={"t": str(math.ceil(grace_s))}, timeout_s=math.ceil(grace_s) + 60
            )
        except EngineRefused as exc:
            if exc.status not in (304, 404):
                raise
        await execution.done.wait()

    async def pause(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.pause`."""
        await self._freeze(execution_id, "pause")

    async def resume(self, execution_id: str) -> None:
        """See :meth:`dms.executor.protocol.Executor.resume`."""
        await self._freeze(execution_id, "unpause")

    async def remove(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """See :meth:`dms.executor.protocol.Executor.remove`."""
        await self._ready()
        execution = self._executions.get(execution_id)
        if execution is None:
            return
        await self.cancel(execution_id, grace_s=grace_s)
        if execution.container_id:
            await self._api.remove_container(execution.container_id)
        await trio.to_thread.run_sync(_delete, self._directory(execution_id))
        if self._executions.get(execution_id) is execution:
            del self._executions[execution_id]

    async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
        """See :meth:`dms.executor.protocol.Executor.exec`. Each output is cut at 1 MiB."""
        execution = await self._get(execution_id)
        await execution.settled.wait()
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(argv)}
        created = await self._api.call("POST", f"/containers/{execution.container_id}/exec", body=body)
        outputs = {1: bytearray(), 2: bytearray()}
        path = f"/exec/{created['Id']}"
        async with aclosing(self._api.frames("POST", f"{path}/start", body={"Detach": False, "Tty": False})) as frames:
            async for stream, data in frames:
                outputs[stream] += data[: MAX_EXEC_OUTPUT_BYTES - len(outputs[stream])]
        ended = await self._api.call("GET", f"{path}/json")
        return ExecOutput(int(ended.get("ExitCode") or 0), bytes(outputs[1]), bytes(outputs[2]))

    async def stats(self, execution_id: str) -> ExecutorStats:
        """See :meth:`dms.executor.protocol.Executor.stats`. Memory without the page cache."""
        execution = await self._get(execution_id)
        if execution.result is not None or not execution.settled.is_set():
            return ExecutorStats(memory_limit_bytes=execution.memory_bytes)
        path = f"/containers/{execution.container_id}/stats"
        try:
            told = await self._api.call("GET", path, query={"stream": False, "one-shot": True}) or {}
        except EngineRefused:
            return ExecutorStats(memory_limit_bytes=execution.memory_bytes)
        now = time.monotonic()
        usage = usage_of(told, execution.memory_bytes, execution.sample, now)
        execution.sample = (now, usage.cpu_total_ns)
        return usage

    async def cleanup(self) -> None:
        """See :meth:`dms.executor.protocol.Executor.cleanup`."""
        await self._ready()
        async with trio.open_nursery() as nursery:
            for execution_id in list(self._executions):
                nursery.start_soon(lambda id_: self.remove(id_, grace_s=1.0), execution_id)
        for container in await self._api.containers({LABEL_EXECUTOR: self._executor_id}):
            await self._api.remove_container(container["Id"])
        await trio.to_thread.run_sync(_delete, self._state_dir)

    async def _ready(self) -> None:
        async with self._opening:
            if self._is_open:
                return
            for container in await self._api.containers({LABEL_EXECUTOR: self._executor_id}):
                labels = container.get("Labels") or {}
                names = Names.read(self._executor_id, labels)
                if names is None or names.execution_id in self._executions:
                    continue
                if container.get("State") == "created":  # the start was interrupted before anything ran
                    await self._api.remove_container(container["Id"])
                    continue
                execution = DockerExecution(
                    names.execution_id,
                    names.job_id,
                    Path(labels[LABEL_RESULTS]) if labels.get(LABEL_RESULTS) else None,
                    adopted=True,
                    container_id=container["Id"],
                    image=container.get("Image", ""),
                )
                execution.settled.set()
                self._executions[names.execution_id] = execution
                self._nursery.start_soon(self._watch, execution)
            self._is_open = True

    async def _live_status(self, execution: DockerExecution) -> ExecutionStatus:
        if not execution.settled.is_set():
            return ExecutionStatus.PENDING
        container = await self._api.container(execution.container_id)
        state = (container or {}).get("State") or {}
        return ExecutionStatus.PAUSED if state.get("Paused") else ExecutionStatus.RUNNING

    def _detail(self, execution: DockerExecution) -> dict[str, str]:
        return {"container": execution.container_id, "image": execution.image}

    async def _net(self, execution: DockerExecution) -> NetInfo | None:
        container = await self._api.container(execution.container_id) if execution.container_id else None
        return net_info(container) if container is not None else None

    def _permitted(self, params: DockerParams, *, allowed: bool) -> None:
        if params.privileged and not allowed:
            raise Unsupported(
                "privileged containers are not allowed on this node",
                hint="its owner can allow them with job.allow_privileged_docker",
            )

    async def _freeze(self, execution_id: str, how: str) -> None:
        execution = await self._get(execution_id)
        await execution.settled.wait()
        if execution.result is None:
            with suppress(EngineRefused):  # it is so already, or has just ended
                await self._api.call("POST", f"/containers/{execution.container_id}/{how}")

    async def _pull_and_launch(
        self, execution: DockerExecution, request: ExecutionRequest, params: DockerParams
    ) -> None:
        """In the background: everything that may take long, then the container's life."""
        try:
            with execution.starting:
                await self._api.pull(params.image)
                image = await self._api.image(params.image)
                await self._launch(execution, request, params, image or {})
        except (DMSError, OSError) as exc:
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))
        if execution.starting.cancelled_caught or (execution.is_cancelled and not execution.container_id):
            execution.finish(CANCELLED_EXIT_CODE, EndReason.CANCELLED, "cancelled before it ran")
        execution.settled.set()
        if execution.result is None:
            await self._watch(execution)

    async def _launch(
        self, execution: DockerExecution, request: ExecutionRequest, params: DockerParams, image: Json
    ) -> None:
        """Create the container and start it; nothing is left when that fails."""
        names = Names(self._executor_id, request.job_id, request.execution_id)
        scripts_dir = self._directory(request.execution_id) / "scripts"
        config = container_config(
            request,
            params,
            names,
            image,
            scripts_dir=scripts_dir,
            with_init=self._with_init,
            network_mode=self._network_mode,
        )
        try:
            await trio.to_thread.run_sync(self._prepare, request, scripts_dir)
            answer = await self._api.call("POST", "/containers/create", query={"name": names.container}, body=config)
            created = str(answer["Id"])
            try:
                await self._api.call("POST", f"/containers/{created}/start")
            except EngineRefused:
                await self._api.remove_container(created)
                raise
        except BaseException as exc:
            if not isinstance(exc, EngineRefused):  # interrupted: it may be there although we do not know its id
                await self._api.remove_container(names.container)
            _delete(self._directory(request.execution_id))
            raise
        execution.container_id = created
        execution.settled.set()

    def _prepare(self, request: ExecutionRequest, scripts_dir: Path) -> None:
        request.results_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _delete(scripts_dir.parent)
        if not request.provision_scripts:
            return
        scripts_dir.mkdir(parents=True)
        for name, body in provision_files(request.provision_scripts).items():
            (scripts_dir / name).write_bytes(body)
            (scripts_dir / name).chmod(0o755)  # read by the image's user; on the host, state_dir keeps others out

    def _directory(self, execution_id: str) -> Path:
        return self._state_dir / hashlib.sha256(execution_id.encode()).hexdigest()[:32]

    def _mark_cancelled(self, execution_id: str) -> None:
        directory = self._directory(execution_id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "cancelled").touch()

    async def _watch(self, execution: DockerExecution) -> None:
        """From now until the container's end. The engine may be restarted meanwhile."""
        try:
            async with trio.open_nursery() as nursery:
                copied = trio.Event()
                nursery.start_soon(self._follow_logs, execution, copied)
                await self._persist(lambda: self._until_stopped(execution))
                with trio.move_on_after(LOG_DRAIN_S):
                    await copied.wait()
                nursery.cancel_scope.cancel()
            await self._copy_logs(execution, follow=False)
            await self._persist(lambda: self._tell_end(execution))
        except ExecutorError as exc:
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))

    async def _persist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try again while the engine does not answer."""
        tries = 0
        while True:
            try:
                return await attempt()
            except ExecutorUnavailable:
                await trio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1

    async def _until_stopped(self, execution: DockerExecution) -> None:
        path = f"/containers/{execution.container_id}/wait"
        try:
            await self._api.call("POST", path, query={"condition": "not-running"}, timeout_s=None)
        except EngineRefused as exc:
            if exc.status != 404:
                raise

    async def _follow_logs(self, execution: DockerExecution, copied: trio.Event) -> None:
        await self._copy_logs(execution, follow=True)
        copied.set()

    async def _copy_logs(self, execution: DockerExecution, *, follow: bool) -> None:
        """Write both log files from what the engine kept, or what is missing of them.

        Called a second time after the end: engines may leave out the last lines of a log that they follow.
        """
        if execution.results_dir is None:
            return
        logs = LogFiles(execution.results_dir, self._log_limit_bytes)
        query = {"follow": follow, "stdout": True, "stderr": True}
        path = f"/containers/{execution.container_id}/logs"
        is_first = follow

        async def copy() -> None:
            nonlocal is_first
            with logs.opened(anew=is_first):
                is_first = False
                async with aclosing(self._api.frames("GET", path, query=query)) as frames:
                    async for stream, data in frames:
                        logs.write(stream, data)

        with suppress(EngineRefused, OSError):  # a full disk costs logs, not the execution
            await self._persist(copy)

    async def _tell_end(self, execution: DockerExecution) -> None:
        container = await self._api.container(execution.container_id)
        cancelled = execution.is_cancelled or (self._directory(execution.execution_id) / "cancelled").exists()
        if container is None:
            reason = EndReason.CANCELLED if cancelled else EndReason.KILLED
            execution.finish(CANCELLED_EXIT_CODE if cancelled else 137, reason, "its container was removed")
            return
        state = container.get("State") or {}
        code = int(state.get("ExitCode") or 0)
        if cancelled:
            execution.finish(code or CANCELLED_EXIT_CODE, EndReason.CANCELLED, "cancelled")
        elif state.get("OOMKilled") and code:
            limit = (container.get("HostConfig") or {}).get("Memory")
            execution.finish(code, EndReason.OUT_OF_MEMORY, f"it needed more than its {limit} bytes of memory")
        elif state.get("Error"):
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(state["Error"])[:500])
        elif by := await self._killed_by(execution, state, code):
            execution.finish(code, EndReason.KILLED, f"killed from outside by {by}")
        else:
            meaning = COMMAND_EXIT_CODES.get(code, "")
            execution.finish(
                code, EndReason.EXITED, f"the program ended with exit code {code}{meaning}" if code else ""
            )

    async def _killed_by(self, execution: DockerExecution, state: Json, code: int) -> str:
        """Which signal somebody sent through the engine, which remembers its last events; else what the code says."""
        began, ended = seconds(state.get("StartedAt")), seconds(state.get("FinishedAt"))
        if began and ended:
            filters = {"container": [execution.container_id], "event": ["kill"]}
            # not later than the end: the engine would wait for events until then
            query = {"since": f"{began:.6f}", "until": f"{max(ended, began):.6f}", "filters": filters}
            with suppress(ExecutorError):
                async with self._api.stream("GET", "/events", query=query, timeout_s=5) as response:
                    if (await response.aread()).strip():
                        return "a signal through the engine"
        return SIGNAL_EXIT_CODES.get(code, "")


def _delete(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
