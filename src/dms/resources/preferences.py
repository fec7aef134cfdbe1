"""Choosing between offers that will do: by price and time, each with its weight, and by what is only wished for.

A part is *hard* unless a preference calls it soft: an offer that does not meet it is out. A soft part counts instead,
with the weight of its preference. Prices weigh as the requirement says (``price[].preference``), times as well
(``time.preference``); where it says nothing both weigh the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from dms.resources.capability import HardwareCapability
from dms.resources.capability_comparison import PARTS, compare_parts
from dms.resources.comparison import Comparison
from dms.resources.errors import InvalidResources

SECONDS_PER_HOUR = 3600

K = TypeVar("K", bound=Hashable)


class Strength(StrEnum):
    """Whether a part must be met or should be."""

    HARD = "Hard"
    SOFT = "Soft"


@dataclass(frozen=True, slots=True)
class Preference:
    """What one part means to whoever chooses; ``part`` is a name in :data:`~dms.resources.capability_comparison.PARTS`."""

    part: str
    strength: Strength = Strength.HARD
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise InvalidResources(f'there is no part "{self.part[:40]}"', hint=f"there are {', '.join(PARTS)}")
        if not 0 <= self.weight < float("inf"):
            raise InvalidResources(f"invalid weight: {self.weight}")


@dataclass(frozen=True, slots=True)
class Ranked(Generic[K]):
    """An offer that will do."""

    key: K
    score: float
    """From 0 to 1; 1 is the best of all offers in everything that counts."""
    parts: Mapping[str, Comparison]


def rank(
    offers: Mapping[K, HardwareCapability], wanted: HardwareCapability, preferences: Iterable[Preference] = ()
) -> tuple[Ranked[K], ...]:
    """The offers that will do, the best first; equally good ones in the order in which they were given.

    :raises InvalidResources: a version, constraint or unit of time that is none.
    """
    soft = {p.part: p.weight for p in preferences if p.strength is Strength.SOFT}
    compared = {key: compare_parts(offer, wanted) for key, offer in offers.items()}
    fitting = {
        key: parts
        for key, parts in compared.items()
        if all(found.satisfies for part, found in parts.items() if part not in soft)
    }
    costs = {key: cost(offers[key], wanted) for key in fitting}
    times = {key: offers[key].time.seconds for key in fitting}
    known = [c for c in costs.values() if c is not None]
    longest = max(times.values(), default=0)
    price_weight, time_weight = _weights(wanted)
    total = price_weight + time_weight + sum(soft.values())

    def score(key: K) -> float:
        if not total:
            return 1.0
        sum_ = price_weight * _cheapness(costs[key], known)
        sum_ += time_weight * (times[key] / longest if longest else 1.0)
        sum_ += sum(weight for part, weight in soft.items() if fitting[key][part].satisfies)
        return sum_ / total

    ranked = [Ranked(key, score(key), parts) for key, parts in fitting.items()]
    return tuple(sorted(ranked, key=lambda one: -one.score))


def cost(offer: HardwareCapability, wanted: HardwareCapability) -> float | None:
    """What the job costs there: its hours (one, where it does not tell) and its fee; the least of the currencies that it
    pays in, or the least of all where it names none. ``None``: the offer names no price that could be paid."""
    hours = wanted.time.seconds / SECONDS_PER_HOUR or 1.0
    currencies = {price.currency for price in wanted.price}
    return min(
        (
            price.currency_per_hour * hours + price.total_per_job
            for price in offer.price
            if not currencies or price.currency in currencies
        ),
        default=None,
    )


def _cheapness(mine: float | None, known: Sequence[float]) -> float:
    """1 for the cheapest, 0 for the dearest and for whoever names no price while others do."""
    if mine is None:
        return 0.0 if known else 1.0
    least, most = min(known), max(known)
    return (most - mine) / (most - least) if most > least else 1.0


def _weights(wanted: HardwareCapability) -> tuple[float, float]:
    price, time = max((p.preference for p in wanted.price), default=0), wanted.time.preference
    return (float(price), float(time)) if price or time else (1.0, 1.0)
