"""What a proxy is asked for: SOCKS 5 (RFC 1928) with a user and a password (RFC 1929), or HTTP, on one port.

Which one it is the first byte tells. Everybody has to say who he is. Names are taken as they are: whoever asks leaves their
meaning to the proxy. Everything is bounded, and an answer is given before the connection is ended wherever one can be understood.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from dms.subnet.errors import BadPacket
from dms.subnet.pipes import Pipe

VERSION = 5
MAX_HEAD_BYTES = 16 * 1024
WITH_PASSWORD, NOTHING_FITS = 2, 0xFF
CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
OK, FAILED, UNREACHABLE, UNKNOWN_COMMAND, UNKNOWN_ADDRESS = 0, 1, 4, 7, 8
_HTTP_LINE = re.compile(rb"([A-Z]{1,20}) (\S{1,8000}) HTTP/1\.[01]\r\n")
_PROXY_HEADER = re.compile(rb"(?im)^(?:proxy-[a-z-]+|connection|keep-alive):[^\n]*\n")
_CREDENTIALS = re.compile(rb"(?im)^proxy-authorization:[ \t]*basic[ \t]+([A-Za-z0-9+/=]{1,1000})[ \t]*\r$")

Check = Callable[[str, str], bool]
"""Whether a user has that password."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants a connection, and where to; ``is_http``: how he is to be answered. What was read beyond goes first."""

    user: str
    host: str
    port: int
    is_http: bool = False
    first: bytes = b""
    is_tunnel: bool = True
    """An HTTP request that is passed on, instead of a tunnel, is answered by the other side alone."""


async def read_request(pipe: Pipe, check: Check) -> Asked | None:
    """What is asked for; ``None``: it was refused already.

    :raises BadPacket: it is neither, or too long.
    :raises StreamEnded: it broke.
    """
    reader = Reader(pipe)
    first = await reader.exactly(1)
    return await (_socks(reader, pipe, check) if first[0] == VERSION else _http(reader, pipe, check, first))


async def answer(pipe: Pipe, asked: Asked, *, ok: bool, reason: str = "") -> None:
    """Whether the connection is there.

    :raises StreamEnded: it broke.
    """
    if not asked.is_http:
        await pipe.write(_socks_reply(OK if ok else UNREACHABLE))
    elif ok and asked.is_tunnel:
        await pipe.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    elif not ok:
        await pipe.write(_http_reply("502 Bad Gateway", reason))


class Reader:
    """Reads a head byte by byte as far as it goes, and no further than need be."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe, self._left = pipe, b""
        self._taken = 0

    async def exactly(self, count: int) -> bytes:
        """So many bytes.

        :raises BadPacket: it ends before, or is too long.
        """
        while len(self._left) < count:
            await self._more()
        data, self._left = self._left[:count], self._left[count:]
        return data

    async def until(self, end: bytes) -> bytes:
        """All up to this, with it.

        :raises BadPacket: it ends before, or is too long.
        """
        while end not in self._left:
            await self._more()
        at = self._left.index(end) + len(end)
        data, self._left = self._left[:at], self._left[at:]
        return data

    @property
    def rest(self) -> bytes:
        """What was read beyond."""
        return self._left

    async def _more(self) -> None:
        data = await self._pipe.read(4096)
        self._taken += len(data)
        if not data or self._taken > MAX_HEAD_BYTES:
            raise BadPacket("no request to a proxy")
        self._left += data


async def _socks(reader: Reader, pipe: Pipe, check: Check) -> Asked | None:
    methods = await reader.exactly((await reader.exactly(1))[0])
    if WITH_PASSWORD not in methods:
        await pipe.write(bytes([VERSION, NOTHING_FITS]))
        return None
    await pipe.write(bytes([VERSION, WITH_PASSWORD]))
    if (await reader.exactly(1))[0] != 1:
        raise BadPacket("no user and password")
    user = (await reader.exactly((await reader.exactly(1))[0])).decode("utf-8", "replace")
    password = (await reader.exactly((await reader.exactly(1))[0])).decode("utf-8", "replace")
    is_known = check(user, password)
    await pipe.write(bytes([1, 0 if is_known else 1]))
    if not is_known:
        return None
    version, command, _, kind = await reader.exactly(4)
    if version != VERSION:
        raise BadPacket("no request to a proxy")
    host = await _host(reader, kind)
    if host is None:
        await pipe.write(_socks_reply(UNKNOWN_ADDRESS))
        return None
    (port,) = struct.unpack("!H", await reader.exactly(2))
    if command != CONNECT or not port:
        await pipe.write(_socks_reply(UNKNOWN_COMMAND if command != CONNECT else FAILED))
        return None
    return Asked(user, host, port, first=reader.rest)


async def _host(reader: Reader, kind: int) -> str | None:
    if kind == _IPV4:
        return str(IPv4Address(await reader.exactly(4)))
    if kind == _IPV6:
        return str(IPv6Address(await reader.exactly(16)))
    if kind == _NAME:
        return (await reader.exactly((await reader.exactly(1))[0])).decode("ascii", "replace")
    return None


async def _http(reader: Reader, pipe: Pipe, check: Check, first: bytes) -> Asked | None:
    head = first + await reader.until(b"\r\n\r\n")
    line = _HTTP_LINE.match(head)
    if line is None:
        raise BadPacket("no request to a proxy")
    user = _user(head, check)
    if user is None:
        await pipe.write(
            _http_reply("407 Proxy Authentication Required", "", 'Proxy-Authenticate: Basic realm="nunet"\r\n')
        )
        return None
    method, target = line[1], line[2].decode("ascii", "replace")
    where = _where(f"//{target}" if method == b"CONNECT" else target, 0 if method == b"CONNECT" else 80)
    if where is None or (method != b"CONNECT" and not target.lower().startswith("http://")):
        await pipe.write(_http_reply("400 Bad Request", "a proxy is asked for http:// addresses and tunnels"))
        return None
    host, port, path = where
    if method == b"CONNECT":
        return Asked(user, host, port, is_http=True, first=reader.rest)
    rest = _PROXY_HEADER.sub(b"", head[line.end() :])[:-2] + b"Connection: close\r\n\r\n"
    request = method + b" " + path.encode("ascii", "replace") + b" HTTP/1.1\r\n" + rest
    return Asked(user, host, port, is_http=True, first=request + reader.rest, is_tunnel=False)


def _user(head: bytes, check: Check) -> str | None:
    found = _CREDENTIALS.search(head)
    if found is None:
        return None
    try:
        user, colon, password = base64.b64decode(found[1], validate=True).decode("utf-8", "replace").partition(":")
    except (binascii.Error, ValueError):
        return None
    return user if colon and check(user, password) else None


def _where(text: str, default_port: int) -> tuple[str, int, str] | None:
    """Host, port and path with query."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or default_port
    except ValueError:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return (host, port, path) if host and 0 < port < 1 << 16 else None


def _socks_reply(code: int) -> bytes:
    return bytes([VERSION, code, 0, _IPV4]) + bytes(6)


def _http_reply(status: str, reason: str, headers: str = "") -> bytes:
    body = f"{reason}\n".encode() if reason else b""
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
