"""Which network an ensemble gets, and which address each allocation (``spec/network.md`` 7.1).

IPv6 needs no plan of its own: the ensemble's id gives a unique local prefix, and the IPv4 address is the rest. So the
routing table that travels between nodes lists IPv4 addresses only, as the original's does, and both families work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from random import Random

from dms.subnet.errors import InvalidIP, NoAddressLeft

POOL = IPv4Network("10.0.0.0/8")
PREFIX_BITS = 24
"""Of a network, unless its members are too many for it."""
RESERVED_HOSTS = 3
"""The network's own address, the gateway's and the last."""

_V4_BITS = 32
_ULA_BITS = 64


def choose_network(rng: Random, in_use: Iterable[str | IPv4Network] = (), *, members: int = 1) -> IPv4Network:
    """A random network in 10/8 that overlaps nothing in use and has room for so many members.

    :raises NoAddressLeft: there is none.
    """
    bits = PREFIX_BITS
    while (1 << (_V4_BITS - bits)) - RESERVED_HOSTS < members:
        bits -= 1
        if bits < POOL.prefixlen:
            raise NoAddressLeft(f"a private network cannot have {members} members")
    taken = [network for each in in_use if (network := IPv4Network(each)).overlaps(POOL)]
    size = 1 << (_V4_BITS - bits)
    first, count = int(POOL.network_address), POOL.num_addresses // size
    start = rng.randrange(count)
    index, end = start, start + count
    while index < end:
        candidate = IPv4Network((first + index % count * size, bits))
        clash = next((each for each in taken if each.overlaps(candidate)), None)
        if clash is None:
            return candidate
        behind = (min(int(clash.broadcast_address), int(POOL.broadcast_address)) - first) // size + 1
        index += behind - index % count
    raise NoAddressLeft(f"no /{bits} in {POOL} is free")


def private_prefix(subnet_id: str) -> IPv6Network:
    """The unique local /64 of a network (RFC 4193): 56 bits of the hash of its id behind ``fd``."""
    digest = hashlib.sha256(b"nunet subnet ipv6\n" + subnet_id.encode()).digest()
    return IPv6Network((int.from_bytes(b"\xfd" + digest[:7] + bytes(8)), _ULA_BITS))


def to_ipv6(prefix: IPv6Network, address: IPv4Address) -> IPv6Address:
    """The IPv6 address that goes with an IPv4 address."""
    return IPv6Address(int(prefix.network_address) | int(address))


def to_ipv4(prefix: IPv6Network, address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that goes with an IPv6 address; nothing for one that is not made so."""
    rest = int(address) - int(prefix.network_address)
    return IPv4Address(rest) if 0 <= rest < 1 << _V4_BITS else None


class AddressPlan:
    """The addresses of one network, by the name of who has them. The first host is the gateway of every node."""

    def __init__(self, network: str | IPv4Network, used: Mapping[str, str] | None = None) -> None:
        self.network = IPv4Network(network)
        self._by_name: dict[str, IPv4Address] = {}
        self._taken: set[int] = set()
        self._lowest_free = int(self.network.network_address) + 2
        for name, address in (used or {}).items():
            self.reserve(name, address)

    @property
    def gateway(self) -> IPv4Address:
        """Where names are resolved; on every node its own."""
        return self.network.network_address + 1

    def assign(self, name: str) -> IPv4Address:
        """The address of a name: the one it has, or the lowest that is free.

        :raises NoAddressLeft: there is none.
        """
        if name in self._by_name:
            return self._by_name[name]
        while self._lowest_free in self._taken:
            self._lowest_free += 1
        if self._lowest_free >= int(self.network.broadcast_address):
            raise NoAddressLeft(f"every address of {self.network} is taken")
        return self._take(name, IPv4Address(self._lowest_free))

    def reserve(self, name: str, address: str | IPv4Address) -> IPv4Address:
        """Give a name this very address.

        :raises InvalidIP: it is no host of the network.
        :raises NoAddressLeft: it, or the name, is taken.
        """
        wanted = host_of(self.network, address)
        if self._by_name.get(name) == wanted:
            return wanted
        if int(wanted) in self._taken or name in self._by_name:
            raise NoAddressLeft(f"{wanted} or {name} is taken")
        return self._take(name, wanted)

    def release(self, name: str) -> None:
        """Take an address back; an unknown name is ignored."""
        address = self._by_name.pop(name, None)
        if address is not None:
            self._taken.discard(int(address))
            self._lowest_free = min(self._lowest_free, int(address))

    def addresses(self) -> Mapping[str, IPv4Address]:
        """All that are assigned, by name."""
        return dict(self._by_name)

    def _take(self, name: str, address: IPv4Address) -> IPv4Address:
        self._by_name[name] = address
        self._taken.add(int(address))
        return address


def parse_network(text: str) -> IPv4Network:
    """The network of a request.

    :raises InvalidIP: it is none, not private, or has no room for a member.
    """
    try:
        network = ip_network(text)
    except ValueError:
        raise InvalidIP(f"invalid network {text[:64]}", hint="write 10.20.30.0/24") from None
    if not isinstance(network, IPv4Network) or not network.subnet_of(POOL) or network.prefixlen > 30:
        raise InvalidIP(f"invalid network {text[:64]}", hint=f"give a network inside {POOL} with room for members")
    return network


def network_of(addresses: Iterable[str]) -> str:
    """The /24 of the first address, where a request names no network, as the original's first ones.

    :raises InvalidIP: it is none.
    """
    first = next(iter(addresses), "")
    try:
        return str(IPv4Network(f"{first}/{PREFIX_BITS}", strict=False))
    except ValueError:
        raise InvalidIP(f"invalid IP address {first[:64]}") from None


def host_of(network: IPv4Network, address: str | IPv4Address) -> IPv4Address:
    """An address that a member of the network may have.

    The original's orchestrators begin at the first host, so the gateway's address is refused only by the plan of our own.

    :raises InvalidIP: it is none.
    """
    try:
        found = IPv4Address(address)
    except ValueError:
        raise InvalidIP(f"invalid IP address {str(address)[:64]}") from None
    if found not in network or found in (network.network_address, network.broadcast_address):
        raise InvalidIP(f"invalid IP address {found}")
    return found
