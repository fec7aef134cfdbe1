"""Where a bidder is: what it says, what that means on earth and in the space of latencies, and whether it can be true. Pure.

A bid says city and country, as the original's does; ours may add a position and a coordinate. Whoever receives the bid has
measured the round trip to the bidder, or can estimate it. A bidder that answers faster than light could come and go is not
where it says, and what nodes demand of its place it cannot promise.
"""

from __future__ import annotations

import msgspec

from dms.network.coordinates import MAX_DISTANCE_MS, MAX_ERROR, MAX_HEIGHT_MS, Coordinate
from dms.network.latency import Latency
from dms.orchestrator.bidding.bid import Bid, StatedCoordinate, StatedPlace
from dms.resources.places import place_of
from dms.types.places import Place

US_PER_MS = 1000.0
UNSURE = 0.8
"""A coordinate with a larger error is no basis for an estimate."""
_MILLE = 1000


def state_place(place: Place | None) -> StatedPlace | None:
    """A position, as a bid says it."""
    if place is None:
        return None
    return StatedPlace(latitude=place.latitude, longitude=place.longitude, radius_km=place.radius_km)


def state_coordinate(coordinate: Coordinate) -> StatedCoordinate | None:
    """A coordinate, as a bid says it; nothing as long as it is worth nothing."""
    if not coordinate.is_sane or coordinate.error >= 1:
        return None
    return StatedCoordinate(
        vector_us=tuple(round(x * US_PER_MS) for x in coordinate.vector),
        height_us=round(coordinate.height_ms * US_PER_MS),
        error=round(coordinate.error * _MILLE),
    )


def place_of_bid(bid: Bid) -> Place | None:
    """Where the bidder says that it is: the position, if it states one, else anywhere in its city or country."""
    stated = bid.place
    if stated is not None:
        place = Place(stated.latitude, stated.longitude, stated.radius_km)
        if place.is_sane:
            return place
    return place_of(bid.location)


def coordinate_of_bid(bid: Bid) -> Coordinate | None:
    """The bidder's coordinate, if it says one that makes sense."""
    stated = bid.coordinate
    if stated is None or not 0 <= stated.height_us <= MAX_HEIGHT_MS * US_PER_MS:
        return None
    if (
        any(abs(x) > MAX_DISTANCE_MS * US_PER_MS for x in stated.vector_us)
        or not 0 <= stated.error <= MAX_ERROR * _MILLE
    ):
        return None
    found = Coordinate(
        tuple(x / US_PER_MS for x in stated.vector_us), stated.height_us / US_PER_MS, stated.error / _MILLE
    )
    return found if found.is_sane else None


def judged(bid: Bid, latency: Latency, here: Place | None) -> Bid:
    """The bid with what its receiver knows of the bidder's whereabouts; ``here`` is where the receiver is, if known."""
    trip = latency.of(bid.peer)
    least_ms = trip.minimum_us / US_PER_MS if trip is not None else None
    return msgspec.structs.replace(
        bid,
        latency_us=trip.smoothed_us if trip is not None else _estimate_us(bid, latency.coordinate),
        doubt=doubt_about(bid, here, least_ms),
    )


def doubt_about(bid: Bid, here: Place | None, least_rtt_ms: float | None) -> str:
    """Why the bidder cannot be where it says; empty if it can. ``least_rtt_ms``: the shortest round trip to it."""
    said = place_of(bid.location)
    place = place_of_bid(bid)
    if place is None:
        return ""
    name = ", ".join(filter(None, (bid.location.country, bid.location.city))) or str(place)
    if said is not None and place.least_km(said) > 0:
        return f"it says {name[:80]}, and a position {place.least_km(said):.0f} km from there"
    if here is None or least_rtt_ms is None:
        return ""
    light_ms = here.least_rtt_ms(place)
    if least_rtt_ms >= light_ms:
        return ""
    return (
        f"it says {name[:80]}, but answered in {least_rtt_ms:.1f} ms, and light takes {light_ms:.1f} ms there and back"
    )


def _estimate_us(bid: Bid, own: Coordinate) -> int:
    theirs = coordinate_of_bid(bid)
    if theirs is None or theirs.error > UNSURE or own.error > UNSURE:
        return 0
    return round(own.estimate_ms(theirs) * US_PER_MS)
