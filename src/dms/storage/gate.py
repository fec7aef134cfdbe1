"""A door for libraries that open their own connections: an HTTP proxy on the loopback address that lets through what
:class:`~dms.storage.egress.Egress` permits, and nothing else.

Only ``CONNECT`` is understood, so a redirect to plain HTTP ends here, too; who asks must know a password that changes
each time.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from dms.observe import get_logger
from dms.storage.egress import CONNECT_TIMEOUT_S, Egress, Resolve, permitted, resolve
from dms.storage.errors import AddressRefused

MAX_HEAD_BYTES = 16 << 10
READ_BYTES = 64 << 10
HEAD_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 64

log = get_logger(__name__)


class Gate:
    """An open door: ``url`` is what to use as proxy; ``refused`` holds the hosts that were asked for in vain."""

    def __init__(self, egress: Egress, lookup: Resolve, port: int) -> None:
        self._egress = egress
        self._lookup = lookup
        self._password = secrets.token_urlsafe(24)
        self._room = trio.CapacityLimiter(MAX_CONNECTIONS)
        self._expected = b"Basic " + base64.b64encode(f"nunet:{self._password}".encode())
        self.url = f"http://nunet:{self._password}@127.0.0.1:{port}"
        self.refused: list[str] = []

    async def serve(self, client: trio.SocketStream) -> None:
        """One connection; it never raises."""
        try:
            async with client, self._room:
                await self._serve(client)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
            log.debug("gate_connection_failed", error=str(exc))

    async def _serve(self, client: trio.SocketStream) -> None:
        upstream: trio.SocketStream | None = None
        with trio.move_on_after(HEAD_TIMEOUT_S + CONNECT_TIMEOUT_S):
            target = self._target(await _read_head(client))
            if isinstance(target, int):
                await client.send_all(_answer(target))
                return
            upstream = await self._connect(*target)
            await client.send_all(_answer(200 if upstream is not None else 403))
        if upstream is None:
            return
        async with upstream, trio.open_nursery() as nursery:
            nursery.start_soon(_copy, client, upstream)
            await _copy(upstream, client)
            nursery.cancel_scope.cancel()  # whoever serves has ended it

    async def _connect(self, host: str, port: int) -> trio.SocketStream | None:
        try:
            addresses = await permitted(self._egress, host, port, self._lookup)
        except (AddressRefused, OSError):
            self.refused.append(host[:255])
            return None
        for address in addresses:
            try:
                return await trio.open_tcp_stream(address, port)
            except OSError:
                continue
        return None

    def _target(self, head: bytes) -> tuple[str, int] | int:
        """Host and port that are asked for, or the status of a refusal."""
        lines = head.split(b"\r\n")
        words = lines[0].split(b" ")
        fields = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
        given = next((v.strip() for k, v in fields.items() if k.lower() == b"proxy-authorization"), b"")
        if not hmac.compare_digest(given, self._expected):
            return 407
        if len(words) != 3 or words[0] != b"CONNECT":
            return 405
        host, _, port = words[1].decode("ascii", "replace").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            return 400
        return host.strip("[]"), int(port)


@asynccontextmanager
async def open_gate(egress: Egress, lookup: Resolve = resolve) -> AsyncIterator[Gate]:
    """Open it on a free port for as long as the block runs."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    gate = Gate(egress, lookup, listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, gate.serve, listeners)
        try:
            yield gate
        finally:
            nursery.cancel_scope.cancel()


def _answer(status: int) -> bytes:
    if status == 200:
        return b"HTTP/1.1 200 Connected\r\n\r\n"
    return b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status


async def _read_head(client: trio.SocketStream) -> bytes:
    head = bytearray()
    while b"\r\n\r\n" not in head:
        if len(head) > MAX_HEAD_BYTES:
            raise trio.BrokenResourceError("the head of the request is too long")
        data = await client.receive_some(READ_BYTES)
        if not data:
            raise trio.BrokenResourceError("closed before it asked")
        head += data
    return bytes(head.partition(b"\r\n\r\n")[0])


async def _copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
    try:
        while data := await source.receive_some(READ_BYTES):
            await target.send_all(data)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
