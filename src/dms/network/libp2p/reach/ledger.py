"""What a relay has promised, and to whom: reservations and the connections that use them. Pure; fed with the time.

Everything is bounded: reservations in all, per IP address and in time; connections per peer and in all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dms.network.libp2p.reach.messages import Status
from dms.types.ids import PeerID


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """How much others may take of us as a relay (``spec/network.md`` 2.2); 0 seconds or bytes is no limit."""

    connection_s: int = 300
    connection_bytes: int = 1 << 21
    """In each direction."""
    reservation_s: int = 3600
    reservations: int = 128
    reservations_per_ip: int = 8
    circuits: int = 256
    circuits_per_peer: int = 16


class Ledger:
    """Reservations and connections of one relay."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._reserved: dict[PeerID, tuple[str, float]] = {}
        self._circuits: Counter[PeerID] = Counter()
        self._total = 0

    @property
    def circuits(self) -> int:
        """Connections that are forwarded now."""
        return self._total

    def reservations(self, now_s: float) -> int:
        """Promises that hold."""
        self._expire(now_s)
        return len(self._reserved)

    def reserve(self, peer: PeerID, ip: str, now_s: float) -> Status:
        """Promise to forward connections to a peer, or renew the promise; ``OK``, or why not."""
        self._expire(now_s)
        others = [(one, at) for one, (at, _) in self._reserved.items() if one != peer]
        if len(others) >= self._limits.reservations:
            return Status.RESERVATION_REFUSED
        if sum(at == ip for _, at in others) >= self._limits.reservations_per_ip:
            return Status.RESERVATION_REFUSED
        self._reserved[peer] = (ip, now_s + self._limits.reservation_s)
        return Status.OK

    def forget(self, peer: PeerID) -> None:
        """The peer is gone, and its promise with it."""
        self._reserved.pop(peer, None)

    def open(self, source: PeerID, target: PeerID, now_s: float) -> Status:
        """Take a place for a connection; ``OK``, or why there is none. Every ``OK`` needs one :meth:`close`."""
        self._expire(now_s)
        if target not in self._reserved:
            return Status.NO_RESERVATION
        most = self._limits.circuits_per_peer
        if self._total >= self._limits.circuits or self._circuits[source] >= most or self._circuits[target] >= most:
            return Status.RESOURCE_LIMIT_EXCEEDED
        self._total += 1
        self._circuits.update((source, target))
        return Status.OK

    def close(self, source: PeerID, target: PeerID) -> None:
        """Give the place back."""
        self._total -= 1
        self._circuits.subtract((source, target))
        for peer in (source, target):
            if not self._circuits[peer]:
                del self._circuits[peer]

    def _expire(self, now_s: float) -> None:
        for peer in [one for one, (_, until_s) in self._reserved.items() if until_s <= now_s]:
            del self._reserved[peer]
