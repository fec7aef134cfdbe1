"""Commands inside a sandbox that somebody talks with: input, output as it comes, a terminal where the backend has one.

A backend that can only run a command to its end (:meth:`dms.executor.protocol.Executor.exec`) gets a session out of
:class:`WholeCommand`: no input, no terminal, the output at the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dms.executor.errors import Unsupported

if TYPE_CHECKING:
    from dms.executor.protocol import ExecOutput

MAX_WORDS, MAX_COMMAND_BYTES = 1024, 128 * 1024
MAX_SIDE = 4096
"""Rows and columns of a terminal."""


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """What to run. With a ``tty`` both outputs are one, and what is written to it may be edited and echoed."""

    execution_id: str
    argv: tuple[str, ...]
    has_input: bool = False
    tty: bool = False
    rows: int = 24
    columns: int = 80


class ExecSession(Protocol):
    """A command that runs. One task may receive while another sends."""

    async def receive(self) -> tuple[str, bytes] | None:
        """What it says next: ``stdout`` or ``stderr``, and the bytes; ``None``: it has ended.

        :raises DMSError: the backend is in trouble.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Give it input; returns when the backend took it. What it does not want any more is dropped."""
        ...

    async def end_input(self) -> None:
        """There is no more; where the backend cannot say so, the terminal's end-of-file character is sent."""
        ...

    async def resize(self, rows: int, columns: int) -> None:
        """The terminal has another size now; without one nothing happens."""
        ...

    async def exit_code(self) -> int:
        """How it ended; after the last :meth:`receive`."""
        ...

    async def aclose(self) -> None:
        """End it, as far as the backend can, and let go of it."""
        ...


class WholeCommand:
    """A session with a command that is run to its end and says everything then."""

    def __init__(self, run: Callable[[], Awaitable[ExecOutput]]) -> None:
        self._run = run
        self._left: list[tuple[str, bytes]] | None = None
        self._code = -1

    @classmethod
    def of(cls, kind: str, request: ExecRequest, run: Callable[[], Awaitable[ExecOutput]]) -> WholeCommand:
        """For a backend of that kind.

        :raises Unsupported: it would need more.
        """
        if request.tty or request.has_input:
            what = "no terminal" if request.tty else "no input"
            raise Unsupported(f"commands inside a {kind} workload get {what}", hint="leave -i and -t out")
        return cls(run)

    async def receive(self) -> tuple[str, bytes] | None:
        """See :meth:`ExecSession.receive`."""
        if self._left is None:
            done = await self._run()
            self._code = done.exit_code
            told = (("stdout", done.stdout), ("stderr", done.stderr))
            self._left = [(stream, data) for stream, data in told if data]
        return self._left.pop(0) if self._left else None

    async def send(self, data: bytes) -> None:
        """See :meth:`ExecSession.send`: nobody reads it."""

    async def end_input(self) -> None:
        """See :meth:`ExecSession.end_input`: it never had any."""

    async def resize(self, rows: int, columns: int) -> None:
        """See :meth:`ExecSession.resize`: there is none."""

    async def exit_code(self) -> int:
        """See :meth:`ExecSession.exit_code`."""
        return self._code

    async def aclose(self) -> None:
        """See :meth:`ExecSession.aclose`: whoever waited for it has gone."""
