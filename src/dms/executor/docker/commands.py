"""Commands inside containers that somebody talks with: one connection to the engine, taken over after the request.

The engine ends no command whose connection is gone, so the end of a session kills its process where this machine lets
us: the number that the engine tells is believed only if the kernel says that it belongs to the container.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpcore2  # what httpx2 hands over speaks its errors
import trio

from dms.executor.docker.api import DockerApi
from dms.executor.docker.shapes import CREATED, EXEC
from dms.executor.docker.streams import FrameDecoder
from dms.executor.errors import EngineRefused, ExecutorError, ExecutorUnavailable
from dms.executor.sessions import ExecRequest

PIECE_BYTES = 32 * 1024
END_POLL_S, END_WAIT_S = 0.02, 2.0
"""How often and how long the engine is asked how a command ended whose output has ended."""
STREAMS = {1: "stdout", 2: "stderr"}


class DockerCommand:
    """See :class:`dms.executor.sessions.ExecSession`."""

    def __init__(self, api: DockerApi, container_id: str, request: ExecRequest) -> None:
        self._api, self._container_id, self._request = api, container_id, request
        self._exec_id = ""
        self._stack = AsyncExitStack()
        self._stream: Any = None  # httpx2 gives no type to a connection that was taken over
        self._decoder = FrameDecoder()
        self._told: list[tuple[str, bytes]] = []

    async def open(self) -> DockerCommand:
        """Begin.

        :raises ExecutorError: the engine refuses.
        """
        request = self._request
        size = {"ConsoleSize": [request.rows, request.columns]} if request.tty else {}
        body = {
            "AttachStdin": request.has_input,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": request.tty,
            "Cmd": list(request.argv),
            **({"Env": ["TERM=xterm"]} if request.tty else {}),
        }
        created = await self._api.call("POST", f"/containers/{self._container_id}/exec", body=body, shape=CREATED)
        self._exec_id = created["Id"]
        try:
            response = await self._stack.enter_async_context(
                self._api.stream(
                    "POST",
                    f"/exec/{self._exec_id}/start",
                    body={"Detach": False, "Tty": request.tty} | size,
                    headers={"Connection": "Upgrade", "Upgrade": "tcp"},
                )
            )
            self._stream = response.extensions.get("network_stream")
            if response.status_code != 101 or self._stream is None:
                raise ExecutorUnavailable("the Docker engine does not hand its connection over")
            await self.resize(request.rows, request.columns)
        except BaseException:
            await self._close()
            raise
        return self

    async def receive(self) -> tuple[str, bytes] | None:
        """See :meth:`~dms.executor.sessions.ExecSession.receive`."""
        while not self._told:
            try:
                data = await self._stream.read(PIECE_BYTES)
            except (httpcore2.NetworkError, OSError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            if self._request.tty:
                return "stdout", data
            self._told += [(STREAMS[number], piece) for number, piece in self._decoder.feed(data)]
        return self._told.pop(0)

    async def send(self, data: bytes) -> None:
        """See :meth:`~dms.executor.sessions.ExecSession.send`."""
        with suppress(httpcore2.NetworkError, OSError, trio.ClosedResourceError):
            await self._stream.write(data)

    async def end_input(self) -> None:
        """See :meth:`~dms.executor.sessions.ExecSession.end_input`."""
        if self._request.tty:
            await self.send(b"\x04")
            return
        with suppress(OSError):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_WR)

    async def resize(self, rows: int, columns: int) -> None:
        """See :meth:`~dms.executor.sessions.ExecSession.resize`. An engine that will not is not insisted on."""
        if self._request.tty:
            with suppress(EngineRefused):
                path = f"/exec/{self._exec_id}/resize"
                await self._api.call("POST", path, query={"h": str(rows), "w": str(columns)})

    async def exit_code(self) -> int:
        """See :meth:`~dms.executor.sessions.ExecSession.exit_code`. -1: the engine does not know."""
        with trio.move_on_after(END_WAIT_S):
            while True:  # the output may end a moment before the command
                ended = await self._inspect()
                if ended.get("ExitCode") is not None and not ended.get("Running"):
                    return int(ended["ExitCode"])
                await trio.sleep(END_POLL_S)
        return -1

    async def aclose(self) -> None:
        """See :meth:`~dms.executor.sessions.ExecSession.aclose`."""
        with trio.CancelScope(shield=True):
            try:
                with trio.move_on_after(END_WAIT_S), suppress(ExecutorError):
                    ended = await self._inspect()
                    if ended.get("Running"):
                        await trio.to_thread.run_sync(_kill, ended.get("Pid"), self._container_id)
            finally:
                await self._close()

    async def _inspect(self) -> dict[str, Any]:  # JSON of the engine
        answer: dict[str, Any] = await self._api.call("GET", f"/exec/{self._exec_id}/json", shape=EXEC)
        return answer

    async def _close(self) -> None:
        with trio.move_on_after(END_WAIT_S, shield=True):
            with suppress(Exception):  # a connection that was taken over is closed as it is
                if self._stream is not None:
                    await self._stream.aclose()
            with suppress(ExecutorError):
                await self._stack.aclose()


def _kill(pid: object, container_id: str) -> None:
    """End a process of a container, if it is one, and wait for it; that it goes on harms only the container's owner."""
    if not isinstance(pid, int) or pid <= 1:
        return
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if container_id and container_id in Path(f"/proc/{pid}/cgroup").read_text():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                gone = select.poll()
                gone.register(handle, select.POLLIN)
                gone.poll(END_WAIT_S * 1000)
        finally:
            os.close(handle)
