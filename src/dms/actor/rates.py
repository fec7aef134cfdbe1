"""How many messages a peer may send over time: token buckets per peer and class of behaviour.

:mod:`~dms.actor.limiter` bounds what runs at once; this bounds what comes at all, and is looked at before anything
costly happens. A bucket is one number: the time at which it will be full again. Once that has passed the peer is like
one that never sent anything, so only full buckets are forgotten: nobody empties the table of others, or refills his own,
by sending under many names. While the table has no room, newcomers share one bucket.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from dms.actor.limiter import PUBLIC_PREFIX

MAX_BUCKETS: Final = 65_536
PURGE_INTERVAL_S: Final = 1.0
"""A full table is searched for what may be forgotten at most this often, whatever arrives."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` at once, and ``per_s`` more each second."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError("a rate must be positive, and its burst at least one")


class Traffic(StrEnum):
    """The classes of what arrives; each peer has a bucket for each."""

    PUBLIC = "public"
    """To behaviours below ``/public/``."""
    PRIVATE = "private"
    """To all others."""
    BROADCAST = "broadcast"
    """Broadcasts, by who published them."""
    RELAYED = "relayed"
    """Broadcasts, by who passed them on: whoever it is passes on those of the whole network."""


def traffic_of(behaviour: str, topic: str = "") -> Traffic:
    """The class of a message."""
    if topic:
        return Traffic.BROADCAST
    return Traffic.PUBLIC if behaviour.startswith(PUBLIC_PREFIX) else Traffic.PRIVATE


@dataclass(frozen=True, slots=True)
class Rates:
    """What one peer may send. Generous: an orchestrator hears of a thousand allocations on one machine within seconds."""

    public: Rate = Rate(100.0, 1000.0)
    private: Rate = Rate(500.0, 5000.0)
    broadcast: Rate = Rate(50.0, 500.0)
    relayed: Rate = Rate(1000.0, 10_000.0)

    def of(self, traffic: Traffic) -> Rate:
        """The rate of a class."""
        match traffic:
            case Traffic.PUBLIC:
                return self.public
            case Traffic.PRIVATE:
                return self.private
            case Traffic.BROADCAST:
                return self.broadcast
            case Traffic.RELAYED:
                return self.relayed


class Buckets(Generic[K]):
    """Token buckets of one rate, by key. Time is that of a clock that never goes back, in seconds."""

    def __init__(self, rate: Rate, *, limit: int = MAX_BUCKETS) -> None:
        self._interval_s = 1.0 / rate.per_s
        self._depth_s = rate.burst * self._interval_s
        self._limit = limit
        self._full_at_s: dict[K, float] = {}
        self._shared_full_at_s = 0.0
        self._purged_at_s = float("-inf")

    def __len__(self) -> int:
        return len(self._full_at_s)

    def take(self, key: K, now_s: float) -> bool:
        """Take one token; whether there was one."""
        known = self._full_at_s.get(key)
        if known is None and not self._has_room(now_s):
            taken = self._spend(self._shared_full_at_s, now_s)
            self._shared_full_at_s = taken or self._shared_full_at_s
            return taken is not None
        taken = self._spend(known or 0.0, now_s)
        if taken is None:
            return False
        self._full_at_s[key] = taken
        return True

    def _spend(self, full_at_s: float, now_s: float) -> float | None:
        """When the bucket is full again after one more; ``None`` if it is empty."""
        spent = max(full_at_s, now_s) + self._interval_s
        # a millionth of a token: sums of intervals are not exact
        return spent if spent - now_s <= self._depth_s + self._interval_s * 1e-6 else None

    def _has_room(self, now_s: float) -> bool:
        if len(self._full_at_s) < self._limit:
            return True
        if now_s - self._purged_at_s < PURGE_INTERVAL_S:
            return False
        self._purged_at_s = now_s
        self._full_at_s = {key: full_at_s for key, full_at_s in self._full_at_s.items() if full_at_s > now_s}
        return len(self._full_at_s) < self._limit


class RateLimiter(Generic[K]):
    """The buckets of every class; shared by all actors of a process. ``exempt`` is our own host: its programs are ours."""

    def __init__(self, rates: Rates | None = None, *, exempt: K | None = None, limit: int = MAX_BUCKETS) -> None:
        rates = rates or Rates()
        self._exempt = exempt
        self._buckets: dict[Traffic, Buckets[K]] = {
            traffic: Buckets(rates.of(traffic), limit=limit) for traffic in Traffic
        }

    def allow(self, peer: K, traffic: Traffic, now_s: float) -> bool:
        """Count one message; whether it may come."""
        return peer == self._exempt or self._buckets[traffic].take(peer, now_s)
