"""What is known of the connections between peers: values, kept per pair, never verdicts (``spec/orchestration.md`` 12.1).

A pair that was measured once serves every edge and every later round, whatever bound it is held against. Pairs have
no direction; of two bandwidths the lower counts, of two round trips the later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from dms.types.ids import PeerID


class Measurements:
    """A cache of measured round trips (ms) and bandwidths (bits per second)."""

    def __init__(self) -> None:
        self._rtt_ms: dict[PeerID, dict[PeerID, float]] = {}
        self._bandwidth_bps: dict[PeerID, dict[PeerID, float]] = {}

    def record(self, a: PeerID, b: PeerID, *, rtt_ms: float | None = None, bandwidth_bps: float | None = None) -> None:
        """Remember what was measured between two peers; what cannot be true counts as the worst."""
        if rtt_ms is not None:
            rtt_ms = rtt_ms if rtt_ms >= 0 else math.inf
            self._rtt_ms.setdefault(a, {})[b] = rtt_ms
            self._rtt_ms.setdefault(b, {})[a] = rtt_ms
        if bandwidth_bps is not None:
            known = self._bandwidth_bps.get(a, {}).get(b)
            bandwidth_bps = bandwidth_bps if bandwidth_bps >= 0 else 0.0
            lower = bandwidth_bps if known is None else min(known, bandwidth_bps)
            self._bandwidth_bps.setdefault(a, {})[b] = lower
            self._bandwidth_bps.setdefault(b, {})[a] = lower

    def rtt_ms(self, a: PeerID, b: PeerID) -> float | None:
        """The measured round trip."""
        return self._rtt_ms.get(a, {}).get(b)

    def bandwidth_bps(self, a: PeerID, b: PeerID) -> float | None:
        """The measured bandwidth."""
        return self._bandwidth_bps.get(a, {}).get(b)

    def rtts_of(self, peer: PeerID) -> dict[PeerID, float]:
        """All round trips measured from one peer. Not a copy."""
        return self._rtt_ms.get(peer, {})

    def bandwidths_of(self, peer: PeerID) -> dict[PeerID, float]:
        """All bandwidths measured from one peer. Not a copy."""
        return self._bandwidth_bps.get(peer, {})

    def forget(self, peer: PeerID) -> None:
        """A peer has moved or was gone for long: what was measured from and to it says nothing any more."""
        for table in (self._rtt_ms, self._bandwidth_bps):
            for other in table.pop(peer, {}):
                table.get(other, {}).pop(peer, None)

    def pairs(self) -> Iterator[tuple[PeerID, PeerID]]:
        """Every pair with a measured round trip, once."""
        for a, row in self._rtt_ms.items():
            for b in row:
                if a <= b:
                    yield a, b
