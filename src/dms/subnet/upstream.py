"""Asking a name server outside, for names that are not of the private network."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from ipaddress import ip_address

import trio

PORT = 53
ANSWER_S = 2.0
MAX_ANSWER_BYTES = 4096


class NameServers:
    """Tries each in turn, by UDP, under an id of its own that nobody can guess."""

    def __init__(self, servers: Sequence[str], *, port: int = PORT) -> None:
        self._servers = [str(ip_address(server)) for server in servers]
        self._port = port

    async def __call__(self, query: bytes) -> bytes:
        """The answer, with the id of the query; empty when none came."""
        for server in self._servers:
            with trio.move_on_after(ANSWER_S):
                try:
                    return query[:2] + await self._ask(server, query[2:])
                except OSError:
                    continue
        return b""

    async def _ask(self, server: str, question: bytes) -> bytes:
        family = trio.socket.AF_INET6 if ":" in server else trio.socket.AF_INET
        own_id = secrets.token_bytes(2)
        with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
            await sock.connect((server, self._port))  # the kernel drops what comes from elsewhere
            await sock.send(own_id + question)
            while True:
                answer = await sock.recv(MAX_ANSWER_BYTES)
                if answer[:2] == own_id and len(answer) >= 12 and answer[2] & 0x80:
                    return answer[2:]


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
