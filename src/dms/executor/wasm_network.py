"""WebAssembly servers on the network: their listening sockets, and the network namespace of those that are members.

The sockets are made here, before the program's process is started, which inherits them. So who may not have a port learns it at
once, and connections wait from the first moment on. A server of preview 1 has for each private port one socket; behind it are
those of its public ports, and as member of a private network one in a namespace of its own, in which nothing else is. That
namespace is there for as long as the process.

Components have none of this: the sockets of WASI 0.2 are Wasmtime's own, and its C interface cannot switch them on.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread

from dms.executor.errors import StartFailed
from dms.executor.protocol import PortBinding
from dms.executor.vm_network import make_namespace, switch_on

BACKLOG = 128
NO_NAMESPACES = "network namespaces cannot be made here"


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the process is started with; descriptors by the numbers that they have there."""

    listeners: tuple[tuple[int, ...], ...]
    """For each private port, in their order."""
    gate: int | None
    """Where the process waits for the word to begin."""
    numbers: Mapping[int, int]
    """By ours."""


def private_ports(ports: Sequence[PortBinding]) -> list[int]:
    """At which a program listens, in the order of its sockets."""
    return sorted({port.executor_port for port in ports})


def variables(ports: Sequence[PortBinding]) -> list[tuple[str, str]]:
    """What a server of preview 1 is told: that there are sockets, from number 3 on, and the port of each as its name."""
    inside = private_ports(ports)
    names = ":".join(map(str, inside))
    return [("LISTEN_FDS", str(len(inside))), ("LISTEN_FDNAMES", names)] if inside else []


def spawn_listening(
    ports: Sequence[PortBinding], gate: int | None, start: Callable[[Inheritance], int], *, is_member: bool
) -> int:
    """Open the sockets, have ``start`` start the process with them, and let go of them; its id. Blocks.

    :param gate: our descriptor of what it waits for.
    :param is_member: in a network namespace of its own.
    :raises StartFailed: a port is taken, or is not for this user.
    :raises OSError: the system refuses something else.
    """
    with ExitStack() as stack:
        groups: list[list[socket.socket]] = []
        for inside in private_ports(ports):
            public = [port for port in ports if port.executor_port == inside]
            groups.append([stack.enter_context(_public(port)) for port in public])

        def begin() -> int:
            if is_member:
                os.close(make_namespace())
                switch_on("lo")
                for inside, group in zip(private_ports(ports), groups, strict=True):
                    group.append(stack.enter_context(_private(inside)))
            return start(_inheritance(groups, gate))

        return _in_thread_of_its_own(begin) if is_member else begin()


def _inheritance(groups: list[list[socket.socket]], gate: int | None) -> Inheritance:
    own = [one.fileno() for group in groups for one in group] + ([gate] if gate is not None else [])
    numbers = {fd: there for there, fd in enumerate(own, max(own, default=2) + 1)}
    listeners = tuple(tuple(numbers[one.fileno()] for one in group) for group in groups)
    return Inheritance(listeners, numbers[gate] if gate is not None else None, numbers)


def _public(port: PortBinding) -> socket.socket:
    try:
        return _listen(socket.AF_INET, port.ip, port.host_port)
    except OSError as exc:
        raise StartFailed(f"port {port.host_port} of this machine cannot be had: {exc.strerror}") from exc


def _private(port: int) -> socket.socket:
    try:
        return _listen(socket.AF_INET6, "::", port)
    except OSError:  # a kernel without IPv6
        return _listen(socket.AF_INET, "0.0.0.0", port)


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _in_thread_of_its_own(work: Callable[[], int]) -> int:
    """A thread that has changed its namespace must serve nobody else."""
    results: list[int] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as exc:  # noqa: BLE001  it is raised where it belongs, below
            failures.append(exc)

    thread = Thread(target=run, name="network namespace")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
