"""What was measured between two peers, as it is kept (``spec/orchestration.md`` 3.3)."""

from __future__ import annotations

from dms.types.gojson import Wire
from dms.types.ids import PeerID


class MeasuredPair(Wire):
    """One pair: the round trip in milliseconds (``None``: it could not be measured) and, where that was asked for, the
    bandwidth in bits per second; ``error`` says why not."""

    a: PeerID
    b: PeerID
    rtt_ms: float | None = None
    bandwidth_bps: float | None = None
    error: str = ""


def without_failures(pairs: tuple[MeasuredPair, ...]) -> tuple[MeasuredPair, ...]:
    """Those that were measured: what could not be is to be tried again in the next round, as the machine that was away
    for a moment may be back.
    """
    return tuple(pair for pair in pairs if not pair.error)


def describe_pair(pair: MeasuredPair) -> dict[str, object]:
    """A measured pair for people."""
    out: dict[str, object] = {"between": [pair.a, pair.b]}
    if pair.rtt_ms is not None:
        out["rtt_ms"] = round(pair.rtt_ms, 3)
    if pair.bandwidth_bps is not None:
        out["bandwidth_bps"] = round(pair.bandwidth_bps)
    return out | ({"error": pair.error} if pair.error else {})
