"""What an orchestrator and a provider say of the connection between two peers (``spec/orchestration.md`` 3.3)."""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire
from dms.types.ids import EnsembleID, PeerID

EDGE = "/dms/deployment/constraint/edge"


class EdgeRequest(Wire):
    """Asks S about its connection to T, both peer ids.

    ``rtt_ms`` is the most that the round trip may take and ``bandwidth_kbps`` the least that must pass; 0 is not looked
    at. ``t_bid`` is ours: the signed bid of T for this ensemble. Without it S does not touch T.
    """

    ensemble_id: EnsembleID = msgspec.field(name="EnsembleID")
    s: PeerID = msgspec.field(name="S")
    t: PeerID = msgspec.field(name="T")
    rtt_ms: int = msgspec.field(name="RTT", default=0)
    bandwidth_kbps: int = msgspec.field(name="BW", default=0)
    t_bid: bytes = msgspec.field(name="TBid", default=b"")


class EdgeReply(Wire):
    """Whether the bounds hold; ours: what was measured, in milliseconds and Kbit/s."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")
    rtt_ms: float | None = msgspec.field(name="RTT", default=None)
    bandwidth_kbps: float | None = msgspec.field(name="BW", default=None)
