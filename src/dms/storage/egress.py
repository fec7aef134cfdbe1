"""Where transfers that somebody else asks for may connect to: the public network, and what the owner opens.

A name is resolved here, each address is checked, and the connection goes to exactly the address that was checked; so
neither a name that points to a private address nor one that points somewhere else at the second look (DNS rebinding)
leads into the owner's network, to this machine or to the metadata service of a cloud.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import trio
from httpcore2 import AsyncNetworkBackend, AsyncNetworkStream, ConnectError, ConnectTimeout, TrioBackend

from dms.storage.errors import AddressRefused, InvalidStorageSpec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[tuple[str, ...]]]
"""The addresses of a name."""

MAX_ADDRESSES = 8
CONNECT_TIMEOUT_S = 15.0
_EMBEDDED = (  # networks of IPv6 that hold an address of IPv4, and how many bits lie behind it
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("64:ff9b:1::/48"), 0),
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)


@dataclass(frozen=True, slots=True)
class Egress:
    """Who may be reached. ``is_open``: everybody, for what the owner asks for."""

    allowed: tuple[Network, ...] = ()
    is_open: bool = False

    @classmethod
    def of(cls, networks: Iterable[str]) -> Egress:
        """The public network and these, such as ``10.0.0.0/8``.

        :raises InvalidStorageSpec: one is no network.
        """
        try:
            return cls(tuple(ipaddress.ip_network(network) for network in networks))
        except ValueError as exc:
            raise InvalidStorageSpec(f"{exc} is no network; write it like 10.1.0.0/16") from None

    def permits(self, address: Address) -> bool:
        """Whether a connection there is fine."""
        if self.is_open:
            return True
        inner = _inner(address)
        if any(each.version == net.version and each in net for each in {address, inner} for net in self.allowed):
            return True
        return _is_public(address) and _is_public(inner)


OWNER = Egress(is_open=True)
"""What the owner of the machine asks for may go anywhere."""


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """The addresses of ``host`` by the system's resolver.

    :raises OSError: there are none, or it is no name.
    """
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (
        UnicodeError
    ):  # of Python's, before the system is asked: too long, empty between dots, letters that no name has
        raise socket.gaierror(socket.EAI_NONAME, "it is no name") from None
    return tuple(dict.fromkeys(str(info[4][0]) for info in found))


async def permitted(egress: Egress, host: str, port: int, lookup: Resolve = resolve) -> tuple[str, ...]:
    """The addresses of ``host`` to which a connection may go.

    :raises AddressRefused: it has some, and none of them.
    :raises OSError: it cannot be resolved.
    """
    literal = _address(host.strip("[]"))
    texts = (str(literal),) if literal is not None else await lookup(host, port)
    addresses = [address for text in texts[:MAX_ADDRESSES] if (address := _address(text)) is not None]
    fine = tuple(str(address) for address in addresses if egress.permits(address))
    if not fine:
        raise AddressRefused(f"jobs may not reach {host[:255]} from here: its address is not public")
    return fine


class GuardedBackend(AsyncNetworkBackend):
    """Opens the connections of an HTTP client, to permitted addresses only."""

    def __init__(self, egress: Egress, lookup: Resolve = resolve) -> None:
        self._egress = egress
        self._lookup = lookup
        self._inner = TrioBackend()

    async def connect_tcp(  # noqa: D102  as inherited
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # as inherited
    ) -> AsyncNetworkStream:
        budget_s = min(timeout or CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S)
        try:
            with trio.fail_after(budget_s):
                addresses = await permitted(self._egress, host, port, self._lookup)
        except OSError as exc:
            raise ConnectError(f"{host} cannot be resolved: {exc.strerror or exc}") from exc
        except trio.TooSlowError:
            raise ConnectTimeout(f"{host} is not resolved in time") from None
        failure: Exception = ConnectError(f"no address of {host} answers")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, budget_s, local_address, socket_options)
            except (ConnectError, ConnectTimeout) as exc:
                failure = exc
        raise failure

    async def connect_unix_socket(  # noqa: D102
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> AsyncNetworkStream:
        raise AddressRefused("jobs may not reach sockets of this machine")

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        await trio.sleep(seconds)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _inner(address: Address) -> Address:
    """The address of IPv4 that one of IPv6 stands for, or else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.teredo is not None:
        return address.teredo[1]
    for network, behind in _EMBEDDED:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> behind & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return True  # what it stands for is asked separately
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not address.is_loopback
        and not address.is_link_local
    )
