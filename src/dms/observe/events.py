"""Events within the process: who emits does not know who listens, and never waits for them.

Every event is of a kind that is declared, with the meaning of its fields: :mod:`~dms.observe.catalogue` holds those of the
node, :mod:`~dms.observe.deployment_events` those of deployments. ``docs/reference/events.md`` is made of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import trio

CAPACITY = 256
"""Events that wait for one subscriber; beyond that the oldest is dropped and counted."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """What is declared of an event: ``fields`` maps their names to their meaning, units included."""

    name: str
    meaning: str
    fields: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = False
    """It may carry other fields too."""

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; ``at`` in seconds since 1970."""

    name: str
    at: float
    fields: Mapping[str, object]


Listener = Callable[[Event], None]
"""Called with each event as it happens, in the task of who emits it; must neither wait nor raise."""


class EventBus:
    """Hands every event to all who subscribed before; to be used from trio's thread only."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._subscriptions: set[Subscription] = set()
        self._listeners: tuple[Listener, ...] = ()
        self.undeclared: dict[str, frozenset[str]] = {}
        """Fields that events carried and their kinds do not declare; a test looks that there are none."""

    def emit(self, kind: EventKind, /, **fields: object) -> None:
        """Tell that something of this kind happened; returns at once."""
        if not (kind.is_open or fields.keys() <= kind.fields.keys()):
            self.undeclared[kind.name] = frozenset(fields) - frozenset(kind.fields)
        if not self._subscriptions and not self._listeners:
            return
        happened = Event(kind.name, self._now(), fields)
        for listener in self._listeners:
            listener(happened)
        for subscription in tuple(self._subscriptions):
            subscription.offer(happened)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have ``listener`` called with every event; call the result to end that."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return stop

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
