"""A node of js-libp2p in a process of its own (``peer.mjs``), which outlives the trio runs of single tests."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
PATIENCE_S = 20.0
"""A net, wider than the one in ``peer.mjs``."""
READ_BYTES = 1 << 16

Line = Mapping[str, Any]  # JSON of a node that we started


class JavaScriptFailed(Exception):
    """The node says that it could not do what it was told."""


class JavaScriptNode:
    """The process. Reading its output is for one test at a time: see :meth:`attached`."""

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            ["node", "peer.mjs", *arguments], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        ready = json.loads(self._stdout.readline())
        self.peer: str = ready["peer"]
        self.address: str = ready["addresses"][0]
        self._next_id = 1

    @asynccontextmanager
    async def attached(self) -> AsyncIterator[Remote]:
        """Talk to it within this trio run."""
        async with (
            trio.lowlevel.FdStream(os.dup(self._stdin.fileno())) as commands,
            trio.lowlevel.FdStream(os.dup(self._stdout.fileno())) as answers,
            trio.open_nursery() as nursery,
        ):
            remote = Remote(self, commands)
            nursery.start_soon(remote.listen, answers)
            yield remote
            nursery.cancel_scope.cancel()

    def take_number(self) -> int:
        """A number that no command had before."""
        self._next_id += 1
        return self._next_id

    def close(self) -> None:
        """End it; it ends with its standard input."""
        self._stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()


class Remote:
    """The node as a test sees it."""

    def __init__(self, node: JavaScriptNode, commands: trio.abc.SendStream) -> None:
        self.peer = node.peer
        self.address = node.address
        self._node = node
        self._commands = commands
        self._lines: list[Line] = []
        self._news = trio.Event()

    async def do(self, what: str, **arguments: object) -> Line:
        """Have it do something; its answer.

        :raises JavaScriptFailed: it could not.
        """
        number = self._node.take_number()
        await self._commands.send_all(json.dumps({"id": number, "do": what, **arguments}).encode() + b"\n")
        answer = await self._wait({"id": number})
        if "error" in answer:
            raise JavaScriptFailed(answer["error"])
        return answer

    async def event(self, name: str, **wanted: object) -> Line:
        """Wait for something that happens there, or has happened since the test began."""
        return await self._wait({"event": name, **wanted})

    def has_seen(self, name: str, **wanted: object) -> bool:
        """Whether it has happened since the test began."""
        return self._find({"event": name, **wanted}) is not None

    async def listen(self, answers: trio.abc.ReceiveStream) -> None:
        """Take in what it says, until cancelled."""
        pending = b""
        while data := await answers.receive_some(READ_BYTES):
            *lines, pending = (pending + data).split(b"\n")
            self._lines += map(json.loads, lines)
            self._news.set()
            self._news = trio.Event()

    async def _wait(self, wanted: Line) -> Line:
        with trio.move_on_after(PATIENCE_S):
            while (found := self._find(wanted)) is None:
                await self._news.wait()
            return found
        raise JavaScriptFailed(f"nothing like {wanted}; it said last: {self._lines[-5:]}")

    def _find(self, wanted: Line) -> Line | None:
        return next((line for line in self._lines if wanted.items() <= line.items()), None)
