from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.resources.capabilities import capabilities

from dms.resources.capability import HardwareCapability, Locality, Price, Time
from dms.resources.capability_comparison import unmet
from dms.resources.errors import InvalidResources
from dms.resources.preferences import Preference, Strength, cost, rank

Offers = Mapping[str, HardwareCapability]
offers = st.dictionaries(st.sampled_from("abcdef"), capabilities, max_size=5)


def offer(hourly: float, hours: int = 10, currency: str = "NTX", **more: object) -> HardwareCapability:
    plain = HardwareCapability(
        price=(Price(currency=currency, currency_per_hour=hourly),), time=Time(units="hours", max_time=hours)
    )
    return msgspec.structs.replace(plain, **more)


fitting = st.dictionaries(
    st.sampled_from("abcdef"), st.builds(offer, st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=5
)


def wanted(price: int = 0, time: int = 0) -> HardwareCapability:
    return HardwareCapability(
        price=(Price(currency="NTX", currency_per_hour=9.0, preference=price),),
        time=Time(units="hours", max_time=1, preference=time),
    )


@settings(max_examples=25)
@given(offers, capabilities)
def test_ranked_is_what_will_do_each_once_best_first(found: Offers, want: HardwareCapability) -> None:
    ranked = rank(found, want)
    assert sorted(one.key for one in ranked) == sorted(key for key, one in found.items() if not unmet(one, want))
    scores = [one.score for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)


@settings(max_examples=25)
@given(fitting, st.integers(1, 9))
def test_where_only_the_price_weighs_the_cheapest_comes_first(found: Offers, weight: int) -> None:
    want = wanted(price=weight)
    costs = [cost(found[one.key], want) or 0.0 for one in rank(found, want)]
    assert costs == sorted(costs)
    assert len(costs) == len(found)


@settings(max_examples=25)
@given(fitting, st.integers(1, 9), st.integers(0, 9), st.integers(1, 9))
def test_only_the_ratio_of_weights_counts(found: Offers, price: int, time: int, factor: int) -> None:
    first = rank(found, wanted(price, time))
    again = rank(found, wanted(price * factor, time * factor))
    assert [one.score for one in first] == pytest.approx([one.score for one in again])


@settings(max_examples=25)
@given(fitting, st.data())
def test_an_offer_that_gets_cheaper_never_ranks_lower(found: Offers, data: st.DataObject) -> None:
    want = wanted(2, 1)
    before = [one.key for one in rank(found, want)]
    key = data.draw(st.sampled_from(before))
    (price,) = found[key].price
    cheaper = msgspec.structs.replace(
        price, currency_per_hour=price.currency_per_hour / 2, total_per_job=price.total_per_job / 2
    )
    after = [one.key for one in rank({**found, key: msgspec.structs.replace(found[key], price=(cheaper,))}, want)]
    assert after.index(key) <= before.index(key)


def test_weights_decide_between_price_and_time() -> None:
    found = {"cheap": offer(1, hours=2), "long": offer(3, hours=20)}
    assert [one.key for one in rank(found, wanted(price=3, time=1))] == ["cheap", "long"]
    assert [one.key for one in rank(found, wanted(price=1, time=3))] == ["long", "cheap"]
    assert rank(found, wanted())[0].score > 0.5


def test_equally_good_offers_stay_in_the_order_they_came_in() -> None:
    found = {key: offer(1) for key in ("x", "a", "m")}
    assert [one.key for one in rank(found, wanted())] == ["x", "a", "m"]


def test_a_soft_part_counts_and_a_hard_one_decides() -> None:
    here = (Locality(kind="country", name="DE"),)
    found = {"there": offer(1), "here": offer(2, locality=here)}
    want = msgspec.structs.replace(wanted(), locality=here)
    assert [one.key for one in rank(found, want)] == ["here"]
    soft = Preference("locality", Strength.SOFT, weight=0.1)
    assert [one.key for one in rank(found, want, [soft])] == ["there", "here"]
    strong = Preference("locality", Strength.SOFT, weight=5)
    assert [one.key for one in rank(found, want, [strong])] == ["here", "there"]
    assert [one.key for one in rank(found, want, [Preference("locality")])] == ["here"]


def test_the_cost_is_that_of_the_job_in_a_currency_that_is_paid_in() -> None:
    price = (
        Price(currency="NTX", currency_per_hour=2.0, total_per_job=5.0),
        Price(currency="ADA", currency_per_hour=0.1),
    )
    machine = HardwareCapability(price=price)
    job = HardwareCapability(price=(Price(currency="NTX"),), time=Time(units="minutes", max_time=90))
    assert cost(machine, job) == 8.0
    assert cost(machine, HardwareCapability()) == 0.1
    assert cost(machine, HardwareCapability(price=(Price(currency="EUR"),))) is None
    assert cost(HardwareCapability(), job) is None


def test_nothing_to_choose_from_is_no_error() -> None:
    assert rank({}, wanted()) == ()
    free = {"a": HardwareCapability(), "b": HardwareCapability()}
    assert [one.score for one in rank(free, HardwareCapability())] == [1.0, 1.0]


def test_preferences_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidResources, match='there is no part "colour"'):
        Preference("colour")
    for weight in (-1, float("nan"), float("inf")):
        with pytest.raises(InvalidResources, match="invalid weight"):
            Preference("price", weight=weight)
