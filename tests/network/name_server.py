"""A name server of the world outside, for tests: it knows one name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

OUTSIDE = "example.test"
ADDRESS = "127.0.0.1"


@contextmanager
def name_server() -> Iterator[int]:
    """At the port of this machine that it gives, by UDP and TCP."""
    udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with udp, tcp:
        tcp.bind((ADDRESS, 0))
        port: int = tcp.getsockname()[1]
        udp.bind((ADDRESS, port))
        tcp.listen()
        threads = [
            threading.Thread(target=serve, args=(sock,), daemon=True) for serve, sock in ((_udp, udp), (_tcp, tcp))
        ]
        for thread in threads:
            thread.start()
        try:
            yield port
        finally:
            for sock in (udp, tcp):
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def _udp(sock: socket.socket) -> None:
    with suppress(OSError):
        while True:
            query, asker = sock.recvfrom(4096)
            if query:
                sock.sendto(_answer(query, is_short=True), asker)
            elif not asker:
                return


def _tcp(sock: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = sock.accept()
            with connection:
                size = int.from_bytes(connection.recv(2, socket.MSG_WAITALL))
                answer = _answer(connection.recv(size, socket.MSG_WAITALL), is_short=False)
                connection.sendall(len(answer).to_bytes(2) + answer)


def _answer(query: bytes, *, is_short: bool) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(query))
    (question,) = reply.question
    kind = dns.rdatatype.to_text(question.rdtype)
    if question.name.to_text().lower() == f"{OUTSIDE}.":
        if kind == "A":
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, "192.0.2.7"))
        elif kind == "TXT" and is_short:
            reply.flags |= dns.flags.TC
        elif kind == "TXT":
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, " ".join(["x" * 250] * 14)))
    return reply.to_wire()
