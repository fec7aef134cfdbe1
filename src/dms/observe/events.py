"""Events within the process: who emits does not know who listens, and never waits for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import trio

CAPACITY = 256
"""Events that wait for one subscriber; beyond that the oldest is dropped and counted."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; ``at`` in seconds since 1970."""

    name: str
    at: float
    fields: Mapping[str, object]


class EventBus:
    """Hands every event to all who subscribed before; to be used from trio's thread only."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._subscriptions: set[Subscription] = set()

    def emit(self, event: str, /, **fields: object) -> None:
        """Tell that ``event`` happened; returns at once."""
        if not self._subscriptions:
            return
        happened = Event(event, self._now(), fields)
        for subscription in tuple(self._subscriptions):
            subscription.offer(happened)

    def subscribe(self, *names: str, capacity: int = CAPACITY) -> Subscription:
        """Listen to events of these names, or to all; close it, or use it with ``with``."""
        subscription = Subscription(frozenset(names), capacity, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    @property
    def subscribers(self) -> int:
        """How many listen."""
        return len(self._subscriptions)


class Subscription:
    """The events since it was made, to be read with ``async for``; one reader."""

    def __init__(self, names: frozenset[str], capacity: int, forget: Callable[[Subscription], None]) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self.dropped = 0
        """Events that came while the queue was full and were the oldest then."""
        self._names = names
        self._queue: deque[Event] = deque(maxlen=capacity)
        self._forget = forget
        self._closed = False
        self._reader = trio.lowlevel.ParkingLot()

    def offer(self, event: Event) -> None:
        """Take ``event`` if it is of a kind that was asked for."""
        if self._closed or (self._names and event.name not in self._names):
            return
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(event)
        self._reader.unpark_all()

    def close(self) -> None:
        """Listen no more; a waiting reader ends once it has read what is there."""
        self._closed = True
        self._forget(self)
        self._reader.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            await self._reader.park()
        return self._queue.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
