"""An engine that only plays one: it answers as Docker does, except where a test has it answer something else."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

CONTAINER_ID = "c0ffee" * 10
EXEC_ID = "e4ec" * 16
ENDPOINTS = {
    "version": r"GET /version",
    "info": r"GET /info",
    "list": r"GET /containers/json",
    "image": r"GET /images/.+/json",
    "pull": r"POST /images/create",
    "create": r"POST /containers/create",
    "attach": r"POST /containers/[^/]+/attach",
    "start": r"POST /containers/[^/]+/start",
    "wait": r"POST /containers/[^/]+/wait",
    "inspect": r"GET /containers/[^/]+/json",
    "logs": r"GET /containers/[^/]+/logs",
    "stats": r"GET /containers/[^/]+/stats",
    "exec": r"POST /containers/[^/]+/exec",
    "exec-start": r"POST /exec/[^/]+/start",
    "exec-end": r"GET /exec/[^/]+/json",
    "stop": r"POST /containers/[^/]+/stop",
    "pause": r"POST /containers/[^/]+/pause",
    "unpause": r"POST /containers/[^/]+/unpause",
    "remove": r"DELETE /containers/[^/]+",
    "events": r"GET /events",
}
"""By name: what the first line of a request looks like, without the version."""


@dataclass
class PlayedEngine:
    """``instead`` holds whole answers (status, body) by the name of an endpoint; ``None`` as an answer: never one."""

    socket: Path
    instead: dict[str, tuple[int, bytes] | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ended: trio.Event = field(default_factory=trio.Event)

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            await self._serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        received, missing = b"", 1
        while missing > 0:
            chunk = await stream.receive_some()
            if not chunk:
                return
            received += chunk
            head, end, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            missing = int(length[1] if length else 0) - len(body) if end else 1
        method, target, _ = received.split(b" ", 2)
        line = f"{method.decode()} {re.sub(r'^/v[0-9.]+', '', target.decode()).partition('?')[0]}"
        name = next((name for name, shape in ENDPOINTS.items() if re.fullmatch(shape, line)), "")
        self.asked.append(name or line)
        answer = self.instead[name] if name in self.instead else self._usual(name)
        if answer is None:
            await trio.sleep_forever()
        status, body = answer
        await stream.send_all(f"HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n".encode())
        if name in ("attach", "wait") and name not in self.instead:
            await self.ended.wait()
        await stream.send_all(body)

    def _usual(self, name: str) -> tuple[int, bytes]:
        state: dict[str, object] = {"Running": not self.ended.is_set(), "ExitCode": 0}
        documents: dict[str, object] = {
            "version": {"ApiVersion": "1.44", "MinAPIVersion": "1.24"},
            "info": {"MemoryLimit": True},
            "list": [],
            "image": {"RepoTags": ["app:1"], "Config": {"Cmd": ["run"]}},
            "create": {"Id": CONTAINER_ID, "Warnings": None},
            "inspect": {"Id": CONTAINER_ID, "State": state},
            "stats": {},
            "exec": {"Id": EXEC_ID},
            "exec-end": {"ExitCode": 0},
        }
        if name in documents:
            return 200, json.dumps(documents[name]).encode()
        if name == "wait":
            return 200, b'{"StatusCode":0}'
        if name in ("stop", "remove"):
            self.ended.set()
        if name in ("attach", "exec-start"):
            return 200, struct.pack(">BxxxL", 1, 3) + b"hi\n"
        return (200, b"") if name in ("pull", "logs", "events") else (204, b"")


@asynccontextmanager
async def played_engine(directory: Path) -> AsyncIterator[PlayedEngine]:
    """One that listens."""
    engine = PlayedEngine(directory / "engine.sock")
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(engine.socket))
    listening.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, engine.serve, [trio.SocketListener(listening)])
        yield engine
        nursery.cancel_scope.cancel()
