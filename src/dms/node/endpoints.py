"""Where a TCP port of an allocation is reached from this process.

In its network namespace, if it has one that we may enter; else at its address, if one of this machine's own interfaces leads
there; else at the port of this machine that leads in. What is not on this machine is never tried.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import trio

from dms.executor.protocol import NetInfo
from dms.subnet.errors import NotConnected
from dms.subnet.namespaces import run_inside
from dms.subnet.pipes import Pipe, TrioPipe
from dms.types.errors import DMSError

CONNECT_S = 10.0
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port, in a network namespace or in that of this process."""

    address: str
    port: int
    namespace: Path | None = None


Connect = Callable[[Endpoint], Awaitable[Pipe]]
"""Connects.

:raises OSError: nobody listens, or it is not reached.
:raises DMSError: we may not enter the namespace.
"""


def endpoints_of(
    net: NetInfo | None,
    ports: Mapping[str, int],
    port: int,
    *,
    private: str = "",
    is_owner: bool = False,
    is_on_link: Callable[[IPv4Interface], bool] = lambda _interface: False,
) -> list[Endpoint]:
    """Where to try, in this order. Pure, with ``is_on_link`` as given.

    :param ports: of TCP, private by public ones, as text; the public number of a port may be asked for, too.
    :param private: its address in the private network, if it has that in its namespace.
    :param is_owner: whether to look for what listens on the loopback inside as well.
    """
    inside = ports.get(str(port), port) if port not in ports.values() else port
    found: list[Endpoint] = []
    if net is not None and net.namespace is not None:
        addresses = ([LOOPBACK] if is_owner else []) + [one for one in (private, net.ip_address) if one]
        found += [Endpoint(address, inside, net.namespace) for address in addresses]
    if net is not None and net.cidr and is_on_link(IPv4Interface(net.cidr)):
        found.append(Endpoint(net.ip_address, inside))
    found += [Endpoint(LOOPBACK, int(public)) for public, target in ports.items() if target == inside]
    return found


def is_on_link(interface: IPv4Interface) -> bool:
    """Whether an interface of this machine is in the network of that address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((str(interface.ip), 9))  # sends nothing
            return IPv4Address(asking.getsockname()[0]) in interface.network
        except OSError:
            return False


async def connect(endpoint: Endpoint) -> Pipe:
    """See :data:`Connect`."""
    made = await trio.to_thread.run_sync(
        run_inside, endpoint.namespace, partial(socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    )
    made.setblocking(False)
    one = trio.socket.from_stdlib_socket(made)
    try:
        await one.connect((endpoint.address, endpoint.port))
        return TrioPipe(trio.SocketStream(one))
    except BaseException:
        one.close()
        raise


async def connect_to_first(endpoints: Iterable[Endpoint], connect: Connect, port: int) -> Pipe:
    """A connection with the first that takes one.

    :raises NotConnected: none does, and why the last one does not.
    """
    reason = "this machine cannot reach it there, and no port of the machine leads to it"
    with trio.move_on_after(CONNECT_S):
        for endpoint in endpoints:
            try:
                return await connect(endpoint)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
            except DMSError as error:
                reason = error.message
        raise NotConnected(f"port {port} is not reached: {reason}", hint="does something listen there?")
    raise NotConnected(f"port {port} is not reached: no answer within {CONNECT_S:g} s")


def with_ports(net: NetInfo | None, ports: Mapping[str, int]) -> dict[str, int]:
    """What is known of the ports, the backend's own knowledge included."""
    told = {str(one.host_port): one.executor_port for one in (net.mapped_ports if net else ()) if one.protocol == "tcp"}
    return {**told, **ports}
