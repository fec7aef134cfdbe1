"""Network coordinates: they come near what is measured, and nobody who lies moves others far."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.network.coordinates import (
    DIMENSIONS,
    LEARNS,
    MAX_DISTANCE_MS,
    MAX_ERROR,
    MAX_HEIGHT_MS,
    MAX_RTT_MS,
    MIN_HEIGHT_MS,
    ORIGIN,
    Coordinate,
    Vivaldi,
)

Trip = Callable[[int, int], float]
Tell = Callable[[int, Coordinate, float], tuple[Coordinate, float]]

REGIONS_MS = {
    ("eu", "eu"): 12.0,
    ("us", "us"): 30.0,
    ("ap", "ap"): 60.0,
    ("eu", "us"): 95.0,
    ("ap", "us"): 160.0,
    ("ap", "eu"): 230.0,
}
"""As between data centres of three continents."""


def plane(count: int, rng: random.Random) -> Trip:
    """Points in a plane, each with an access line of its own."""
    points = [(rng.uniform(0, 100), rng.uniform(0, 100), rng.uniform(0.5, 4)) for _ in range(count)]

    def trip(p: int, q: int) -> float:
        (x, y, h), (u, v, g) = points[p], points[q]
        return math.hypot(x - u, y - v) + h + g

    return trip


def matrix(count: int, rng: random.Random) -> Trip:
    """No geometry: a table of regions, and ten percent up or down for each pair."""
    where = [rng.choice(["eu", "us", "ap"]) for _ in range(count)]
    factors = {(p, q): rng.uniform(0.9, 1.1) for p in range(count) for q in range(p)}

    def trip(p: int, q: int) -> float:
        first, second = sorted((where[p], where[q]))
        return REGIONS_MS[first, second] * factors[max(p, q), min(p, q)]

    return trip


def settle(count: int, trip: Trip, seed: int, *, rounds: int = 200, tell: Tell | None = None) -> list[Vivaldi]:
    """Everybody asks somebody, round after round; what the last one tells goes through ``tell``."""
    rng = random.Random(seed)
    nodes = [Vivaldi(random.Random(f"{seed}/{number}")) for number in range(count)]
    for turn in range(rounds):
        for number, node in enumerate(nodes):
            other = rng.choice([one for one in range(count) if one != number])
            where, rtt_ms = nodes[other].coordinate, trip(number, other) * rng.uniform(1.0, 1.1)
            if tell is not None and number == count - 1:
                continue
            if tell is not None and other == count - 1:
                where, rtt_ms = tell(turn, where, rtt_ms)
            node.observe(other, where, rtt_ms)
    return nodes


def errors(nodes: list[Vivaldi], trip: Trip) -> list[float]:
    """How wrong each pair's estimate is."""
    pairs = [(p, q) for p in range(len(nodes)) for q in range(p)]
    return [abs(nodes[p].coordinate.estimate_ms(nodes[q].coordinate) - trip(p, q)) / trip(p, q) for p, q in pairs]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 16), st.sampled_from([plane, matrix]))
def test_estimates_come_near_what_is_measured(
    seed: int, count: int, make: Callable[[int, random.Random], Trip]
) -> None:
    trip = make(count, random.Random(seed))
    nodes = settle(count, trip, seed)
    assert statistics.median(errors(nodes, trip)) < 0.2
    assert statistics.median(node.coordinate.error for node in nodes) < 0.3


def test_the_same_seed_gives_the_same_coordinates() -> None:
    trip = plane(12, random.Random(7))
    first, second = ([node.coordinate for node in settle(12, trip, 7)] for _ in range(2))
    assert first == second


LIES: dict[str, Tell] = {
    "far away": lambda _turn, _where, rtt_ms: (Coordinate((19_000.0,) * DIMENSIONS), rtt_ms),
    "jumping": lambda turn, _where, rtt_ms: (Coordinate(((-1) ** turn * 5_000.0, 0, 0, 0)), rtt_ms),
    "slow on purpose": lambda turn, where, rtt_ms: (where, rtt_ms + (2_000.0 if turn > 100 else 0.0)),
    "a high line": lambda _turn, _where, rtt_ms: (Coordinate((0.0,) * DIMENSIONS, MAX_HEIGHT_MS), rtt_ms),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("seed", range(3))
def test_one_liar_among_ten_does_not_pull_the_others_far(seed: int, lie: str) -> None:
    trip = plane(10, random.Random(seed))
    nodes = settle(10, trip, seed, tell=LIES[lie])[:9]
    assert statistics.median(errors(nodes, trip)) < 0.15
    assert max(math.hypot(*node.coordinate.vector) for node in nodes) < 250  # the plane measures 100 × 100


numbers = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.lists(numbers, max_size=6), numbers, numbers, numbers), max_size=30), st.integers(0, 99))
def test_whatever_is_told_the_own_coordinate_stays_sane_and_steps_are_bounded(
    told: list[tuple[list[float], float, float, float]], seed: int
) -> None:
    node = Vivaldi(random.Random(seed))
    for number, (vector, height_ms, error, rtt_ms) in enumerate(told):
        before = node.coordinate
        counted = node.observe(number % 4, Coordinate(tuple(vector), height_ms, error), rtt_ms)
        assert node.coordinate.is_sane
        if not counted:
            assert node.coordinate == before
            continue
        assert math.dist(before.vector, node.coordinate.vector) <= LEARNS * MAX_RTT_MS * 1.01


@given(st.floats(1.0, 500.0))
def test_a_step_is_at_most_a_part_of_the_measured_round_trip(rtt_ms: float) -> None:
    node = Vivaldi(random.Random(1))
    node.observe("liar", Coordinate((MAX_DISTANCE_MS,) * DIMENSIONS), rtt_ms)
    assert math.hypot(*node.coordinate.vector) <= LEARNS * rtt_ms + 1e-6


def test_nobody_is_left_out_before_enough_are_known_and_whoever_fits_again_counts_again() -> None:
    node = Vivaldi(random.Random(1))
    honest = [Coordinate((10.0 * n, 0.0, 0.0, 0.0), MIN_HEIGHT_MS, 0.1) for n in range(6)]
    for _ in range(60):
        for number, where in enumerate(honest):
            node.observe(number, where, 1 + 10.0 * number)
    assert not node.observe("odd", Coordinate((9_000.0, 0.0, 0.0, 0.0)), 20.0)
    counted = [node.observe("odd", Coordinate((20.0, 0.0, 0.0, 0.0), MIN_HEIGHT_MS, 0.1), 21.0) for _ in range(40)]
    assert not counted[0]
    assert counted[-1]


def test_an_estimate_with_its_errors_taken_off_is_a_cautious_one() -> None:
    a, b = Coordinate((0.0, 0.0), 1.0, 0.1), Coordinate((3.0, 4.0), 2.0, 0.2)
    assert a.estimate_ms(b) == 8.0
    assert a.least_ms(b) == pytest.approx(5.6)
    assert a.least_ms(Coordinate((3.0, 4.0), 2.0, MAX_ERROR)) == 0.0
    assert ORIGIN.is_sane
