"""How long the way to other peers takes: measured where there is a connection, guessed where there is none.

:class:`Latency` is the part of the seam; :class:`LatencyTable` keeps the figures and is what both networks use. Round trips
come from the network's own measurement of its connections, never from what a peer says. They are smoothed as TCP does
(RFC 6298); beside that the shortest one of the last minutes is kept, which is what the way takes when nothing is in the way.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from dms.network.coordinates import MAX_RTT_MS, Coordinate, Vivaldi
from dms.types.ids import PeerID

MAX_PEERS = 4096
"""That are remembered; of those who have gone, too: they may come back."""
KEPT_S = 3600.0
"""A coordinate that was told longer ago says nothing any more."""
MINIMUM_S = 300.0
"""The shortest round trip is that of the last five to ten minutes."""
US_PER_S = 1e6
US_PER_MS = 1e3


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """What was measured to one peer, in microseconds: smoothed, how much it varies, the shortest of late; how often, and
    when last (seconds of the network's clock)."""

    smoothed_us: int
    variation_us: int
    minimum_us: int
    samples: int
    at_s: float


class Latency(Protocol):
    """The table of round trips, and coordinates for pairs that nobody measured (:mod:`dms.network.coordinates`)."""

    def table(self) -> Mapping[PeerID, RoundTrip]:
        """The round trips to the connected peers, as far as they were measured."""
        ...

    def of(self, peer: PeerID) -> RoundTrip | None:
        """That to one peer, connected or lately so."""
        ...

    @property
    def coordinate(self) -> Coordinate:
        """Where we are."""
        ...

    def coordinate_of(self, peer: PeerID) -> Coordinate | None:
        """Where a peer said last that it is; our own for our own id."""
        ...

    def estimate_us(self, a: PeerID, b: PeerID) -> int | None:
        """The round trip between two peers: as it was measured, if one of them is ourselves, else by their coordinates."""
        ...


class LatencyTable:
    """The figures of one node."""

    def __init__(self, own: PeerID, rng: random.Random) -> None:
        self._own = own
        self._vivaldi = Vivaldi(rng)
        self._trips: OrderedDict[PeerID, _Trip] = OrderedDict()
        self._told: OrderedDict[PeerID, tuple[Coordinate, float]] = OrderedDict()

    @property
    def coordinate(self) -> Coordinate:
        """Where we are."""
        return self._vivaldi.coordinate

    @property
    def left_out(self) -> int:
        """Coordinates of others that were not believed."""
        return self._vivaldi.left_out

    def measured(self, peer: PeerID, rtt_s: float, now_s: float) -> None:
        """Take one measured round trip into account."""
        if not 0 <= rtt_s < math.inf:
            return
        self._trips.setdefault(peer, _Trip()).take(rtt_s * US_PER_S, now_s)
        self._trips.move_to_end(peer)
        if len(self._trips) > MAX_PEERS:
            self._trips.popitem(last=False)

    def told(self, peer: PeerID, where: Coordinate, now_s: float) -> bool:
        """A peer told its coordinate: move accordingly; whether it was believed. Nothing that makes no sense is kept."""
        if not where.is_sane or peer == self._own:
            return False
        self._told[peer] = (where, now_s)
        self._told.move_to_end(peer)
        if len(self._told) > MAX_PEERS:
            self._told.popitem(last=False)
        trip = self._trips.get(peer)
        return trip is not None and self._vivaldi.observe(peer, where, min(trip.last_us / US_PER_MS, MAX_RTT_MS))

    def gone(self, peer: PeerID) -> None:
        """The connection ended: its place in the crowd is not held against others any more."""
        self._vivaldi.forget(peer)

    def of(self, peer: PeerID) -> RoundTrip | None:
        """What was measured to a peer."""
        trip = self._trips.get(peer)
        return trip.describe() if trip is not None else None

    def coordinate_of(self, peer: PeerID, now_s: float) -> Coordinate | None:
        """Where a peer said last that it is."""
        if peer == self._own:
            return self.coordinate
        where, at_s = self._told.get(peer, (None, 0.0))
        return where if where is not None and now_s - at_s < KEPT_S else None

    def estimate_us(self, a: PeerID, b: PeerID, now_s: float) -> int | None:
        """The round trip between two peers, measured or guessed."""
        if a == b:
            return 0
        if self._own in (a, b):
            trip = self.of(b if a == self._own else a)
            if trip is not None:
                return trip.smoothed_us
        here, there = self.coordinate_of(a, now_s), self.coordinate_of(b, now_s)
        if here is None or there is None:
            return None
        return round(here.estimate_ms(there) * US_PER_MS)


class _Trip:
    """One row of the table."""

    __slots__ = ("at_s", "last_us", "least_us", "samples", "smoothed_us", "turned_s", "variation_us")

    def __init__(self) -> None:
        self.samples = 0
        self.last_us = self.smoothed_us = self.variation_us = self.at_s = self.turned_s = 0.0
        self.least_us = [math.inf, math.inf]
        """Of the present stretch of time and of the one before."""

    def take(self, rtt_us: float, now_s: float) -> None:
        if not self.samples:
            self.smoothed_us, self.variation_us, self.turned_s = rtt_us, rtt_us / 2, now_s
        else:
            self.variation_us += (abs(rtt_us - self.smoothed_us) - self.variation_us) / 4
            self.smoothed_us += (rtt_us - self.smoothed_us) / 8
        if now_s - self.turned_s >= MINIMUM_S:
            is_recent = now_s - self.turned_s < 2 * MINIMUM_S
            self.least_us = [math.inf, self.least_us[0] if is_recent else math.inf]
            self.turned_s = now_s
        self.least_us[0] = min(self.least_us[0], rtt_us)
        self.samples += 1
        self.last_us, self.at_s = rtt_us, now_s

    def describe(self) -> RoundTrip:
        return RoundTrip(
            smoothed_us=round(self.smoothed_us),
            variation_us=round(self.variation_us),
            minimum_us=round(min(self.least_us)),
            samples=self.samples,
            at_s=self.at_s,
        )
