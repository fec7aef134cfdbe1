"""Token buckets: the rate holds exactly, and nobody gets a fresh bucket by crowding the table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.actor.rates import Buckets, Rate, RateLimiter, Rates, Traffic, traffic_of


class Model:
    """The plainest token bucket: a number of tokens that grows with time."""

    def __init__(self, rate: Rate) -> None:
        self.rate, self.tokens, self.at_s = rate, rate.burst, 0.0

    def take(self, now_s: float) -> bool:
        self.tokens = min(self.rate.burst, self.tokens + (now_s - self.at_s) * self.rate.per_s)
        self.at_s = now_s
        if self.tokens < 1 - 1e-6:
            return False
        self.tokens -= 1
        return True


@given(
    burst=st.integers(1, 20),
    # steps of 1/8 s at rates of powers of two: sums are exact, in the model too
    per_s=st.sampled_from([0.5, 1.0, 4.0, 16.0]),
    steps=st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), max_size=120),
)
def test_buckets_do_what_the_simplest_model_does(burst: int, per_s: float, steps: list[tuple[int, str]]) -> None:
    rate = Rate(per_s, burst)
    buckets, models, now_s = Buckets[str](rate), {key: Model(rate) for key in "abc"}, 0.0
    for wait, key in steps:
        now_s += wait / 8
        assert buckets.take(key, now_s) == models[key].take(now_s)


def test_an_empty_bucket_is_not_refilled_by_crowding_the_table() -> None:
    buckets = Buckets[str](Rate(1.0, 2.0), limit=3)
    assert [buckets.take("flood", 0.0) for _ in range(3)] == [True, True, False]
    for number in range(1000):
        buckets.take(f"other name {number}", 0.0)
        assert not buckets.take("flood", 0.0)
    assert len(buckets) == 3


def test_newcomers_share_one_bucket_while_the_table_is_full() -> None:
    buckets = Buckets[str](Rate(1.0, 2.0), limit=1)
    assert buckets.take("known", 0.0)
    assert [buckets.take(f"new {n}", 0.0) for n in range(4)] == [True, True, False, False]
    assert buckets.take("known", 0.0), "who is in the table has his own"


def test_full_buckets_are_forgotten_for_newcomers_at_most_once_a_second() -> None:
    buckets = Buckets[str](Rate(10.0, 1.0), limit=2)
    assert buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)
    assert buckets.take("c", 0.5), "a and b are full again and make room"
    assert len(buckets) == 1
    buckets.take("d", 0.5)
    assert buckets.take("e", 0.7), "no room and no search yet: the shared bucket"
    assert len(buckets) == 2
    assert buckets.take("f", 1.6)
    assert len(buckets) == 1


def test_each_class_has_its_own_bucket_and_our_own_host_none() -> None:
    one = Rate(1.0, 1.0)
    limiter = RateLimiter[str](Rates(one, one, one, one), exempt="us")
    for traffic in Traffic:
        assert limiter.allow("peer", traffic, 0.0)
        assert not limiter.allow("peer", traffic, 0.0)
        assert all(limiter.allow("us", traffic, 0.0) for _ in range(10))


@pytest.mark.parametrize(
    ("behaviour", "topic", "expected"),
    [
        ("/public/hello", "", Traffic.PUBLIC),
        ("/publicity", "", Traffic.PRIVATE),
        ("/dms/node", "", Traffic.PRIVATE),
        ("/public/hello", "/nunet/hello", Traffic.BROADCAST),
    ],
)
def test_the_class_follows_the_path_and_the_topic(behaviour: str, topic: str, expected: Traffic) -> None:
    assert traffic_of(behaviour, topic) is expected


def test_the_defaults_let_a_thousand_allocations_of_one_machine_report_at_once() -> None:
    limiter = RateLimiter[str]()
    assert all(limiter.allow("provider", Traffic.PRIVATE, 0.0) for _ in range(4 * 1000))


@pytest.mark.parametrize(("per_s", "burst"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.5)])
def test_a_rate_that_lets_nothing_through_is_refused(per_s: float, burst: float) -> None:
    with pytest.raises(ValueError, match="rate must be positive"):
        Rate(per_s, burst)
