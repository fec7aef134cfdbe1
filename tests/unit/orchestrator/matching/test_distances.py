"""What is known of the ways between peers, and what follows from it."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.orchestrator.matching import Coordinate, Measurements, Offer, Place, Weights
from dms.orchestrator.matching.bits import flags, members
from dms.orchestrator.matching.distances import UNKNOWN_RTT_MS, UNMEASURED_MS, Distances, Relation, impostors
from dms.types.ids import PeerID


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 700), max_size=60))
def test_bits_are_the_members(chosen: set[int]) -> None:
    mask = sum(1 << i for i in chosen)
    assert members(mask) == tuple(sorted(chosen))
    assert [i for i, flag in enumerate(flags(mask)) if flag] == sorted(chosen)


def test_measurements_have_no_direction_and_can_be_forgotten() -> None:
    a, b, c = PeerID("a"), PeerID("b"), PeerID("c")
    known = Measurements()
    known.record(b, a, rtt_ms=7)
    known.record(a, b, rtt_ms=9, bandwidth_bps=100)
    known.record(b, a, bandwidth_bps=80)
    known.record(a, c, rtt_ms=1)
    assert (known.rtt_ms(b, a), known.bandwidth_bps(a, b)) == (9, 80)
    assert sorted(known.pairs()) == [(a, b), (a, c)]
    known.forget(b)
    assert known.rtt_ms(a, b) is None
    assert known.bandwidth_bps(a, b) is None
    assert known.rtt_ms(c, a) == 1


def test_light_needs_its_time_on_the_great_circle() -> None:
    assert Place(52.52, 13.4).distance_km(Place(48.86, 2.35)) == pytest.approx(877, abs=1)
    assert Place(0, 0).distance_km(Place(0, 180)) == pytest.approx(20015, abs=1)
    assert Place(10, 20).distance_km(Place(10, 20)) == pytest.approx(0, abs=0.1)
    offers = [Offer(PeerID("a"), frozenset(), place=Place(0, 0)), Offer(PeerID("b"), frozenset(), place=Place(0, 180))]
    distances = Distances(offers, Measurements(), Weights(), is_trusting=False)
    assert distances.mask(0, 133.5) == 0b01
    assert distances.mask(0, 133.6) == 0b11


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_pairs_that_keep_a_bound_are_those_and_it_has_no_direction(seed: int, is_trusting: bool) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 40)
    offers = [
        Offer(
            PeerID(f"p{i:02}"),
            frozenset(),
            place=rng.choice([None, Place(rng.uniform(-80, 80), rng.uniform(-180, 180))]),
            coordinate=rng.choice([None, Coordinate((rng.uniform(0, 90), rng.uniform(0, 90)), rng.uniform(0, 5))]),
        )
        for i in range(count)
    ]
    known = Measurements()
    for a, b in itertools.combinations(offers, 2):
        if rng.random() < 0.5:
            known.record(a.peer, b.peer, rtt_ms=rng.uniform(1, 120), bandwidth_bps=rng.choice([10, 20]))
    distances = Distances(offers, known, Weights(), is_trusting=is_trusting)
    liars = impostors(offers, known)
    rtt_ms = rng.uniform(10, 120)
    relation = Relation(distances, rtt_ms, 15, (1 << count) - 1)
    for p, q in itertools.product(range(count), repeat=2):
        a, b = offers[p], offers[q]
        value = known.rtt_ms(a.peer, b.peer)
        if value is None:
            value = 0.0
            if a.place and b.place and liars.isdisjoint((a.peer, b.peer)):
                value = a.place.distance_km(b.place) / 299_792.458 * 2000
            if is_trusting and a.coordinate and b.coordinate:
                value = max(value, a.coordinate.estimate_ms(b.coordinate))
        bandwidth = known.bandwidth_bps(a.peer, b.peer)
        is_kept = p == q or (value <= rtt_ms and (bandwidth is None or bandwidth >= 15))
        assert relation[p] >> q & 1 == is_kept
        assert distances.points(p)[q] == distances.points(q)[p]


def test_an_unknown_way_counts_as_a_middling_one() -> None:
    offers = [Offer(PeerID(name), frozenset()) for name in "abc"]
    known = Measurements()
    known.record(PeerID("a"), PeerID("b"), rtt_ms=30)
    distances = Distances(offers, known, Weights(), is_trusting=False)
    assert distances.points(0) == [0, 300, (UNMEASURED_MS + UNKNOWN_RTT_MS) * 10]


def test_among_those_that_were_not_measured_the_nearer_one_by_its_coordinate_comes_first() -> None:
    offers = [Offer(PeerID(f"p{x}"), frozenset(), coordinate=Coordinate((float(x),))) for x in (0, 20, 40)]
    known = Measurements()
    known.record(PeerID("p0"), PeerID("p40"), rtt_ms=40)
    points = Distances(offers, known, Weights(), is_trusting=True).points(0)
    assert points == [0, (UNMEASURED_MS + 20) * 10, 400], "but whoever was measured comes before"


def test_coarse_tables_for_many_peers_give_the_same_answers() -> None:
    rng = random.Random(1)
    offers = [Offer(PeerID(f"p{i:02}"), frozenset()) for i in range(30)]
    known = Measurements()
    for a, b in itertools.combinations(offers, 2):
        known.record(a.peer, b.peer, rtt_ms=rng.randint(1, 50))
    fine = Distances(offers, known, Weights(), is_trusting=False)
    coarse = Distances(offers, known, Weights(), is_trusting=False, table_bytes=500)
    assert all(fine.mask(p, bound) == coarse.mask(p, bound) for p in range(30) for bound in range(0, 55, 3))


BERLIN, TOKYO = Place(52.52, 13.41), Place(35.69, 139.69)


def test_light_counts_from_the_nearest_points_of_two_places() -> None:
    def mask(radius_km: float, rtt_ms: float) -> int:
        wide = Place(BERLIN.latitude, BERLIN.longitude, radius_km)
        offers = [Offer(PeerID("a"), frozenset(), place=wide), Offer(PeerID("b"), frozenset(), place=TOKYO)]
        return Distances(offers, Measurements(), Weights(), is_trusting=False).mask(0, rtt_ms)

    assert BERLIN.least_rtt_ms(TOKYO) == pytest.approx(59.5, abs=0.2)
    assert mask(0.0, 59.0) == 0b01
    assert mask(100.0, 59.0) == 0b11
    assert mask(20_000.0, 0.1) == 0b11


def test_a_coordinate_is_a_bound_only_as_far_as_it_can_be_trusted() -> None:
    def mask(error: float, *, is_trusting: bool) -> int:
        a, b = Coordinate((0.0,), 0.0, error), Coordinate((100.0,), 0.0, error)
        offers = [Offer(PeerID("a"), frozenset(), coordinate=a), Offer(PeerID("b"), frozenset(), coordinate=b)]
        return Distances(offers, Measurements(), Weights(), is_trusting=is_trusting).mask(0, 70.0)

    assert mask(0.1, is_trusting=True) == 0b01
    assert mask(0.2, is_trusting=True) == 0b11
    assert mask(0.1, is_trusting=False) == 0b11


def test_who_is_nearer_to_others_than_light_allows_is_not_where_it_says() -> None:
    peers = [PeerID(name) for name in "abcd"]
    offers = [Offer(peer, frozenset(), place=BERLIN) for peer in peers[:3]]
    offers.append(Offer(peers[3], frozenset(), place=TOKYO))
    known = Measurements()
    assert impostors(offers, known) == frozenset()
    known.record(peers[0], peers[3], rtt_ms=3)
    assert impostors(offers, known) == {peers[0], peers[3]}, "one of the two"
    known.record(peers[1], peers[3], rtt_ms=3)
    known.record(peers[0], peers[1], rtt_ms=3)
    assert impostors(offers, known) == {peers[3]}
    distances = Distances(offers, known, Weights(), is_trusting=False)
    assert distances.mask(2, 10.0) == 0b1111, "to where nobody measured it may be near after all"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_nobody_is_an_impostor_who_is_where_it_says(seed: int) -> None:
    rng = random.Random(seed)
    true = [Place(rng.uniform(-80, 80), rng.uniform(-180, 180)) for _ in range(12)]
    offers = [
        Offer(PeerID(f"p{i:02}"), frozenset(), place=Place(place.latitude, place.longitude, rng.uniform(0, 500)))
        for i, place in enumerate(true)
    ]
    known = Measurements()
    for p, q in itertools.combinations(range(12), 2):
        known.record(
            offers[p].peer, offers[q].peer, rtt_ms=true[p].least_rtt_ms(true[q]) * rng.uniform(1.0, 3.0) + 1e-6
        )
    assert impostors(offers, known) == frozenset()
