"""Asking a name server outside, for names that are not of the private network."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

import trio

PORT = 53
ANSWER_S = 2.0
MAX_ANSWER_BYTES = 4096
"""By UDP; what does not fit comes by TCP, in at most :data:`MAX_LONG_BYTES`."""
MAX_LONG_BYTES = 65535
SYSTEM = "system"
"""In place of an address: the servers that this machine asks itself."""
RESOLV_CONF = Path("/etc/resolv.conf")
MAX_SERVERS = 3
"""That are asked in turn, as in the C library."""


class NameServers:
    """Tries each in turn, by UDP, under an id of its own that nobody can guess; what does not fit is asked for by TCP."""

    def __init__(self, servers: Sequence[str] | Callable[[], Sequence[str]], *, port: int = PORT) -> None:
        """``servers``: addresses, or what tells them each time."""
        self._servers = servers if callable(servers) else lambda: servers
        self._port = port

    async def __call__(self, query: bytes) -> bytes:
        """The answer, with the id of the query; empty when none came."""
        for server in tuple(self._servers())[:MAX_SERVERS]:
            with trio.move_on_after(ANSWER_S):
                try:
                    answer = await self._ask(server, query[2:])
                    if answer[:1] and answer[0] & 0x02:
                        answer = await self._ask_long(server, query[2:]) or answer
                except OSError:
                    continue
                return query[:2] + answer
        return b""

    async def _ask(self, server: str, question: bytes) -> bytes:
        own_id = secrets.token_bytes(2)
        with trio.socket.socket(_family(server), trio.socket.SOCK_DGRAM) as sock:
            await sock.connect((server, self._port))  # the kernel drops what comes from elsewhere
            await sock.send(own_id + question)
            while True:
                answer = await sock.recv(MAX_ANSWER_BYTES)
                if _is_answer(answer, own_id):
                    return answer[2:]

    async def _ask_long(self, server: str, question: bytes) -> bytes:
        """Empty when it does not answer so."""
        query = secrets.token_bytes(2) + question
        with trio.socket.socket(_family(server), trio.socket.SOCK_STREAM) as sock:
            await sock.connect((server, self._port))
            stream = trio.SocketStream(sock)
            await stream.send_all(len(query).to_bytes(2) + query)
            size = int.from_bytes(await _read(stream, 2))
            answer = await _read(stream, size)
        return answer[2:] if len(answer) == size and _is_answer(answer, query[:2]) else b""


def name_servers(asked: Sequence[str], resolv_conf: Path = RESOLV_CONF) -> NameServers | None:
    """Those of a setting: addresses, or :data:`SYSTEM` for what this machine asks at the time; none: nobody is asked."""
    if not asked:
        return None

    def servers() -> list[str]:
        found: list[str] = []
        for one in asked:
            found += _read_system(resolv_conf) if one == SYSTEM else [one]
        return found

    return NameServers(servers)


def system_servers(resolv_conf: str) -> list[str]:
    """The name servers in the text of ``/etc/resolv.conf``."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            found.append(str(ip_address(words[1].partition("%")[0])))
        except ValueError:
            continue
    return found


def _read_system(path: Path) -> list[str]:
    try:
        return system_servers(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []


def _family(server: str) -> int:
    return trio.socket.AF_INET6 if ":" in server else trio.socket.AF_INET


def _is_answer(data: bytes, own_id: bytes) -> bool:
    return data[:2] == own_id and len(data) >= 12 and bool(data[2] & 0x80)


async def _read(stream: trio.SocketStream, size: int) -> bytes:
    """So many bytes, or fewer at the end."""
    data = b""
    while len(data) < size and (more := await stream.receive_some(size - len(data))):
        data += more
    return data
