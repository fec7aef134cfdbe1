"""Commands that run inside scripted workloads: a few words that behave as their namesakes do, without a process.

``cat`` says what it is told, ``echo WORDS`` says them, ``warn WORDS`` on its standard error, ``exit N`` ends with that
code, ``size`` tells the rows and columns of its terminal, ``yes`` never stops, ``sleep`` never ends and says nothing.
"""

from __future__ import annotations

import trio

from dms.executor.errors import StartFailed
from dms.executor.sessions import ExecRequest

YES = b"y\n" * 4096


class ScriptedCommand:
    """See :class:`dms.executor.sessions.ExecSession`."""

    def __init__(self, request: ExecRequest) -> None:
        self.request = request
        self.is_closed = False
        self._heard_send, self._heard = trio.open_memory_channel[bytes](0)
        self._told = self._first_words()
        self._code = int(request.argv[1]) if request.argv[0] == "exit" else 0
        self.said_bytes = 0

    def _first_words(self) -> list[tuple[str, bytes]]:
        name, *words = self.request.argv
        if name in ("echo", "warn"):
            return [("stderr" if name == "warn" else "stdout", " ".join(words).encode() + b"\n")]
        if name not in ("cat", "exit", "size", "yes", "sleep"):
            raise StartFailed(f"{name}: not found")
        return []

    async def receive(self) -> tuple[str, bytes] | None:
        """What it says next."""
        await trio.lowlevel.checkpoint()
        if self._told:
            return self._say(*self._told.pop(0))
        match self.request.argv[0]:
            case "cat" if self.request.has_input:
                async for data in self._heard:
                    return self._say("stdout", data)
            case "yes":
                return self._say("stdout", YES)
            case "sleep":
                await trio.sleep_forever()
            case "size":
                async for _ in self._heard:
                    return self._say("stdout", f"{self.request.rows}x{self.request.columns}\n".encode())
        return None

    def _say(self, stream: str, data: bytes) -> tuple[str, bytes]:
        self.said_bytes += len(data)
        return stream, data

    async def send(self, data: bytes) -> None:
        """Input."""
        await self._heard_send.send(data)

    async def end_input(self) -> None:
        """No more of it."""
        await self._heard_send.aclose()

    async def resize(self, rows: int, columns: int) -> None:
        """Another size."""
        if self.request.tty:
            self.request = ExecRequest(
                self.request.execution_id,
                self.request.argv,
                has_input=self.request.has_input,
                tty=True,
                rows=rows,
                columns=columns,
            )

    async def exit_code(self) -> int:
        """How it ended."""
        return self._code

    async def aclose(self) -> None:
        """End it."""
        self.is_closed = True
