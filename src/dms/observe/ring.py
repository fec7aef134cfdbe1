"""The last things that happened, numbered, for those who ask again and again what is new.

Bounded in number and bytes; whoever is too slow is told how many it missed. Numbers grow over restarts of the program too:
they begin with the time, so that a reader needs to remember nothing but its last one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

MAX_ITEMS = 2_000
MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Numbered:
    """One item with its number; ``size_bytes`` as JSON."""

    seq: int
    value: Mapping[str, Any]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Page:
    """What is new; ``next_seq`` is to be asked for next, ``missed`` are those that were dropped before."""

    items: tuple[Numbered, ...]
    next_seq: int
    missed: int


class Ring:
    """Holds items; :meth:`add` from any thread, all else from trio's."""

    def __init__(
        self, *, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._items: deque[Numbered] = deque()
        self._bytes = 0
        self._last = now_ns() // 1_000
        self._first = self._last
        self._lock = threading.Lock()
        self._readers = trio.lowlevel.ParkingLot()
        self._token: trio.lowlevel.TrioToken | None = None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def last(self) -> int:
        """The number of the newest item, or the one before the first."""
        return self._last

    def add(self, value: Mapping[str, Any]) -> None:
        """Append an item, which is not changed any more; wakes those who wait."""
        try:
            size = len(msgspec.json.encode(value))
        except (TypeError, ValueError, msgspec.MsgspecError):
            size = len(str(value))
        with self._lock:
            self._last += 1
            self._items.append(Numbered(self._last, value, size))
            self._bytes += size
            while len(self._items) > self._max_items or (self._bytes > self._max_bytes and len(self._items) > 1):
                self._bytes -= self._items.popleft().size_bytes
        token = self._token
        if token is not None and len(self._readers):
            token.run_sync_soon(self._readers.unpark_all, idempotent=True)

    def page(
        self,
        after: int,
        *,
        limit: int = 200,
        max_bytes: int = 256 << 10,
        wanted: Callable[[Mapping[str, Any]], bool] = lambda _value: True,
    ) -> Page:
        """The items above ``after`` that are wanted, the oldest first; a negative number asks for so many of the last."""
        with self._lock:
            items, last = tuple(self._items), self._last
        oldest = items[0].seq if items else last + 1
        if after < 0:
            chosen = [item for item in items if wanted(item.value)][after:]
            return Page(tuple(_fitting(chosen, limit, max_bytes, newest=True)), last, 0)
        missed = max(0, oldest - 1 - max(after, self._first)) if after else 0
        chosen = [item for item in items if item.seq > after and wanted(item.value)]
        fitting = _fitting(chosen, limit, max_bytes)
        reached = last if len(fitting) == len(chosen) else fitting[-1].seq
        return Page(tuple(fitting), reached, missed)

    async def wait(self, after: int, timeout_s: float) -> None:
        """Until there is something above ``after``, or the time is over."""
        self._token = trio.lowlevel.current_trio_token()
        with trio.move_on_after(timeout_s):
            while self._last <= after:
                await self._readers.park()
        await trio.lowlevel.checkpoint()


def _fitting(items: list[Numbered], limit: int, max_bytes: int, *, newest: bool = False) -> list[Numbered]:
    fitting: list[Numbered] = []
    for item in reversed(items) if newest else items:
        if len(fitting) >= limit or (fitting and max_bytes < item.size_bytes):
            break
        max_bytes -= item.size_bytes
        fitting.append(item)
    return fitting[::-1] if newest else fitting
