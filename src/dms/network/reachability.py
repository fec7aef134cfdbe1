"""What others can reach of us, as far as we know: the sub-object ``Network.reachability`` and what it reports.

Pure: no I/O, nothing of libp2p. Who finds it out is :mod:`dms.network.libp2p.reach`, or the twin in memory.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from dms.types.ids import PeerID

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_SHARED = ipaddress.ip_network("100.64.0.0/10")


class Reach(StrEnum):
    """Whether a peer that never met us could connect."""

    PUBLIC = "public"
    PRIVATE = "private"
    """Only through a relay, or after we dialled first."""
    UNKNOWN = "unknown"
    """Nobody told yet."""


@dataclass(frozen=True, slots=True)
class ObservedAddress:
    """An IP address that peers saw us come from (``spec/network.md`` 2.4), and which peers."""

    ip: str
    reporters: tuple[PeerID, ...]
    is_accepted: bool


@dataclass(frozen=True, slots=True)
class AddressCheck:
    """One address of ours that peers tried to dial: who could, who could not, and what those said."""

    address: str
    reached_by: tuple[PeerID, ...] = ()
    failed_for: tuple[PeerID, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class RelayReservation:
    """A relay that forwards connections to us; ``limit_*`` of one connection, 0 where there is none."""

    relay: PeerID
    addresses: tuple[str, ...]
    expires_in_s: float
    limit_bytes: int = 0
    limit_s: int = 0


@dataclass(frozen=True, slots=True)
class PortMapping:
    """What the router was asked for: ``external`` is the address that it forwards to ``internal_port``."""

    protocol: str
    internal_port: int
    external: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ReachabilityReport:
    """All that is known about how others reach us.

    :param confidence: how many peers agree on the status.
    :param announced: the addresses that we tell others.
    :param mapping: what the router forwards; nothing when it was never asked, or there is none.
    :param has_relay_service: whether we forward connections of others.
    :param punched: direct connections that came about through a relay since the start.
    :param why: one line for people.
    """

    status: Reach
    confidence: int = 0
    announced: tuple[str, ...] = ()
    observed: tuple[ObservedAddress, ...] = ()
    checks: tuple[AddressCheck, ...] = ()
    mapping: PortMapping | None = None
    relays: tuple[RelayReservation, ...] = ()
    has_relay_service: bool = False
    circuits: int = 0
    """Connections of others that we forward now."""
    punched: int = 0
    why: str = ""
    counters: dict[str, int] = field(default_factory=dict)


class Reachability(Protocol):
    """How others reach us."""

    def report(self) -> ReachabilityReport:
        """What is known now; asks nobody."""
        ...

    async def probe(self, *, timeout_s: float = 20.0) -> ReachabilityReport:
        """Ask connected peers to dial us back, now; takes up to ``timeout_s``."""
        ...

    def public_ip(self) -> str | None:
        """Our address as others see it, once enough of them agree."""
        ...


def is_public_ip(ip: IP) -> bool:
    """Whether it means the same everywhere on the internet."""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return is_public_ip(ip.ipv4_mapped)
    if isinstance(ip, ipaddress.IPv4Address) and ip in _SHARED:
        return False  # carrier-grade NAT: neither private nor global, says the standard library
    return ip.is_global and not ip.is_multicast
