"""Which of the connected peers: the near ones, those that have been there for a while, so many of them. Pure.

What is judged is what this node measured itself: the round trip, and for how long the connection has existed. A relayed
connection says nothing of how near its peer is; it only passes where nearness does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dms.network.latency import Latency
from dms.network.protocol import PeerInfo
from dms.types.ids import PeerID

US_PER_MS = 1000.0


@dataclass(frozen=True, slots=True)
class PeerFilter:
    """What is asked of peers; 0 asks for nothing. ``nearest``: no more than so many, the nearest ones."""

    max_rtt_ms: float = 0.0
    connected_for_s: float = 0.0
    nearest: int = 0

    @property
    def is_open(self) -> bool:
        """Whether everybody passes."""
        return not self.max_rtt_ms and not self.connected_for_s and not self.nearest

    def choose(self, peers: Iterable[PeerInfo], latency: Latency) -> tuple[PeerID, ...]:
        """Those that pass, the nearest first."""
        found = []
        for info in peers:
            trip = None if info.is_relayed else latency.of(info.peer)
            rtt_ms = math.inf if trip is None else trip.smoothed_us / US_PER_MS
            if (self.max_rtt_ms and rtt_ms > self.max_rtt_ms) or info.since_s < self.connected_for_s:
                continue
            found.append((rtt_ms, info.peer))
        found.sort()
        return tuple(peer for _, peer in found[: self.nearest or None])

    def __str__(self) -> str:
        parts = []
        if self.max_rtt_ms:
            parts.append(f"within {self.max_rtt_ms:g} ms")
        if self.connected_for_s:
            parts.append(f"connected for {self.connected_for_s:g} s")
        return " and ".join(parts) or "at all"
