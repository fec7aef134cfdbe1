"""Which public port of this machine leads where (``spec/network.md`` 7.6).

One plan for all networks of a node: the ports of a machine are one space for each protocol. A mapping that is asked for
twice is there until it was given back twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from random import Random

from dms.executor.protocol import PROTOCOLS
from dms.subnet.errors import NoAddressLeft, PortMapped, PortNotMapped
from dms.types.errors import BadInput

MAX_PORT = 65535
ANY = IPv4Address("0.0.0.0")


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A public port, on one address of the machine or on any, and the port of a member that it leads to."""

    protocol: str
    public: int
    address: IPv4Address
    private: int
    source: IPv4Address = ANY

    @classmethod
    def parse(cls, protocol: str, source_ip: str, source_port: str, dest_ip: str, dest_port: str) -> PortMapping:
        """A mapping as requests carry it, ports as text; ``0`` as public port: any free one.

        :raises BadInput: a part is wrong.
        """
        name = protocol.lower() or "tcp"
        if name not in PROTOCOLS:
            raise BadInput(f"unknown protocol {protocol[:16]!r}", hint="tcp or udp")
        try:
            source, address = IPv4Address(source_ip or "0.0.0.0"), IPv4Address(dest_ip)
        except ValueError:
            raise BadInput(f"invalid IP address in the port mapping to {dest_ip[:64]!r}") from None
        return cls(name, _port(source_port, lowest=0), address, _port(dest_port, lowest=1), source)


class PortPlan:
    """All mappings of one node."""

    def __init__(self, rng: Random, *, first: int = 16384, last: int = 32768) -> None:
        self._rng, self._first, self._last = rng, first, last
        self._users: dict[PortMapping, dict[str, int]] = {}
        self._at: dict[tuple[str, int], set[PortMapping]] = {}

    def map(
        self, subnet_id: str, wanted: PortMapping, *, is_busy: Callable[[str, int], bool] = lambda _p, _n: False
    ) -> PortMapping:
        """Take a mapping; the public port is filled in where it was 0. ``is_busy`` tells what other programs listen on.

        :raises PortMapped: the public port leads elsewhere, or is busy.
        :raises NoAddressLeft: no port is free.
        """
        if wanted.public == 0:
            wanted = replace(wanted, public=self._free(wanted, is_busy))
        users = self._users.get(wanted)
        if users is None:
            if any(_overlap(wanted, other) for other in self._at.get((wanted.protocol, wanted.public), ())):
                raise PortMapped(f"port {wanted.public} is already mapped")
            if is_busy(wanted.protocol, wanted.public):
                raise PortMapped(f"port {wanted.public} is already mapped: another program listens there")
            users = self._users[wanted] = {}
            self._at.setdefault((wanted.protocol, wanted.public), set()).add(wanted)
        users[subnet_id] = users.get(subnet_id, 0) + 1
        return wanted

    def unmap(self, subnet_id: str, mapping: PortMapping) -> bool:
        """Give a mapping back once; whether nobody wants it now.

        :raises PortNotMapped: this network has no such mapping.
        """
        users = self._users.get(mapping, {})
        if subnet_id not in users:
            raise PortNotMapped(f"port {mapping.public} is not mapped")
        users[subnet_id] -= 1
        if not users[subnet_id]:
            del users[subnet_id]
        return self._drop_unused(mapping)

    def forget(self, subnet_id: str) -> tuple[PortMapping, ...]:
        """Give back all mappings of a network; those that nobody wants now."""
        mine = [mapping for mapping, users in self._users.items() if users.pop(subnet_id, 0)]
        return tuple(mapping for mapping in mine if self._drop_unused(mapping))

    def mappings(self, subnet_id: str | None = None) -> tuple[PortMapping, ...]:
        """All, or those of one network."""
        return tuple(one for one, users in self._users.items() if subnet_id is None or subnet_id in users)

    def _drop_unused(self, mapping: PortMapping) -> bool:
        if self._users[mapping]:
            return False
        del self._users[mapping]
        at = self._at[mapping.protocol, mapping.public]
        at.discard(mapping)
        if not at:
            del self._at[mapping.protocol, mapping.public]
        return True

    def _free(self, wanted: PortMapping, is_busy: Callable[[str, int], bool]) -> int:
        count = self._last - self._first + 1
        start = self._rng.randrange(count)
        for step in range(count):
            port = self._first + (start + step) % count
            if (wanted.protocol, port) not in self._at and not is_busy(wanted.protocol, port):
                return port
        raise NoAddressLeft(f"no {wanted.protocol} port from {self._first} to {self._last} is free")


def _port(text: str, *, lowest: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not lowest <= int(text) <= MAX_PORT:
        raise BadInput(f"not a port: {text[:16]!r}", hint=f"a number from {lowest} to {MAX_PORT}")
    return int(text)


def _overlap(one: PortMapping, other: PortMapping) -> bool:
    return ANY in (one.source, other.source) or one.source == other.source
