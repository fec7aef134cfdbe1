"""The table of round trips: what it makes of measurements, and what it keeps."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from dms.network.coordinates import ORIGIN, Coordinate
from dms.network.latency import KEPT_S, MAX_PEERS, MINIMUM_S, LatencyTable
from dms.types.ids import PeerID

OWN, ANNA, BEN = PeerID("own"), PeerID("anna"), PeerID("ben")


def table() -> LatencyTable:
    return LatencyTable(OWN, random.Random(1))


def test_the_first_round_trip_is_the_smoothed_one_and_half_of_it_varies() -> None:
    found = table()
    found.measured(ANNA, 0.02, 5.0)
    trip = found.of(ANNA)
    assert trip is not None
    assert (trip.smoothed_us, trip.variation_us, trip.minimum_us) == (20_000, 10_000, 20_000)
    assert (trip.samples, trip.at_s) == (1, 5.0)
    assert found.of(BEN) is None


@given(st.lists(st.floats(1e-5, 2.0), min_size=2, max_size=50))
def test_the_smoothed_one_lies_between_the_shortest_and_the_longest(rtts_s: list[float]) -> None:
    found = table()
    for at_s, rtt_s in enumerate(rtts_s):
        found.measured(ANNA, rtt_s, float(at_s))
    trip = found.of(ANNA)
    assert trip is not None
    assert min(rtts_s) * 1e6 - 1 <= trip.smoothed_us <= max(rtts_s) * 1e6 + 1
    assert trip.minimum_us == round(min(rtts_s) * 1e6)


def test_the_shortest_one_is_forgotten_after_ten_minutes() -> None:
    found = table()
    found.measured(ANNA, 0.001, 0.0)
    for turn in range(1, 5):
        found.measured(ANNA, 0.05, turn * MINIMUM_S)
    trip = found.of(ANNA)
    assert trip is not None
    assert trip.minimum_us == 50_000


def test_what_is_no_time_is_not_taken() -> None:
    found = table()
    for rtt_s in (-1.0, math.nan, math.inf):
        found.measured(ANNA, rtt_s, 0.0)
    assert found.of(ANNA) is None


def test_what_others_tell_is_bounded_in_number_and_age() -> None:
    found = table()
    for number in range(MAX_PEERS + 10):
        found.measured(PeerID(str(number)), 0.01, 0.0)
        found.told(PeerID(str(number)), ORIGIN, 0.0)
    assert found.of(PeerID("0")) is None
    assert found.coordinate_of(PeerID("0"), 0.0) is None
    last = PeerID(str(MAX_PEERS))
    assert found.coordinate_of(last, KEPT_S - 1) == ORIGIN
    assert found.coordinate_of(last, KEPT_S + 1) is None


def test_a_coordinate_without_a_measurement_moves_nothing_and_nonsense_is_not_kept() -> None:
    found = table()
    assert not found.told(ANNA, Coordinate((5.0, 0.0, 0.0, 0.0)), 0.0)
    assert found.coordinate == ORIGIN
    assert not found.told(BEN, Coordinate((math.nan, 0.0, 0.0, 0.0)), 0.0)
    assert found.coordinate_of(BEN, 0.0) is None
    assert not found.told(OWN, Coordinate((5.0, 0.0, 0.0, 0.0)), 0.0)


def test_pairs_with_ourselves_are_measured_others_are_guessed() -> None:
    found = table()
    assert found.estimate_us(ANNA, BEN, 0.0) is None
    found.measured(ANNA, 0.02, 0.0)
    found.told(ANNA, Coordinate((3.0, 0.0, 0.0, 0.0), 1.0), 0.0)
    found.told(BEN, Coordinate((0.0, 4.0, 0.0, 0.0), 1.0), 0.0)
    assert found.estimate_us(OWN, ANNA, 0.0) == found.estimate_us(ANNA, OWN, 0.0) == 20_000
    assert found.estimate_us(ANNA, BEN, 0.0) == 7_000
    assert found.estimate_us(OWN, BEN, 0.0) is not None
    assert found.estimate_us(ANNA, ANNA, 0.0) == 0
