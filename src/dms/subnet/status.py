"""What ``nunet subnet status`` tells of one network on one node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dms.subnet.ports import PortMapping
from dms.types.ids import PeerID


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A peer in it, perhaps this one: its addresses and their names, and how packets reach it."""

    peer: PeerID
    is_own: bool
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    state: str = ""
    path: str = ""
    protocol: str = ""
    rtt_s: float | None = None
    error: str = ""
    relay: str = ""
    mtu: int = 0
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    drops: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class SubnetStatus:
    """The whole of it, as this node sees it."""

    id: str
    network: str
    ipv6: str
    gateway: str
    attached: tuple[str, ...]
    """Addresses whose devices are here."""
    members: tuple[MemberStatus, ...]
    ports: tuple[PortMapping, ...]
    queries: Mapping[str, int]
    """Names asked for, by outcome."""
    drops: Mapping[str, int]
    """Packets of members here that went no further, by reason."""
