"""How near peers are, and which are wanted, as it travels."""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire

LATENCY = "/dms/node/peers/latency"


class PeerChoice(Wire):
    """Which of the connected peers: round trip at most, connected at least so long, and so many; 0 is no limit."""

    max_rtt_us: int = msgspec.field(name="MaxRTTMicroseconds", default=0)
    connected_for_ms: int = msgspec.field(name="ConnectedForMS", default=0)
    nearest: int = msgspec.field(name="Nearest", default=0)


class PeerPlace(Wire):
    """A coordinate in milliseconds; ``error`` is how wrong its estimates are, from 0 to 1.5."""

    vector: tuple[float, ...]
    height: float
    error: float


class PeerDistance(Wire):
    """One peer; times in microseconds, 0 where nothing was measured. ``estimated`` is what the coordinates suggest."""

    id: str
    smoothed_us: int = 0
    variation_us: int = 0
    minimum_us: int = 0
    samples: int = 0
    estimated_us: int = 0
    place: PeerPlace | None = None


class PeerDistances(Wire):
    """The answer, the nearest first, and where the node itself is."""

    peers: tuple[PeerDistance, ...]
    place: PeerPlace | None = None
    error: str = ""
