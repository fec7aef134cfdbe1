"""Asks and fetches in whatever network it is run in. A program for tests of private networks.

Its argument is a list in JSON of tasks: ``["ask", NAME, TYPE, SERVER]``, of which the last is optional, ``["http", ADDRESS,
PORT]``, ``["udp", ADDRESS, PORT]``, or one ``["echo", PORT]``. It prints the list of what came of them.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.reversename

WAIT_S = 5.0
ENGINES_OWN = "127.0.0.11"


def ask(name: str, kind: str, server: str = "") -> str:
    """The answers to a question, or its error; without a server the engine's own, which forwards to the gateway."""
    question = dns.reversename.from_address(name) if kind == "PTR" else name
    query = dns.message.make_query(question, kind)
    where = server or ENGINES_OWN
    answer = dns.query.udp(query, where, timeout=WAIT_S)
    if answer.flags & dns.flags.TC:
        answer = dns.query.tcp(query, where, timeout=WAIT_S)
    texts = [record.to_text() for each in answer.answer for record in each]
    return " ".join(texts) or dns.rcode.to_text(answer.rcode())


def fetch(address: str, port: int) -> str:
    """The page at an address."""
    connection = http.client.HTTPConnection(address, port, timeout=WAIT_S)
    connection.request("GET", "/")
    return connection.getresponse().read().decode().strip()


def send(address: str, port: int) -> str:
    """Whether what is sent by UDP comes back."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT_S)
        sock.connect((address, port))
        sock.send(b"hello")
        return "ok" if sock.recv(100) == b"hello" else "something else"


def echo(port: int) -> None:
    """Send back what comes, for ever."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            data, sender = sock.recvfrom(2000)
            sock.sendto(data, sender)


def attempt(what: str, arguments: list[str]) -> str:
    """One task; what is wrong, if it cannot be done."""
    try:
        if what == "ask":
            return ask(*arguments)
        return {"http": fetch, "udp": send}[what](arguments[0], int(arguments[1]))
    except (OSError, ValueError, dns.exception.DNSException) as error:
        return repr(error)


def main(tasks: list[list[str]]) -> None:
    """All at once; an echo for ever."""
    if tasks[0][0] == "echo":
        echo(int(tasks[0][1]))
    with ThreadPoolExecutor(len(tasks)) as pool:
        print(json.dumps(list(pool.map(lambda task: attempt(task[0], task[1:]), tasks))))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
