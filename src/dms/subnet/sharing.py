"""What all networks that this node shares with one peer have in common: one connection to it, with a bound on its streams
and, where it is relayed, on its bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from dms.subnet.budgets import RelayBudget

MAX_STREAMS = 48
"""To one peer; it serves 64 of ours, and not all of them are for packets."""
MIN_HOLD_S = 2.0
"""So long a stream stays with a network, however many others wait: opening one takes two round trips."""


class Holder(Protocol):
    """Somebody who has a stream."""

    @property
    def used_s(self) -> float:
        """When something was sent on it last."""
        ...

    def give_way(self) -> None:
        """Close it, soon; another one may be asked for at once."""
        ...


class Berths:
    """Streams to one peer: who asks for one when all are taken gets that of the network that has been silent for longest."""

    def __init__(self, most: int = MAX_STREAMS) -> None:
        self._most = most
        self._holders: dict[Holder, float] = {}
        self._freed = trio.Event()

    def __len__(self) -> int:
        return len(self._holders)

    @asynccontextmanager
    async def held(self, holder: Holder) -> AsyncIterator[None]:
        """Have one, perhaps after a while."""
        while len(self._holders) >= self._most:
            free_s = min(self._holders.values()) + MIN_HOLD_S
            settled = [one for one, since_s in self._holders.items() if since_s + MIN_HOLD_S <= trio.current_time()]
            if settled:
                min(settled, key=lambda one: one.used_s).give_way()
                free_s = trio.current_time() + MIN_HOLD_S
            with trio.move_on_at(free_s):
                await self._freed.wait()
        self._holders[holder] = trio.current_time()
        try:
            yield
        finally:
            del self._holders[holder]
            self._freed.set()
            self._freed = trio.Event()


@dataclass
class Shared:
    """With one peer."""

    budget: RelayBudget = field(default_factory=RelayBudget)
    berths: Berths = field(default_factory=Berths)

    def is_unused(self, now_s: float) -> bool:
        """Whether nothing is lost when it is made anew."""
        return not len(self.berths) and not self.budget.free_in_s(now_s)
