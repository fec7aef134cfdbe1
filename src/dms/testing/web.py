"""A small HTTP server on the loopback address for tests: real sockets, answers from a function, faults on demand."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import h11
import trio

READ_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Asked:
    """A request; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The first value of each parameter."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; ``cut_after``: the connection ends after so many bytes of the body; ``hold``: it stops there."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    hold: bool = False


Handler = Callable[[Asked], Awaitable[Answer]]


class WebServer:
    """A server that runs; :attr:`asked` remembers every request."""

    def __init__(self, handler: Handler, port: int, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.port = port
        self.asked: list[Asked] = []
        self.handler = handler

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection."""
        connection = h11.Connection(h11.SERVER)
        try:
            while True:
                asked = await _next_request(connection, stream)
                if asked is None:
                    return
                self.asked.append(asked)
                if not await _send(connection, stream, asked, await self.handler(asked)):
                    return
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError, OSError):
            return
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await trio.aclose_forcefully(stream)


@asynccontextmanager
async def web_server(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[WebServer]:
    """A server on a free port of the loopback address, while the block runs."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    server = WebServer(handler, port, "https" if tls else "http")

    async def accept(stream: trio.SocketStream) -> None:
        await server.serve(trio.SSLStream(stream, tls, server_side=True, https_compatible=True) if tls else stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, accept, listeners)
        yield server
        nursery.cancel_scope.cancel()


def ranged(asked: Asked, content: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """``content``, or the part of it that was asked for; ``If-Range`` is honoured."""
    sent = dict(headers or {})
    wanted = asked.headers.get("range", "")
    condition = asked.headers.get("if-range")
    if not wanted.startswith("bytes=") or (condition is not None and condition not in sent.values()):
        return Answer(200, content, sent)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start, end = int(first), int(last) + 1 if last else len(content)
    if start >= len(content):
        return Answer(416, b"", sent | {"content-range": f"bytes */{len(content)}"})
    part = content[start:end]
    return Answer(206, part, sent | {"content-range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"})


async def _next_request(connection: h11.Connection, stream: trio.abc.Stream) -> Asked | None:
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            headers = {bytes(name).decode().lower(): bytes(value).decode() for name, value in request.headers}
            return Asked(request.method.decode(), request.target.decode(), headers, bytes(body))
        else:
            return None


async def _send(connection: h11.Connection, stream: trio.abc.Stream, asked: Asked, answer: Answer) -> bool:
    """Whether the connection may go on."""
    headers = {"content-length": str(len(answer.body))} | dict(answer.headers)
    pairs = [(name, value) for name, value in headers.items() if value]
    head = connection.send(h11.Response(status_code=answer.status, headers=pairs))
    await stream.send_all(head or b"")
    if asked.method != "HEAD" and answer.body:
        sent = answer.body if answer.cut_after is None else answer.body[: answer.cut_after]
        await stream.send_all(connection.send(h11.Data(data=sent)) or b"")
        if answer.hold:
            await trio.sleep_forever()
        if answer.cut_after is not None:
            return False
    await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE
