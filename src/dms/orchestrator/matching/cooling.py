"""Improving an assignment by moving single nodes: at first nearly at random, then ever more strictly to the better.

Each step takes one node and weighs all peers that it could be on while the others stay; the worse a peer, and the cooler
it has become, the less likely it is taken. Every state on the way is an assignment that keeps all bounds. What is cheap
and good here is finding the right neighbourhood; :mod:`~dms.orchestrator.matching.search` then finds what is best in it.
"""

from __future__ import annotations

import math
import random
from itertools import accumulate

from dms.orchestrator.matching.bits import members
from dms.orchestrator.matching.instance import Instance
from dms.orchestrator.matching.search import Meter

HOT, COLD = 0.25, 0.004
"""Temperatures at the beginning and the end of a round, as shares of the average cost of a node."""


class Cooling:
    """An assignment on the move. ``best`` is the best that was met, ``points`` what it costs."""

    def __init__(self, instance: Instance, chosen: dict[int, int], rng: random.Random) -> None:
        self._instance = instance
        self._rng = rng
        self.best = dict(chosen)
        self.points = instance.points(chosen)
        self._demands = list(dict.fromkeys(instance.demands))
        self._number = [self._demands.index(demand) for demand in instance.demands]
        self._reset()

    def run(self, meter: Meter, steps: int) -> None:
        """One round, from hot to cold, that begins with the best."""
        size = self._instance.size
        scale = max(1.0, self.points / size)
        begin, end = HOT * scale, max(0.5, COLD * scale)
        self._reset()
        order: list[int] = []
        for step in range(steps):
            if meter.left <= 0:
                return
            if not order:
                order = self._rng.sample(range(size), size)
            self._move(order.pop(), begin * (end / begin) ** (step / steps), meter)

    def _reset(self) -> None:
        instance = self._instance
        self._chosen = dict(self.best)
        self._now = self.points
        self._room = instance.room()
        for v, p in self._chosen.items():
            self._room.take(p, instance.demands[v])
        self._full = [0] * len(self._demands)
        for p in set(self._chosen.values()):
            self._look(p)

    def settle(self, meter: Meter) -> None:
        """Move single nodes to where they are best, until none is better elsewhere."""
        size = self._instance.size
        order, quiet = self._rng.sample(range(size), size), 0
        while meter.left > 0:
            for v in order:
                before = self._now
                self._move(v, 0.0, meter)
                quiet = 0 if self._now < before else quiet + 1
                if quiet >= size:
                    return

    def _move(self, v: int, heat: float, meter: Meter) -> None:
        instance, chosen, here = self._instance, self._chosen, self._chosen[v]
        own = 1 << here
        allowed = instance.domains[v] & ~self._full[self._number[v]]
        meter.spend()
        for u, relation in instance.links[v]:
            allowed &= relation[chosen[u]]
        for u in instance.mates[v]:
            allowed &= ~(1 << chosen[u])
        allowed |= own
        if allowed == own:
            return
        places, values = self._weigh(v, allowed)
        meter.spend(len(places) * (1 + len(instance.links[v])) >> 6)
        low = min(values)
        if heat:
            weights = list(accumulate(math.exp((low - value) / heat) for value in values))
            there = self._rng.choices(places, cum_weights=weights)[0]
        else:
            there = places[values.index(low)]
        gain = values[places.index(here)] - values[places.index(there)]
        if there == here or (not heat and not gain):
            return
        self._now -= gain
        demand = instance.demands[v]
        self._room.give(here, demand)
        self._room.take(there, demand)
        chosen[v] = there
        self._look(here)
        self._look(there)
        if self._now < self.points:
            self.points, self.best = self._now, dict(chosen)

    def _weigh(self, v: int, allowed: int) -> tuple[tuple[int, ...], list[int]]:
        """The peers that the node could be on, and what it would cost there."""
        instance, chosen = self._instance, self._chosen
        load, spread, costs = self._room.load, instance.spread, instance.costs[v]
        places = members(allowed)
        values = [costs[p] + spread * load[p] for p in places]
        values[places.index(chosen[v])] -= spread
        if instance.has_edge_costs:
            for u, _ in instance.links[v]:
                row = instance.distances.points(chosen[u])
                values = [value + row[p] for value, p in zip(values, places, strict=True)]
        return places, values

    def _look(self, p: int) -> None:
        """Note for whom the peer has room."""
        bit = 1 << p
        for number, demand in enumerate(self._demands):
            if self._room.fits(p, demand):
                self._full[number] &= ~bit
            else:
                self._full[number] |= bit
