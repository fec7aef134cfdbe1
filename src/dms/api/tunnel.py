"""Bytes both ways between a local program and a port of what its user deployed: a WebSocket (RFC 6455).

``GET /api/v1/tunnel/{port}`` with ``Authorization: Bearer <ticket>``, which the behaviour ``/dms/node/deployment/forward`` gave
(:mod:`dms.node.forwarding`). The first message is text, ``{"ok": true}`` or an error as everywhere; then binary messages are
bytes, and the text ``end`` says that no more come from that side. Web pages are refused: a browser tells where they are from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from dms.api.openapi import ErrorBody
from dms.network.errors import StreamEnded
from dms.subnet.pipes import Pipe, join
from dms.types import gojson
from dms.types.errors import DMSError

END = "end"
BEARER = "bearer "
Open = Callable[[str, int], Awaitable[Pipe]]
"""A connection for the secret of a ticket and a port.

:raises DMSError: there is none.
"""


class SocketPipe:
    """A WebSocket as a pipe."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._unread = b""
        self._has_ended = False

    async def read(self, max_bytes: int) -> bytes:
        """See :class:`~dms.subnet.pipes.Pipe`."""
        while not self._unread and not self._has_ended:
            try:
                message = await self._socket.receive()
            except RuntimeError as error:
                raise StreamEnded("the client is gone") from error
            if message["type"] != "websocket.receive":
                raise StreamEnded("the client is gone")
            self._has_ended = message.get("text") == END
            self._unread = message.get("bytes") or b""
        data, self._unread = self._unread[:max_bytes], self._unread[max_bytes:]
        return data

    async def write(self, data: bytes) -> None:
        """See :class:`~dms.subnet.pipes.Pipe`."""
        await self._send(self._socket.send_bytes(data))

    async def close(self) -> None:
        """See :class:`~dms.subnet.pipes.Pipe`."""
        await self._send(self._socket.send_text(END))

    async def reset(self) -> None:
        """See :class:`~dms.subnet.pipes.Pipe`."""
        if self._socket.application_state is WebSocketState.CONNECTED:
            try:
                await self._socket.close()
            except (RuntimeError, WebSocketDisconnect):
                return

    async def _send(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except (RuntimeError, WebSocketDisconnect) as error:
            raise StreamEnded("the client is gone") from error


async def serve_tunnel(socket: WebSocket, open_: Open) -> None:
    """One of them, from its beginning to its end."""
    said = socket.headers.get("authorization", "")
    if socket.headers.get("origin") or not said.lower().startswith(BEARER):
        await socket.close()
        return
    port = int(socket.path_params["port"])
    try:
        pipe = await open_(said[len(BEARER) :].strip(), port)
    except DMSError as exc:
        await socket.accept()
        await socket.send_text(
            gojson.encode(ErrorBody(error=exc.message, code=exc.code, hint=exc.hint)).decode("utf-8")
        )
        await socket.close()
        return
    try:
        await socket.accept()
        await socket.send_text('{"ok":true}')
    except BaseException:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await pipe.reset()
        raise
    await join(SocketPipe(socket), pipe)
