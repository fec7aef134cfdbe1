"""What lies between the nodes of a virtual network: links, and what is under way on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import trio


@dataclass(slots=True)
class Link:
    """One link, both directions: one-way delay, probability of loss, whether it is cut, and what passes in a second."""

    delay_s: float
    loss: float
    is_cut: bool = False
    healed: trio.Event = field(default_factory=trio.Event)
    bandwidth_bps: float = math.inf
    free_at_s: float = 0.0

    def crossing_s(self, size: int) -> float:
        """How long a message of so many bytes is under way that is sent now, behind those sent before."""
        now_s = trio.current_time()
        self.free_at_s = max(now_s, self.free_at_s) + size * 8 / self.bandwidth_bps
        return self.free_at_s - now_s + self.delay_s


@dataclass(order=True, slots=True)
class Due:
    """Something that happens at a moment; ``number`` keeps the order of those that fall together."""

    at_s: float
    number: int
    action: Callable[[], None] = field(compare=False)


def call(function: Callable[..., None], *args: object) -> Callable[[], None]:
    """The same, to be called later."""
    return lambda: function(*args)


async def nothing(_topic: str) -> None:
    """What becomes of a topic that somebody joins or leaves, where nobody has to know."""
