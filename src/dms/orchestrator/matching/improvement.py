"""From some assignment to a better one, by three ways that make up for each other.

*Everything at once*: on small problems the search ends, and what it found is the best. *Dives*: one node is put on some
peer, everything else follows it greedily; so the whole ensemble moves to another region, which no small change can do.
*Neighbourhoods*: a few nodes that are connected are put back in the best way, the others staying where they are.
"""

from __future__ import annotations

import random
from itertools import accumulate

from dms.orchestrator.matching.bits import members
from dms.orchestrator.matching.cooling import Cooling
from dms.orchestrator.matching.dive import dive
from dms.orchestrator.matching.instance import Instance
from dms.orchestrator.matching.search import Meter, Search

NEIGHBOURHOODS = ((3, 120), (5, 300), (7, 800))
"""How many nodes are put back at once, and the work that one attempt may take."""

MAX_FAILURES = 6
"""Greedy dives that may fail one after the other before a search dives."""


class Improvement:
    """An assignment that gets better. ``is_optimal``: it cannot."""

    def __init__(self, instance: Instance, chosen: dict[int, int], rng: random.Random) -> None:
        self._instance = instance
        self._rng = rng
        self.best = chosen
        self.points = instance.points(chosen)
        self.is_optimal = False
        self._domains = instance.domains
        self._peers: dict[int, list[int]] = {}

    def run(self, meter: Meter) -> None:
        """Use up the work, unless nothing is left to gain."""
        if not self._instance.size:
            self.is_optimal = True
            return
        self._everything(meter, meter.left // 10)
        if self.is_optimal:
            return
        self._dive(meter, meter.left // 2)
        self._cool(meter, meter.left // 3)
        self._look_closely(meter)
        self._everything(meter, meter.left)

    def _everything(self, meter: Meter, work: int) -> None:
        part = meter.share(work)
        found = Search(self._instance, part, below=self.points).run()
        meter.settle(part)
        self.is_optimal = found.is_complete
        self._take(found.chosen)

    def _dive(self, meter: Meter, work: int) -> None:
        """From changing nodes on changing peers, well linked nodes and cheap peers more often."""
        instance, rng = self._instance, self._rng
        part = meter.share(work)
        chances = list(accumulate(1 + len(links) for links in instance.links))
        failures = 0
        while part.left > 0:
            v = rng.choices(range(instance.size), cum_weights=chances)[0]
            if v not in self._peers:
                self._peers[v] = sorted(members(self._domains[v]), key=instance.costs[v].__getitem__)
            p = self._peers[v][int(len(self._peers[v]) * rng.random() ** 2)]
            chosen = dive(instance, self._domains, v, p, part)
            failures = 0 if chosen else failures + 1
            if failures == MAX_FAILURES:
                failures, chosen = 0, self._search(v, p, part)
            if chosen is None:
                continue
            down = Cooling(instance, chosen, rng)
            down.settle(part)
            if down.points < self.points:
                self.best, self.points = down.best, down.points
        meter.settle(part)

    def _search(self, v: int, p: int, meter: Meter) -> dict[int, int] | None:
        domains = list(self._domains)
        domains[v] = 1 << p
        part = meter.share(12 * self._instance.size + 60)
        found = Search(self._instance, part, domains=domains).run(first=True)
        meter.settle(part)
        return found.chosen

    def _cool(self, meter: Meter, work: int) -> None:
        part = meter.share(work)
        cooling = Cooling(self._instance, self.best, self._rng)
        steps = max(1, part.left // 4)
        while part.left > 0:
            cooling.run(part, steps)
        meter.settle(part)
        self._take(cooling.best)

    def _look_closely(self, meter: Meter) -> None:
        instance = self._instance
        stalled = turn = 0
        while meter.left > 0 and stalled < 12 * instance.size:
            count, work = NEIGHBOURHOODS[turn % len(NEIGHBOURHOODS)]
            free = self._neighbourhood(min(count, instance.size))
            fixed = {v: p for v, p in self.best.items() if v not in free}
            part = meter.share(work)
            below = self.points - instance.points(fixed)
            found = Search(instance, part, free=free, fixed=fixed, below=below).run()
            meter.spend(max(1, part.spent))
            turn, stalled = turn + 1, stalled + 1
            if found.chosen is not None:
                self._take({**fixed, **found.chosen})
                stalled = 0

    def _take(self, chosen: dict[int, int] | None) -> None:
        if chosen is None:
            return
        points = self._instance.points(chosen)
        if points < self.points:
            self.best, self.points = chosen, points

    def _neighbourhood(self, count: int) -> set[int]:
        instance, rng = self._instance, self._rng
        start = rng.randrange(instance.size)
        found, border = {start}, [u for u, _ in instance.links[start]]
        while len(found) < count:
            if not border:
                border = [rng.randrange(instance.size)]
            v = border.pop(rng.randrange(len(border)))
            if v not in found:
                found.add(v)
                border += [u for u, _ in instance.links[v] if u not in found]
        return found
