"""Choosing among the connected peers."""

from __future__ import annotations

import random

from dms.network.coordinates import Coordinate
from dms.network.latency import LatencyTable, RoundTrip
from dms.network.peer_filter import PeerFilter
from dms.network.protocol import PeerInfo
from dms.types.ids import PeerID

NEAR, FAR, NEW, RELAYED, SILENT = (PeerID(name) for name in ("near", "far", "new", "relayed", "silent"))


class Table:
    """Round trips of 10, 90, 20 and 5 ms."""

    coordinate = Coordinate(())

    def __init__(self) -> None:
        self._table = LatencyTable(PeerID("own"), random.Random(1))
        for peer, rtt_s in ((NEAR, 0.01), (FAR, 0.09), (NEW, 0.02), (RELAYED, 0.005)):
            self._table.measured(peer, rtt_s, 0.0)

    def of(self, peer: PeerID) -> RoundTrip | None:
        return self._table.of(peer)

    def table(self) -> dict[PeerID, RoundTrip]:
        return {}

    def coordinate_of(self, _peer: PeerID) -> Coordinate | None:
        return None

    def estimate_us(self, _a: PeerID, _b: PeerID) -> int | None:
        return None


PEERS = [
    PeerInfo(SILENT, (), inbound=True, since_s=500.0),
    PeerInfo(FAR, (), inbound=True, since_s=500.0),
    PeerInfo(RELAYED, (), inbound=True, is_relayed=True, since_s=500.0),
    PeerInfo(NEW, (), inbound=True, since_s=5.0),
    PeerInfo(NEAR, (), inbound=True, since_s=500.0),
]


def test_the_nearest_come_first_and_those_that_were_not_measured_last() -> None:
    assert PeerFilter().is_open
    assert PeerFilter().choose(PEERS, Table()) == (NEAR, NEW, FAR, RELAYED, SILENT)


def test_what_is_asked_must_be_met_and_what_is_not_known_does_not_meet_it() -> None:
    assert PeerFilter(max_rtt_ms=50).choose(PEERS, Table()) == (NEAR, NEW)
    assert PeerFilter(max_rtt_ms=50, connected_for_s=60).choose(PEERS, Table()) == (NEAR,)
    assert PeerFilter(connected_for_s=60, nearest=2).choose(PEERS, Table()) == (NEAR, FAR)
    assert PeerFilter(max_rtt_ms=1).choose(PEERS, Table()) == ()
    assert str(PeerFilter(50, 60)) == "within 50 ms and connected for 60 s"
