"""What lies between the nodes of a virtual network: links, and what is under way on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio


@dataclass(slots=True)
class Link:
    """One link, both directions: one-way delay, probability of loss, and whether it is cut."""

    delay_s: float
    loss: float
    is_cut: bool = False
    healed: trio.Event = field(default_factory=trio.Event)


@dataclass(order=True, slots=True)
class Due:
    """Something that happens at a moment; ``number`` keeps the order of those that fall together."""

    at_s: float
    number: int
    action: Callable[[], None] = field(compare=False)
