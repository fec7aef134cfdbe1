"""What lies between two nodes of a virtual network."""

from __future__ import annotations

import math
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
