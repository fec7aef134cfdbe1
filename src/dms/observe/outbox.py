"""What waits to be sent to a service, and when to try again: decisions only, no input and no output.

A service that is slow, gone or full costs what does not fit into the buffer, which is counted; never memory without bound,
and never time of whoever logs.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from dms.observe.errors import DeliveryDenied, NotDelivered

MAX_ITEMS = 1_000
MAX_BYTES = 8 << 20
RETRY_S = 5.0
MAX_RETRY_S = 300.0
WARN_S = 300.0
"""An outage is said again after so long, no sooner."""

T = TypeVar("T")


@dataclass(slots=True)
class Counts:
    """Since the start: what was taken by the service, refused by it, and dropped for want of room."""

    sent: int = 0
    rejected: int = 0
    dropped: int = 0
    failures: int = 0


class Outbox(Generic[T]):
    """Items in order, bounded in number and bytes; new ones are dropped when it is full. From any thread."""

    def __init__(self, *, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES) -> None:
        self.counts = Counts()
        self._max_items, self._max_bytes = max_items, max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def size_bytes(self) -> int:
        """Of all that waits."""
        return self._bytes

    def offer(self, item: T, size_bytes: int) -> bool:
        """Append ``item`` if there is room; whether there was."""
        with self._lock:
            if len(self._items) >= self._max_items or self._bytes + size_bytes > self._max_bytes:
                self.counts.dropped += 1
                return False
            self._items.append((item, size_bytes))
            self._bytes += size_bytes
            return True

    def peek(self, max_items: int, max_bytes: int) -> list[T]:
        """The oldest, at least one if there is any; they stay until :meth:`settle`."""
        with self._lock:
            chosen: list[T] = []
            left = max_bytes
            for item, size in self._items:
                if len(chosen) >= max_items or (chosen and size > left):
                    break
                chosen.append(item)
                left -= size
            return chosen

    def settle(self, count: int, *, rejected: int = 0, again: frozenset[int] = frozenset()) -> None:
        """The oldest ``count`` were sent: all were taken but so many, and those at the places ``again``, which stay."""
        with self._lock:
            handled = [self._items.popleft() for _ in range(count)]
            self._items.extendleft(handled[place] for place in sorted(again, reverse=True))
            self._bytes -= sum(size for place, (_, size) in enumerate(handled) if place not in again)
            self.counts.rejected += rejected
            self.counts.sent += count - rejected - len(again)


class Outage:
    """How a service has been doing, and how long to leave it alone; times in seconds of one clock.

    Where the original gives up for good after three failures or one refusal, this tries again: after as many intervals as
    there were failures, doubled each time, five minutes at most; after a refusal five minutes, as only its owner mends it.
    """

    def __init__(self, interval_s: float = RETRY_S) -> None:
        self.interval_s = interval_s
        self.failures = 0
        self.since_s: float | None = None
        self.reason = ""
        self._warned_s = float("-inf")

    @property
    def is_out(self) -> bool:
        """Whether the last attempt failed."""
        return self.since_s is not None

    @property
    def problem(self) -> str:
        """Why the last attempt failed; empty: it did not."""
        return (self.reason or "out of order") if self.is_out else ""

    def failed(self, error: NotDelivered, now_s: float) -> float:
        """An attempt failed; how long to wait before the next."""
        self.failures += 1
        if self.since_s is None:
            self.since_s = now_s
        self.reason = error.message
        if isinstance(error, DeliveryDenied):
            return MAX_RETRY_S
        return min(MAX_RETRY_S, self.interval_s * 2.0 ** min(self.failures - 1, 10))

    def is_worth_saying(self, now_s: float) -> bool:
        """Whether the outage shall be said now: the first time, then every five minutes at most."""
        if now_s - self._warned_s < WARN_S:
            return False
        self._warned_s = now_s
        return True

    def ended(self, now_s: float) -> float | None:
        """An attempt succeeded; how long the outage was, if there was one."""
        since_s, self.since_s, self.failures, self.reason = self.since_s, None, 0, ""
        return None if since_s is None else now_s - since_s
