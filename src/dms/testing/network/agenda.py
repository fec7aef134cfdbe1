"""What is going to happen at one node of a virtual network, in the order of its moments."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import trio


@dataclass(order=True, slots=True)
class _Due:
    """Something that happens at a moment; ``number`` keeps the order of those that fall together."""

    at_s: float
    number: int
    action: Callable[[], None] = field(compare=False)


class Agenda:
    """Does things later, one after the other, while :meth:`run` runs."""

    def __init__(self) -> None:
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._wake = trio.Event()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        heapq.heappush(self._due, _Due(trio.current_time() + delay_s, next(self._numbers), action))
        self._wake.set()

    def clear(self) -> None:
        """Forget everything that was going to happen."""
        self._due.clear()

    async def run(self) -> None:
        """Do what falls due, until cancelled."""
        while True:
            self._wake = trio.Event()
            if not self._due:
                await self._wake.wait()
                continue
            if self._due[0].at_s > trio.current_time():
                with trio.move_on_at(self._due[0].at_s):
                    await self._wake.wait()
                continue
            heapq.heappop(self._due).action()
            await trio.lowlevel.checkpoint()
