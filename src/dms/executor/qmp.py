"""QEMU's monitor protocol: one command per connection, on a Unix socket."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from dms.executor.errors import EngineRefused, ExecutorUnavailable

TIMEOUT_S = 5.0
MAX_LINE_BYTES = 1 << 20

Json = dict[str, Any]  # of unknown shape


@asynccontextmanager
async def short_path(socket: Path) -> AsyncIterator[str]:
    """A name of a socket that is short enough for the system, wherever the socket lies."""
    fd = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{socket.name}"
    finally:
        os.close(fd)


async def command(socket: Path, name: str, **arguments: object) -> Json:
    """Have QEMU do something; returns what it answers.

    :raises ExecutorUnavailable: it does not answer.
    :raises EngineRefused: it says no.
    """
    try:
        with trio.fail_after(TIMEOUT_S):
            async with short_path(socket) as path, await trio.open_unix_socket(path) as stream:
                lines = Lines(stream)
                await lines.next()  # the greeting
                await lines.send({"execute": "qmp_capabilities"})
                await _reply(lines)
                await lines.send({"execute": name, "arguments": arguments})
                return await _reply(lines)
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, ValueError) as exc:
        raise ExecutorUnavailable(f"QEMU does not answer: {str(exc) or type(exc).__name__}") from exc


class Lines:
    """JSON objects, one a line."""

    def __init__(self, stream: trio.SocketStream, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._stream, self._buffer, self._max_line_bytes = stream, b"", max_line_bytes

    async def next(self) -> Json:
        """The next object.

        :raises ValueError: there comes none, or something else.
        """
        while b"\n" not in self._buffer:
            chunk = await self._stream.receive_some(1 << 16)
            if not chunk or len(self._buffer) > self._max_line_bytes:
                raise ValueError("the connection was closed" if not chunk else "the answer is too long")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError("the answer is not an object")  # noqa: TRY004  it is data, not an argument
        return value

    async def send(self, value: Json) -> None:
        """Send one."""
        await self._stream.send_all(json.dumps(value).encode() + b"\n")


async def _reply(lines: Lines) -> Json:
    while True:
        message = await lines.next()
        if "error" in message:
            raise EngineRefused(f"QEMU refused: {(message['error'] or {}).get('desc', '')}"[:500])
        if "return" in message:
            value = message["return"]
            return value if isinstance(value, dict) else {}
