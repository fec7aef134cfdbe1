"""Where the router is, which address of ours faces it, and what it was asked for."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

ROUTES = Path("/proc/net/route")
LEASE_S = 3600
MAX_ROUTES_BYTES = 1 << 16


class NotMapped(Exception):
    """The router does not forward the port, and why."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """The router forwards this port of its outer address; ``lease_s`` is 0 if for ever."""

    external_ip: IPv4Address
    external_port: int
    lease_s: int


class Mapper(Protocol):
    """One way to ask a router."""

    @property
    def name(self) -> str:
        """How it is called."""
        ...

    async def map(self, port: int) -> Mapped:
        """Have a TCP port of this machine forwarded, or renew that.

        :raises NotMapped: no such router, or it refuses.
        """
        ...

    async def unmap(self, port: int) -> None:
        """Take it back.

        :raises NotMapped: the router did not say that it did.
        """
        ...


def default_gateway(routes: str) -> IPv4Address | None:
    """The router of the default route, from the table that Linux keeps; pure."""
    found: list[tuple[int, IPv4Address]] = []
    for line in routes.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8:
            continue
        try:
            destination, gateway, flags, metric, mask = (
                int(columns[1], 16),
                int(columns[2], 16),
                int(columns[3], 16),
                int(columns[6]),
                int(columns[7], 16),
            )
        except ValueError:
            continue
        if destination == 0 and mask == 0 and gateway and flags & 2:
            found.append((metric, IPv4Address(struct.pack("<I", gateway & 0xFFFFFFFF))))
    return min(found)[1] if found else None


def read_gateway() -> IPv4Address | None:
    """The router of this machine, where the system tells."""
    try:
        with ROUTES.open(encoding="ascii") as table:
            return default_gateway(table.read(MAX_ROUTES_BYTES))
    except (OSError, UnicodeDecodeError):
        return None


def own_address_towards(gateway: IPv4Address) -> IPv4Address | None:
    """Our address on the router's network; asks the kernel, sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(gateway), 9))
            return IPv4Address(probe.getsockname()[0])
        except (OSError, ipaddress.AddressValueError):
            return None
