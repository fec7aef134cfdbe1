"""How many handlers may run at once, so that nobody can occupy a node (``spec/security.md`` 5.7).

``allow`` only looks, early and cheap, before a signature is checked; ``acquire`` counts. The gap between the two
leaves room for what was admitted just before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from dms.actor.errors import RateLimited
from dms.types.ids import PeerID

K = TypeVar("K")

PUBLIC_PREFIX = "/public/"


@dataclass(frozen=True, slots=True)
class Limits:
    """Handlers running at once: of public behaviours, of broadcasts, per topic, and per sending host."""

    public_allow: int = 4096
    public_acquire: int = 4112
    broadcast_allow: int = 1024
    broadcast_acquire: int = 1040
    topic: int = 128
    per_host: int = 256

    def __post_init__(self) -> None:
        positive = min(self.public_allow, self.broadcast_allow, self.topic, self.per_host) > 0
        if not positive or self.public_acquire < self.public_allow or self.broadcast_acquire < self.broadcast_allow:
            raise ValueError("limits must be positive, and acquire at least as large as allow")


class Limiter:
    """Counts running handlers; shared by all actors of a process."""

    def __init__(self, limits: Limits | None = None, *, own_host: PeerID | None = None) -> None:
        self._limits = limits or Limits()
        self._own_host = own_host
        self._public = 0
        self._broadcast = 0
        self._topics: dict[str, int] = {}
        self._hosts: dict[PeerID, int] = {}

    def follow(self, limits: Limits) -> None:
        """Have other limits from now on; what runs already goes on."""
        self._limits = limits

    def allow(self, host: PeerID, behaviour: str, topic: str = "") -> bool:
        """Whether there is room for one more."""
        limits = self._limits
        if host != self._own_host and self._hosts.get(host, 0) >= limits.per_host:
            return False
        if topic:
            return self._broadcast < limits.broadcast_allow and self._topics.get(topic, 0) < limits.topic
        return not behaviour.startswith(PUBLIC_PREFIX) or self._public < limits.public_allow

    def acquire(self, host: PeerID, behaviour: str, topic: str = "") -> Slot:
        """Count one handler, in a ``with`` statement.

        :raises RateLimited: there is no room.
        """
        public = not topic and behaviour.startswith(PUBLIC_PREFIX)
        full = self._broadcast >= self._limits.broadcast_acquire if topic else False
        if full or (public and self._public >= self._limits.public_acquire):
            raise RateLimited
        # no leeway: of one host many may have been admitted while they waited for something
        if (host != self._own_host and self._hosts.get(host, 0) >= self._limits.per_host) or (
            topic and self._topics.get(topic, 0) >= self._limits.topic
        ):
            raise RateLimited("rate limit exceeded: too much runs at once")
        return Slot(self, host, topic, public=public)

    def enter(self, host: PeerID, topic: str, *, public: bool) -> None:
        """One handler more."""
        self._hosts[host] = self._hosts.get(host, 0) + 1
        self._public += public
        if topic:
            self._broadcast += 1
            self._topics[topic] = self._topics.get(topic, 0) + 1

    def leave(self, host: PeerID, topic: str, *, public: bool) -> None:
        """One handler less."""
        _decrement(self._hosts, host)
        self._public -= public
        if topic:
            self._broadcast -= 1
            _decrement(self._topics, topic)


class Slot:
    """Counts one handler while its context lasts; a generator would cost thrice as much."""

    __slots__ = ("_host", "_limiter", "_public", "_topic")

    def __init__(self, limiter: Limiter, host: PeerID, topic: str, *, public: bool) -> None:
        self._limiter = limiter
        self._host = host
        self._public = public
        self._topic = topic

    def __enter__(self) -> None:
        self._limiter.enter(self._host, self._topic, public=self._public)

    def __exit__(self, *_exc: object) -> None:
        self._limiter.leave(self._host, self._topic, public=self._public)


class Slots:
    """Counts what waits for something slow: a few of each host, and not many in all."""

    def __init__(self, total: int, per_host: int) -> None:
        self._total = total
        self._per_host = per_host
        self._hosts: dict[PeerID, int] = {}
        self._taken = 0

    @contextmanager
    def take(self, host: PeerID) -> Iterator[None]:
        """Count one while the context lasts.

        :raises RateLimited: there is no room.
        """
        if self._taken >= self._total or self._hosts.get(host, 0) >= self._per_host:
            raise RateLimited
        self._hosts[host] = self._hosts.get(host, 0) + 1
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            _decrement(self._hosts, host)


def _decrement(counts: dict[K, int], key: K) -> None:
    left = counts[key] - 1
    if left > 0:
        counts[key] = left
    else:
        del counts[key]
