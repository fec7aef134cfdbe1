"""Nodes in processes of their own, from asynchronous tests."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio

PROGRAM = str(Path(__file__).with_name("node_program.py"))
WAIT_S = 30.0
"""A net: what takes this long has been lost."""


class Child:
    """A running ``node_program``."""

    def __init__(self, process: trio.Process, seed: int) -> None:
        self._process = process
        self._seed = seed
        self._pending = b""
        self.peer = ""
        self.addresses: list[str] = []

    async def expect(self, **wanted: object) -> dict[str, Any]:
        """Read events until one has these values."""
        with trio.fail_after(WAIT_S):
            while True:
                event: dict[str, Any] = json.loads(await self._line())
                if all(event.get(key) == value for key, value in wanted.items()):
                    return event

    async def tell(self, *words: object) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(" ".join(map(str, words)).encode() + b"\n")

    async def status(self) -> dict[str, Any]:
        """Peers with their protocols, and counters."""
        await self.tell("status")
        return await self.expect(event="status")

    def signal(self, number: signal.Signals) -> None:
        """Freeze it, let it go on, or kill it."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        return await self._process.wait()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._pending:
            piece = await self._process.stdout.receive_some()
            assert piece, "the program ended"
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line


@asynccontextmanager
async def child(seed: int, listen: str = "/ip4/127.0.0.1/tcp/0", *bootstrap: str) -> AsyncIterator[Child]:
    """A node that runs; it is killed with the context, frozen or not."""
    process = await trio.lowlevel.open_process(
        [sys.executable, PROGRAM, str(seed), listen, *bootstrap], stdin=PIPE, stdout=PIPE
    )
    try:
        made = Child(process, seed)
        ready = await made.expect(event="ready")
        made.peer, made.addresses = ready["peer"], ready["addresses"]
        yield made
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
