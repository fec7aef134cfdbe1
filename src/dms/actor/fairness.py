"""A queue that is fair between peers: they take turns, and each has its own limit, beyond which one large message may go.

Whoever floods fills his own part and waits behind himself; another peer's next message is never more than one turn away.
Pure: who waits and who wakes is :mod:`dms.actor.inbox`'s business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from dms.network.protocol import MAX_MESSAGE_BYTES

MAX_WAITING: Final = 4096
MAX_WAITING_PER_PEER: Final = 128
MAX_BYTES: Final = 64 << 20
MAX_BYTES_PER_PEER: Final = 8 << 20

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Line(Generic[T]):
    """What waits for one peer: items with their sizes."""

    __slots__ = ("items", "size")

    def __init__(self) -> None:
        self.items: deque[tuple[T, int]] = deque()
        self.size = 0


class FairQueue(Generic[K, T]):
    """Items by peer, in turns; bounded in count and in bytes, in all and per peer. Beside that nobody may hold more than
    half of what is free, so that many who flood together leave room for one more."""

    def __init__(
        self,
        *,
        limit: int = MAX_WAITING,
        per_peer: int = MAX_WAITING_PER_PEER,
        limit_bytes: int = MAX_BYTES,
        per_peer_bytes: int = MAX_BYTES_PER_PEER,
    ) -> None:
        self._limit = limit
        self._per_peer = per_peer
        self._limit_bytes = limit_bytes
        self._per_peer_bytes = per_peer_bytes
        self._lines: dict[K, _Line[T]] = {}
        self._turns: deque[K] = deque()
        self._count = 0
        self._size = 0

    def __len__(self) -> int:
        return self._count

    def put(self, peer: K, item: T, size: int) -> bool:
        """Add an item of ``size`` bytes; whether there was room."""
        line = self._lines.get(peer)
        if self._count >= self._limit or self._size + size > self._limit_bytes:
            return False
        if line is None:
            line = self._lines[peer] = _Line()
            self._turns.append(peer)
        elif not self._has_room(line, size):
            return False
        line.items.append((item, size))
        line.size += size
        self._count += 1
        self._size += size
        return True

    def take(self) -> tuple[K, T]:
        """The next item, and whose turn it was.

        :raises IndexError: there is none.
        """
        peer = self._turns.popleft()
        line = self._lines[peer]
        item, size = line.items.popleft()
        line.size -= size
        self._count -= 1
        self._size -= size
        if line.items:
            self._turns.append(peer)
        else:
            del self._lines[peer]
        return peer, item

    def first(self) -> T:
        """What :meth:`take` would take.

        :raises IndexError: there is nothing.
        """
        return self._lines[self._turns[0]].items[0][0]

    def _has_room(self, line: _Line[T], size: int) -> bool:
        count, held = len(line.items), line.size + size
        return (
            count < self._per_peer
            and (held <= self._per_peer_bytes or (size > MAX_MESSAGE_BYTES and line.size <= self._per_peer_bytes))
            and 2 * count < self._limit - self._count
            and 2 * held <= self._limit_bytes - self._size
        )
