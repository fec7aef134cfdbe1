"""What waits to be sent to one peer: bounded, and when full the oldest goes first.

Old packets are the ones that their senders have given up on, so dropping these hurts least; and a short queue keeps the
delay short, from which TCP inside the network learns its pace.
"""

from __future__ import annotations

from collections import deque

import trio

from dms.subnet.segments import Parcel

MAX_QUEUE_BYTES = 2 << 20
MAX_QUEUE_PACKETS = 4096


class PacketQueue:
    """Filled without waiting, emptied in batches."""

    def __init__(self, *, max_bytes: int = MAX_QUEUE_BYTES, max_packets: int = MAX_QUEUE_PACKETS) -> None:
        self._max_bytes, self._max_packets = max_bytes, max_packets
        self._waiting: deque[Parcel] = deque()
        self._arrived = trio.Event()
        self._is_woken = False
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, parcel: Parcel) -> int:
        """Add one, of which nobody is told yet; returns how many of the oldest were dropped for it."""
        dropped = 0
        self._waiting.append(parcel)
        self.size_bytes += len(parcel.data)
        while self.size_bytes > self._max_bytes or len(self._waiting) > self._max_packets:
            self.size_bytes -= len(self._waiting.popleft().data)
            dropped += 1
        return dropped

    def announce(self) -> None:
        """Wake who waits, if there is something."""
        if self._waiting:
            self._arrived.set()

    def take(self, max_bytes: int) -> list[Parcel]:
        """The oldest, at least one if there is any, up to so many bytes."""
        batch: list[Parcel] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].data) <= max_bytes):
            parcel = self._waiting.popleft()
            size += len(parcel.data)
            batch.append(parcel)
        self.size_bytes -= size
        return batch

    def take_within(self, max_bytes: int, each_bytes: int) -> list[Parcel]:
        """The oldest, up to so many bytes with what stands in front of each; perhaps none."""
        batch: list[Parcel] = []
        size = 0
        while self._waiting and (size := size + len(self._waiting[0].data) + each_bytes) <= max_bytes:
            batch.append(self._waiting.popleft())
        self.size_bytes -= sum(len(parcel.data) for parcel in batch)
        return batch

    def clear(self) -> int:
        """Drop all; returns how many."""
        count = len(self._waiting)
        self._waiting.clear()
        self.size_bytes = 0
        return count

    async def wait(self) -> None:
        """Until there is something, or :meth:`wake` was called."""
        while not self._waiting and not self._is_woken:
            self._arrived = trio.Event()
            await self._arrived.wait()
        self._is_woken = False

    def wake(self) -> None:
        """Have who waits look at something else."""
        self._is_woken = True
        self._arrived.set()
