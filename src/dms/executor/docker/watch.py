"""From the start of a container to its end: its output, its disk, and how it ended. The engine may be restarted
meanwhile, and so may we."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import trio

from dms.executor.docker.api import DockerApi, Json
from dms.executor.docker.ending import Circumstances, Ending, ending_of
from dms.executor.docker.execution import DockerExecution
from dms.executor.docker.facts import seconds
from dms.executor.docker.streams import BeginningLost, StreamLog
from dms.executor.errors import EngineRefused, ExecutorError, ExecutorUnavailable
from dms.executor.protocol import EndReason
from dms.observe.log import get_logger

log = get_logger(__name__)

LOG_DRAIN_S = 5.0
"""How long the copying of logs may go on after the end."""
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts while the engine does not answer; the last one is repeated."""
MAX_REFUSALS = 20
"""Attempts after which an engine that answers, but with nothing that makes sense, is given up."""
RESTART_POLL_S = 1.0
"""How often a container is looked at that the engine starts again."""
ATTACHED_END_S = 10.0
"""How long after the end of its output the end of a container may be told, before the engine's record is asked."""
ENDED_S = 0.05
"""Within which an end that is known already is told."""
DISK_CHECK_S = 60.0
"""Between two looks at what a container has written, where the storage driver cannot limit it."""


class Watcher:
    """Follows containers of one engine. ``is_cancelled`` tells whether we asked for the end, also before a restart."""

    def __init__(
        self, api: DockerApi, is_cancelled: Callable[[DockerExecution], bool], *, disk_check_s: float = DISK_CHECK_S
    ) -> None:
        self._api, self._is_cancelled, self._disk_check_s = api, is_cancelled, disk_check_s

    async def attach(
        self, execution: DockerExecution, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Read the outputs of a container that is not started yet; started once the engine has agreed."""
        query = {"stream": True, "stdout": True, "stderr": True}
        is_started, ended = False, trio.Event()
        try:
            for log in execution.logs.values():
                log.begin()
            path = f"/containers/{execution.container_id}/attach"
            async with self._api.opened_frames("POST", path, query=query) as frames:
                execution.attached, is_started = ended, True
                task_status.started()
                async for stream, data in frames:
                    execution.logs[stream].write(data)
        except (ExecutorError, OSError):  # then the engine's record must do
            if not is_started:
                task_status.started()
        finally:
            for log in execution.logs.values():
                log.close()
            ended.set()

    async def watch(self, execution: DockerExecution) -> None:
        """Until the end is known and told. Nothing that an engine answers ends more than this execution."""
        try:
            await self._watch(execution)
        except ExecutorError as exc:
            execution.finish(-1, EndReason.INFRASTRUCTURE, str(exc))
        except Exception as exc:
            log.exception("container_lost", execution=execution.execution_id)
            execution.finish(-1, EndReason.INFRASTRUCTURE, f"it cannot be observed: {type(exc).__name__}")

    async def _watch(self, execution: DockerExecution) -> None:
        refused: ExecutorError | None = None
        async with trio.open_nursery() as nursery:
            stopped, copied = trio.Event(), trio.Event()
            nursery.start_soon(self._copy_logs, execution, stopped, copied)
            if execution.disk_bytes:
                nursery.start_soon(self._watch_disk, execution)
            try:
                await self._until_stopped(execution)
            except ExecutorError as exc:
                refused = exc
            stopped.set()
            with trio.move_on_after(LOG_DRAIN_S):
                await copied.wait()
            nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused
        ending = await self._persist(execution, lambda: self._ending(execution))
        execution.finish(ending.exit_code, ending.reason, ending.text)

    async def _persist(self, execution: DockerExecution, attempt: Callable[[], Awaitable[Ending]]) -> Ending:
        """Try again while the engine does not answer, and a while when what it answers makes no sense."""
        tries = refusals = 0
        while True:
            try:
                return await attempt()
            except ExecutorUnavailable:
                execution.engine_was_gone = True
            except EngineRefused:
                refusals += 1
                if refusals >= MAX_REFUSALS:
                    raise
            await trio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1

    async def _until_stopped(self, execution: DockerExecution) -> None:
        """The engine says when; a container that it starts again by itself has not stopped."""
        path = f"/containers/{execution.container_id}/wait"

        async def wait() -> Ending:
            while True:
                try:
                    await self._api.call("POST", path, query={"condition": "not-running"}, timeout_s=None)
                    container = await self._api.container(execution.container_id)
                except EngineRefused as exc:
                    if exc.status != 404:
                        raise
                    container = None
                if not _goes_on(container):
                    return ending_of(container, Circumstances())
                await trio.sleep(RESTART_POLL_S)

        await self._persist(execution, wait)

    async def _copy_logs(self, execution: DockerExecution, stopped: trio.Event, copied: trio.Event) -> None:
        """Until everything that the container said is in the files, or cannot be had."""
        if execution.attached is not None:
            await execution.attached.wait()
            with trio.move_on_after(ATTACHED_END_S):
                await stopped.wait()
        else:  # one that has ended long ago is read once only
            with trio.move_on_after(ENDED_S):
                await stopped.wait()
        if execution.attached is None or execution.engine_was_gone or not stopped.is_set():
            async with trio.open_nursery() as nursery:
                for stream, log in execution.logs.items():
                    nursery.start_soon(self._copy_record, execution, stream, log, stopped)
        copied.set()

    async def _copy_record(self, execution: DockerExecution, stream: int, log: StreamLog, stopped: trio.Event) -> None:
        """Follow the engine's record of one output to its end, then read it once more: engines may leave out the last
        lines of a record that they follow."""
        while True:
            is_last = stopped.is_set()
            try:
                await self._read_record(execution, stream, log, log.resume(), follow=not is_last)
                if is_last:
                    return
            except BeginningLost:
                log.lose()
                continue
            except ExecutorUnavailable:
                execution.engine_was_gone = True
            except (EngineRefused, OSError):  # a full disk costs logs, not the execution
                return
            finally:
                log.close()
            with trio.move_on_after(RESTART_POLL_S):
                await stopped.wait()

    async def _read_record(
        self, execution: DockerExecution, stream: int, log: StreamLog, since_s: float | None, *, follow: bool
    ) -> None:
        query: dict[str, object] = {"follow": follow, "stdout": stream == 1, "stderr": stream == 2}
        if since_s is not None:
            query["since"] = f"{since_s:.9f}"
        path = f"/containers/{execution.container_id}/logs"
        async with aclosing(self._api.frames("GET", path, query=query)) as frames:
            async for _, data in frames:
                log.write(data)

    async def _watch_disk(self, execution: DockerExecution) -> None:
        """End a container that writes more than it may, where the storage driver cannot refuse the writing."""
        while True:
            await trio.sleep(self._disk_check_s)
            with suppress(ExecutorError):
                container = await self._api.container(execution.container_id, size=True) or {}
                written = int(container.get("SizeRw") or 0)
                for mount in container.get("Mounts") or ():
                    if mount.get("Type") == "volume" and mount.get("Source"):
                        written += await trio.to_thread.run_sync(disk_usage, mount["Source"])
                if written > execution.disk_bytes:
                    execution.is_over_disk = True
                    await self._api.call("POST", f"/containers/{execution.container_id}/kill")

    async def _ending(self, execution: DockerExecution) -> Ending:
        container = await self._api.container(execution.container_id)
        about = Circumstances(
            is_cancelled=self._is_cancelled(execution),
            engine_was_gone=execution.engine_was_gone,
            disk_limit_bytes=execution.disk_bytes if execution.is_over_disk else 0,
        )
        ending = ending_of(container, about)
        if container is None or ending.reason is not EndReason.EXITED:
            return ending
        if await self._was_signalled(execution, container.get("State") or {}):
            return ending_of(container, Circumstances(was_signalled=True))
        return ending

    async def _was_signalled(self, execution: DockerExecution, state: Json) -> bool:
        """Whether somebody sent a signal through the engine, which remembers its last events."""
        began, ended = seconds(state.get("StartedAt")), seconds(state.get("FinishedAt"))
        if not began or not ended:
            return False
        filters = {"container": [execution.container_id], "event": ["kill"]}
        # not later than the end: the engine would wait for events until then
        query = {"since": f"{began:.6f}", "until": f"{max(ended, began):.6f}", "filters": filters}
        with suppress(ExecutorError):
            return bool(await self._api.events(query, timeout_s=5))
        return False


def disk_usage(directory: str) -> int:
    """Bytes that a directory takes on the disk; 0 where it cannot be seen from here. It may change meanwhile."""
    found, waiting = 0, [directory]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    found += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return found


def _goes_on(container: Json | None) -> bool:
    state = (container or {}).get("State") or {}
    return bool(state.get("Restarting") or state.get("Running"))
