"""The Docker backend: see the package for how it is put together."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import trio

from dms.executor.docker.api import DockerApi
from dms.executor.docker.commands import DockerCommand
from dms.executor.docker.container import (
    DEFAULT_MEMORY_BYTES,
    LABEL_DISK,
    LABEL_EXECUTOR,
    LABEL_NETWORK,
    LABEL_RESULTS,
    Names,
)
from dms.executor.docker.ending import CANCELLED_EXIT_CODE
from dms.executor.docker.engine import Engine
from dms.executor.docker.execution import DockerExecution
from dms.executor.docker.facts import net_info, usage_of, whole_number
from dms.executor.docker.holder import held_by, namespace_of
from dms.executor.docker.launch import Launcher, Owned, delete, tell
from dms.executor.docker.networks import TenantNetworks
from dms.executor.docker.params import ENGINE, DockerParams
from dms.executor.docker.shapes import CREATED, EXEC, OBJECT
from dms.executor.docker.watch import DISK_CHECK_S, Watcher
from dms.executor.errors import EngineRefused, ExecutorError, StartFailed, Unsupported
from dms.executor.execution import ExecutionTable
from dms.executor.protocol import EndReason, ExecOutput, ExecutionRequest, ExecutionStatus, ExecutorStats, NetInfo
from dms.executor.sessions import ExecRequest, ExecSession
from dms.observe.log import get_logger
from dms.types.errors import DMSError
from dms.types.resources import SpecConfig

log = get_logger(__name__)

DEFAULT_LOG_LIMIT_BYTES = 64 * 1024 * 1024
MAX_EXEC_OUTPUT_BYTES = 1024 * 1024


class DockerExecutor(ExecutionTable[DockerExecution]):
    """``nursery`` holds the tasks of every container; cancelling it leaves the containers running."""

    type = ENGINE

    def __init__(
        self,
        nursery: trio.Nursery,
        state_dir: Path,
        api: DockerApi,
        *,
        executor_id: str,
        engine: Engine | None = None,
        allow_privileged: bool = False,
        network_mode: str = "",
        volume_dirs: Sequence[Path] = (),
        log_limit_bytes: int = DEFAULT_LOG_LIMIT_BYTES,
        disk_check_s: float = DISK_CHECK_S,
    ) -> None:
        super().__init__()
        self._nursery, self._state_dir, self._api = nursery, state_dir, api
        self._executor_id, self._allow_privileged = executor_id, allow_privileged
        self._log_limit_bytes = log_limit_bytes
        self._watcher = Watcher(
            api, lambda execution: self._launcher.is_cancelled(execution), disk_check_s=disk_check_s
        )
        owned = Owned(executor_id, state_dir, tuple(volume_dirs), network_mode)
        engine = engine or Engine()
        self._networks = TenantNetworks(api, engine, executor_id, self._wants_network)
        self._network_mode = network_mode
        self._launcher = Launcher(api, engine, owned, self._watcher, self._networks, nursery)
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
        volume_dirs: Sequence[Path] = (),
    ) -> DockerExecutor:
        """An executor that is known to work here and has found the containers of an earlier process.

        :raises ExecutorUnavailable: no engine answers at ``host`` (empty: ``DOCKER_HOST`` or the usual sockets).
        """
        api = DockerApi(host)
        engine = await api.describe()
        log.info("engine_found", kind=engine.kind, version=engine.version, host=api.host, rootless=engine.is_rootless)
        for weakness in engine.weaknesses():
            log.warning("engine_weakness", weakness=weakness)
        executor = cls(
            nursery,
            state_dir,
            api,
            executor_id=executor_id,
            engine=engine,
            allow_privileged=allow_privileged,
            network_mode=network_mode,
            volume_dirs=volume_dirs,
        )
        await executor._ready()
        return executor

    async def validate(self, engine: SpecConfig) -> None:
        """See :meth:`dms.executor.protocol.Executor.validate`."""
        self._permitted(DockerParams.parse(engine), allowed=self._allow_privileged)

    async def start(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.start`. Where the image is here, this returns when the container
        runs. Otherwise it is pulled afterwards, with status ``pending``: that may take longer than any caller waits.

        :raises Unsupported: privileged containers are not allowed, or GPUs that cannot be given are wanted.
        """
        if await self._adopt(request):
            try:
                await self._launcher.rejoin(self._executions[request.execution_id], request)
            except DMSError as exc:  # it runs, and is reached at its public ports
                tell(request, exc)
            try:
                await self._launcher.reproxy(self._executions[request.execution_id], request)
            except DMSError as exc:
                log.warning("proxy_not_opened", execution=request.execution_id, reason=exc.message)
            return
        params = DockerParams.parse(request.engine)
        self._permitted(params, allowed=self._allow_privileged and request.allow_privileged)
        execution = DockerExecution(
            request.execution_id,
            request.job_id,
            request.results_dir,
            image=params.image,
            memory_bytes=request.resources.ram.size or DEFAULT_MEMORY_BYTES,
        )
        execution.open_logs(self._log_limit_bytes)
        execution.network = "" if self._network_mode else self._networks.name(request.tenant)
        self._executions[request.execution_id] = execution  # before the first checkpoint: no second start slips in
        try:
            image = await self._launcher.image(params)
            if image is not None:
                await self._launcher.launch(execution, request, params, image, self._written())
        except BaseException as exc:
            del self._executions[request.execution_id]
            with trio.CancelScope(shield=True):
                await self._networks.drop(execution.network)
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))
            execution.settled.set()
            if isinstance(exc, EngineRefused | OSError):
                raise StartFailed(f"the container could not be started: {exc}") from exc
            raise
        if image is None:
            self._nursery.start_soon(self._pull_and_launch, execution, request, params)
        elif execution.result is None:
            self._nursery.start_soon(self._watcher.watch, execution)

    async def connect(self, request: ExecutionRequest) -> None:
        """See :meth:`dms.executor.protocol.Executor.connect`."""
        execution = await self._get(request.execution_id)
        await execution.settled.wait()
        await self._launcher.rejoin(execution, request)

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
            await trio.to_thread.run_sync(self._launcher.mark_cancelled, execution_id)
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
        for container_id in (execution.container_id, execution.holder_id):
            if container_id:
                await self._api.remove_container(container_id)
        await trio.to_thread.run_sync(delete, self._launcher.directory(execution_id))
        if self._executions.get(execution_id) is execution:
            del self._executions[execution_id]
        await self._networks.drop(execution.network)

    async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
        """See :meth:`dms.executor.protocol.Executor.exec`. Each output is cut at 1 MiB."""
        execution = await self._get(execution_id)
        await execution.settled.wait()
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(argv)}
        path = f"/containers/{execution.container_id}/exec"
        created = await self._api.call("POST", path, body=body, shape=CREATED)
        outputs = {1: bytearray(), 2: bytearray()}
        path = f"/exec/{created['Id']}"
        async with aclosing(self._api.frames("POST", f"{path}/start", body={"Detach": False, "Tty": False})) as frames:
            async for stream, data in frames:
                outputs[stream] += data[: MAX_EXEC_OUTPUT_BYTES - len(outputs[stream])]
        ended = await self._api.call("GET", f"{path}/json", shape=EXEC)
        code = ended.get("ExitCode")  # none: it has not ended, its output has
        return ExecOutput(-1 if code is None else code, bytes(outputs[1]), bytes(outputs[2]))

    async def open_exec(self, request: ExecRequest) -> ExecSession:
        """See :meth:`dms.executor.protocol.Executor.open_exec`: with input and a terminal."""
        execution = await self._get(request.execution_id)
        await execution.settled.wait()
        return await DockerCommand(self._api, execution.container_id, request).open()

    async def stats(self, execution_id: str) -> ExecutorStats:
        """See :meth:`dms.executor.protocol.Executor.stats`. Memory without the page cache."""
        execution = await self._get(execution_id)
        if execution.result is not None or not execution.settled.is_set():
            return ExecutorStats(memory_limit_bytes=execution.memory_bytes)
        path = f"/containers/{execution.container_id}/stats"
        try:
            told = await self._api.call("GET", path, query={"stream": False, "one-shot": True}, shape=OBJECT)
        except EngineRefused:
            return ExecutorStats(memory_limit_bytes=execution.memory_bytes)
        now = time.monotonic()
        if execution.holder_id:
            told["networks"] = await self._networks_of(execution.holder_id)
        usage = usage_of(told, execution.memory_bytes, execution.sample, now)
        execution.sample = (now, usage.cpu_total_ns)
        return usage

    async def _networks_of(self, holder_id: str) -> object:
        try:
            path, query = f"/containers/{holder_id}/stats", {"stream": False, "one-shot": True}
            return (await self._api.call("GET", path, query=query, shape=OBJECT)).get("networks")
        except EngineRefused:
            return None

    async def cleanup(self) -> None:
        """See :meth:`dms.executor.protocol.Executor.cleanup`."""
        await self._ready()
        async with trio.open_nursery() as nursery:
            for execution_id in list(self._executions):
                nursery.start_soon(self._remove_if_possible, execution_id)
        for container in await self._api.containers({LABEL_EXECUTOR: self._executor_id}):
            await self._api.remove_container(container["Id"])
        await self._networks.drop_unused()
        await trio.to_thread.run_sync(delete, self._state_dir)

    async def _remove_if_possible(self, execution_id: str) -> None:
        with suppress(ExecutorError):  # what the engine keeps is tried once more, by its label
            await self.remove(execution_id, grace_s=1.0)

    async def _ready(self) -> None:
        async with self._opening:
            if self._is_open:
                return
            containers = await self._api.containers({LABEL_EXECUTOR: self._executor_id})
            holders = held_by(containers)
            for container in containers:
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
                    image=container.get("Image") or "",
                    network=labels.get(LABEL_NETWORK, ""),
                    holder_id=holders.pop(names.execution_label, ""),
                    disk_bytes=whole_number(labels.get(LABEL_DISK)),
                    written=tuple(
                        Path(mount["Source"])
                        for mount in container.get("Mounts") or ()
                        if mount.get("Type") == "bind" and mount.get("RW") and mount.get("Source")
                    ),
                )
                execution.open_logs(self._log_limit_bytes)
                execution.settled.set()
                self._executions[names.execution_id] = execution
                self._nursery.start_soon(self._watcher.watch, execution)
            for left in holders.values():
                await self._api.remove_container(left)
            await self._networks.drop_unused()
            self._is_open = True

    async def _live_status(self, execution: DockerExecution) -> ExecutionStatus:
        if not execution.settled.is_set():
            return ExecutionStatus.PENDING
        container = await self._api.container(execution.container_id)
        state = (container or {}).get("State") or {}
        return ExecutionStatus.PAUSED if state.get("Paused") else ExecutionStatus.RUNNING

    def _detail(self, execution: DockerExecution) -> dict[str, str]:
        return {"container": execution.container_id, "image": execution.image}

    def _doing(self, execution: DockerExecution) -> str:
        return f"pulling {execution.image}: {execution.progress or 'asking the registry'}"

    async def _net(self, execution: DockerExecution) -> NetInfo | None:
        networked = execution.holder_id or execution.container_id
        container = await self._api.container(networked) if networked else None
        net = net_info(container) if container is not None else None
        return replace(net, namespace=namespace_of(container)) if net is not None and container is not None else None

    def _wants_network(self, name: str) -> bool:
        return any(execution.network == name for execution in self._executions.values())

    def _written(self) -> list[Path]:
        """What live workloads can write."""
        return [path for execution in self._executions.values() if not execution.result for path in execution.written]

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
                image = await self._launcher.pull(execution, params)
                await self._launcher.launch(execution, request, params, image, self._written())
        except (DMSError, OSError) as exc:
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))
        if execution.starting.cancelled_caught or (execution.is_cancelled and not execution.container_id):
            execution.finish(CANCELLED_EXIT_CODE, EndReason.CANCELLED, "cancelled before it ran")
        execution.settled.set()
        if execution.result is None:
            await self._watcher.watch(execution)
