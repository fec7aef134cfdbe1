"""Connections to the ports of an allocation, through the REST server of our node (:mod:`dms.api.tunnel`).

Whoever signs asks for a ticket and opens WebSockets with it; a new one is asked for while the old one is still good.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import msgspec
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from dms.cli.client import Client, refused
from dms.cli.errors import BadReply, DaemonNotRunning
from dms.network.errors import StreamEnded
from dms.node.forward_payloads import ForwardReply, ForwardRequest

BEHAVIOUR = "/dms/node/deployment/forward"
TARGET = "/api/v1/tunnel"
END = "end"
PIECE_BYTES = 64 * 1024
CONNECT_S = 10.0
ANSWER_S = 60.0


class Tunnels:
    """To some ports of one allocation."""

    def __init__(
        self, client: Client, identifier: str, allocation: str, ports: tuple[int, ...], ticket: str = ""
    ) -> None:
        """``ticket``: one that was given to who started us, for the first of its time."""
        self._client = client
        self._request = ForwardRequest(id=identifier, allocation=allocation, ports=ports)
        self._ticket, self._ends_s = ticket, math.inf if ticket else 0.0
        self._lock = trio.Lock()

    def ask(self) -> ForwardReply:
        """A new ticket; blocks.

        :raises Refused: there is none for us.
        """
        request = msgspec.structs.replace(self._request, renews=self._ticket)
        reply = self._client.call(BEHAVIOUR, request, ForwardReply)
        if not reply.ok:
            raise refused(reply.error, reply.hint)
        self._ticket = reply.ticket
        return reply

    async def open(self, port: int) -> TunnelPipe:
        """A connection.

        :raises DMSError: there is none, and why.
        """
        async with self._lock:
            if trio.current_time() >= self._ends_s:
                reply = await trio.to_thread.run_sync(self.ask, abandon_on_cancel=True)
                self._ends_s = trio.current_time() + reply.lifetime_s / 2
        rest = self._client.rest
        try:
            with trio.fail_after(CONNECT_S):
                stream = await trio.open_tcp_stream(rest.addr, rest.port)
        except (OSError, trio.TooSlowError):
            raise DaemonNotRunning(f"no node answers at {rest.addr}:{rest.port}") from None
        pipe = TunnelPipe(stream)
        try:
            with trio.fail_after(ANSWER_S):
                await pipe.begin(f"{rest.addr}:{rest.port}", port, self._ticket)
        except trio.TooSlowError:
            await pipe.reset()
            raise BadReply("the node does not say whether the connection is there") from None
        except BaseException:
            await pipe.reset()
            raise
        return pipe


class TunnelPipe:
    """A WebSocket to the node as a pipe (:class:`dms.subnet.pipes.Pipe`)."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream, self._ws = stream, WSConnection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()
        self._unread = bytearray()
        self._has_ended = False
        self._sending = trio.Lock()

    async def begin(self, host: str, port: int, ticket: str) -> None:
        """Shake hands, and hear whether the connection is there.

        :raises DMSError: it is not, and why.
        """
        headers = [(b"authorization", f"Bearer {ticket}".encode())]
        await self._send(Request(host=host, target=f"{TARGET}/{port}", extra_headers=headers))
        text = ""
        while True:
            event = await self._next()
            if isinstance(event, RejectConnection):
                raise BadReply(f"the node refuses the connection: status {event.status_code}")
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    break
            elif not isinstance(event, AcceptConnection):
                raise BadReply("the node does not say whether the connection is there")
        told = _object(text)
        if not told.get("ok"):
            raise refused(str(told.get("error") or "the node does not say why"), str(told.get("hint") or ""))

    async def read(self, max_bytes: int) -> bytes:
        """See :class:`dms.subnet.pipes.Pipe`."""
        while not self._unread and not self._has_ended:
            event = await self._next()
            if isinstance(event, BytesMessage):
                self._unread += event.data
            elif isinstance(event, TextMessage):
                self._has_ended = event.data == END
            elif isinstance(event, CloseConnection):
                raise StreamEnded("the connection was ended")
        data = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        return data

    async def write(self, data: bytes) -> None:
        """See :class:`dms.subnet.pipes.Pipe`."""
        for start in range(0, len(data), PIECE_BYTES):
            await self._send(Message(data=data[start : start + PIECE_BYTES]))

    async def close(self) -> None:
        """See :class:`dms.subnet.pipes.Pipe`."""
        await self._send(Message(data=END))

    async def reset(self) -> None:
        """See :class:`dms.subnet.pipes.Pipe`."""
        await trio.aclose_forcefully(self._stream)

    async def _next(self) -> Event:
        while not self._events:
            try:
                data = bytes(await self._stream.receive_some(PIECE_BYTES))
                self._ws.receive_data(data or None)
                self._events += self._ws.events()
            except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise StreamEnded("the node ended the connection") from error
            if not data and not self._events:
                raise StreamEnded("the node ended the connection")
        event = self._events.popleft()
        if isinstance(event, Ping):
            await self._send(event.response())
            return await self._next()
        return event

    async def _send(self, event: Event) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(self._ws.send(event))
            except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise StreamEnded("the node ended the connection") from error


def _object(text: str) -> dict[str, Any]:  # JSON of unknown shape
    try:
        told = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return told if isinstance(told, dict) else {}
