"""Where bidders are: what travels, what is believed, what light forbids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.actor.handle import handle_of_peer
from dms.ensemble.config import LocationConstraints
from dms.identity.ids import peer_id_of
from dms.network.coordinates import DIMENSIONS, ORIGIN, Coordinate
from dms.network.latency import RoundTrip
from dms.orchestrator.bidding.bid import Bid, StatedCoordinate, StatedPlace
from dms.orchestrator.bidding.whereabouts import (
    coordinate_of_bid,
    doubt_about,
    judged,
    place_of_bid,
    state_coordinate,
    state_place,
)
from dms.orchestrator.matching import Problem, Reasons, Rule, Wanted, offers_of
from dms.resources.places import place_of
from dms.testing.actors import key_of
from dms.types.ids import PeerID
from dms.types.places import Place
from dms.types.resources import Location, Resources

BERLIN, TOKYO = Location(country="DE", city="Berlin"), Location(country="JP", city="Tokyo")
HANDLE = handle_of_peer(peer_id_of(key_of("anna").public))
HERE = place_of(BERLIN)
amount = st.floats(-20_000, 20_000)


def bid(location: Location, **more: object) -> Bid:
    return Bid(node_id="n1", peer=HANDLE.addr.host, handle=HANDLE, location=location, **more)  # type: ignore[arg-type]


class Measured:
    """What a node knows that measured one round trip, or none."""

    def __init__(self, rtt_ms: float | None) -> None:
        self.coordinate = ORIGIN
        self._us = None if rtt_ms is None else round(rtt_ms * 1000)

    def of(self, _peer: PeerID) -> RoundTrip | None:
        return None if self._us is None else RoundTrip(self._us, 0, self._us, 1, 0.0)

    def table(self) -> dict[PeerID, RoundTrip]:
        return {}

    def coordinate_of(self, _peer: PeerID) -> Coordinate | None:
        return None

    def estimate_us(self, _a: PeerID, _b: PeerID) -> int | None:
        return None


@given(st.tuples(*[amount] * DIMENSIONS), st.floats(0, 5_000), st.floats(0, 0.99))
def test_a_coordinate_travels_to_a_microsecond(vector: tuple[float, ...], height_ms: float, error: float) -> None:
    stated = state_coordinate(Coordinate(vector, height_ms, error))
    assert stated is not None
    back = coordinate_of_bid(bid(BERLIN, coordinate=stated))
    assert back is not None
    assert back.vector == pytest.approx(vector, abs=1e-3)
    assert back.height_ms == pytest.approx(height_ms, abs=1e-3)


def test_a_coordinate_that_is_worth_nothing_is_not_told() -> None:
    assert state_coordinate(Coordinate((0.0,) * DIMENSIONS, 1.0, 1.5)) is None
    assert state_place(None) is None


@pytest.mark.parametrize(
    "stated",
    [
        StatedCoordinate(vector_us=(10**30,) * DIMENSIONS),
        StatedCoordinate(vector_us=(1,)),
        StatedCoordinate(vector_us=(1,) * DIMENSIONS, height_us=-1),
        StatedCoordinate(vector_us=(1,) * DIMENSIONS, height_us=10**400),
        StatedCoordinate(vector_us=(1,) * DIMENSIONS, error=10**400),
    ],
)
def test_a_coordinate_that_cannot_be_counts_for_nothing(stated: StatedCoordinate) -> None:
    assert coordinate_of_bid(bid(BERLIN, coordinate=stated)) is None


def test_a_position_is_more_exact_than_a_city_and_nonsense_is_none() -> None:
    assert place_of_bid(bid(BERLIN)) == HERE
    stated = state_place(Place(52.5, 13.3, 10.0))
    assert place_of_bid(bid(BERLIN, place=stated)) == Place(52.5, 13.3, 10.0)
    assert place_of_bid(bid(BERLIN, place=StatedPlace(latitude=400.0, longitude=0.0))) == HERE
    assert place_of_bid(bid(Location())) is None


def test_who_answers_faster_than_light_is_not_where_it_says() -> None:
    assert not doubt_about(bid(TOKYO), HERE, 60.0)
    assert doubt_about(bid(TOKYO), HERE, 10.0).startswith(
        "it says JP, Tokyo, but answered in 10.0 ms, and light takes 5"
    )
    assert not doubt_about(bid(TOKYO), None, 10.0)
    assert not doubt_about(bid(TOKYO), HERE, None)
    assert not doubt_about(bid(Location()), HERE, 0.0)


def test_a_position_outside_of_what_is_said_is_a_contradiction() -> None:
    stated = StatedPlace(latitude=35.69, longitude=139.69)
    assert "a position" in doubt_about(bid(BERLIN, place=stated), None, None)
    assert not doubt_about(bid(BERLIN, place=StatedPlace(latitude=52.6, longitude=13.5)), None, None)


def test_the_receiver_knows_the_round_trip_by_measurement_or_else_by_coordinates() -> None:
    assert judged(bid(BERLIN), Measured(20.0), HERE).latency_us == 20_000
    near = StatedCoordinate(vector_us=(9_000, *[0] * (DIMENSIONS - 1)), error=100)
    table = Measured(None)
    assert judged(bid(BERLIN, coordinate=near), table, HERE).latency_us == 0, "we do not know where we are"
    table.coordinate = Coordinate((0.0,) * DIMENSIONS, 1.0, 0.1)
    assert judged(bid(BERLIN, coordinate=near), table, HERE).latency_us == 10_000


def test_a_liar_gets_no_node_that_asks_for_a_place_and_bounds_no_edge() -> None:
    lying = judged(bid(TOKYO, free=Resources()), Measured(10.0), HERE)
    wanted = Wanted("n1", Resources(), location=LocationConstraints(accept=(Location(country="JP"),)))
    (offer,) = offers_of([wanted], [lying])
    assert offer.place is None
    assert offer.latency_ms == 10.0
    (refusal,) = Reasons(Problem([wanted], [offer])).why_not("n1", lying.peer)
    assert refusal.rule is Rule.LOCATION
    assert "but answered in 10.0 ms" in refusal.detail
    anywhere = Wanted("n1", Resources())
    assert not Reasons(Problem([anywhere], [offer])).why_not("n1", lying.peer)
