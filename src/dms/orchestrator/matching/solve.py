"""From a problem to an answer: first any assignment or a proof, then better ones while the work allowed lasts.

1. Nodes without edges are counted (:mod:`~dms.orchestrator.matching.counting`), those with edges searched
   (:mod:`~dms.orchestrator.matching.search`), with restarts that remember where the trouble was.
2. What was found is improved (:mod:`~dms.orchestrator.matching.improvement`); on small problems up to the proof that
   nothing is better.
3. An assignment that rests on pairs never measured is returned as such. Guesses about them may steer the search but
   prove nothing: before anything is called infeasible, the search is repeated without.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from dms.orchestrator.matching.conflict import find_conflict
from dms.orchestrator.matching.counting import fill, refute
from dms.orchestrator.matching.improvement import Improvement
from dms.orchestrator.matching.instance import Catalogue, Instance, Problem
from dms.orchestrator.matching.outcome import Infeasible, Outcome, Placed, Undecided, Unmeasured
from dms.orchestrator.matching.search import Meter, Search
from dms.types.ids import PeerID

MAX_SEARCHED = 400
"""More nodes than this are only searched as far as they have edges; the others are counted."""
MAX_LOOSE = 40
"""Nodes without edges that are still searched one by one, together with the others."""


def default_work(problem: Problem) -> int:
    """Work that fits the size: some tens of milliseconds for ten nodes and fifty peers, a few seconds at most."""
    pairs = len(problem.wanted) * len(problem.offers)
    return 2_000 + min(5 * pairs // 2, 8_000 + 3 * pairs // 2, 100_000)


def solve(problem: Problem, *, work: int | None = None, seed: int = 0, explains: bool = True) -> Outcome:
    """The best assignment found within ``work``, or the proof that there is none.

    The answer depends on the arguments alone. Finding any assignment at all may take ten times the work. Reducing a
    conflict to what it needs takes time of its own; who only wants to know whether there is one does without.
    """
    catalogue = Catalogue(problem)
    amount = default_work(problem) if work is None else work
    spent = 0
    for is_trusting in (True, False):
        instance = Instance(catalogue, is_trusting=is_trusting)
        if is_trusting and not _has_guesses(instance):
            continue
        attempt = _Attempt(instance, amount, random.Random(seed))  # noqa: S311 (no secret)
        found = attempt.run()
        spent += attempt.meter.spent
        if found is not None:
            return _answer(instance, found, spent, is_optimal=attempt.is_optimal and not is_trusting)
        if is_trusting:
            continue
        if attempt.is_refuted:
            conflict, more = find_conflict(catalogue, attempt.blamed, amount if explains else 0)
            return Infeasible(conflict, spent + more)
    return Undecided(spent)


@dataclass(slots=True)
class _Attempt:
    """One way from an instance to an assignment."""

    instance: Instance
    work: int
    rng: random.Random
    meter: Meter = field(default_factory=lambda: Meter(0))
    is_optimal: bool = False
    is_refuted: bool = False
    blamed: tuple[int, ...] = ()

    def run(self) -> dict[int, int] | None:
        instance = self.instance
        self.meter = Meter(self.work)
        empty = tuple(v for v, domain in enumerate(instance.domains) if not domain)
        if empty:
            self.is_refuted, self.blamed = True, empty
            return None
        everybody = range(instance.size)
        linked = [v for v in everybody if instance.links[v]]
        loose = [v for v in everybody if not instance.links[v]]
        first = fill(instance, loose, {}) if loose and not linked else None
        if first is not None and first.is_exact:
            self.is_optimal, self.is_refuted, self.blamed = first.chosen is not None, True, first.left_out
            return first.chosen
        is_whole = len(loose) <= MAX_LOOSE
        if is_whole:
            linked, loose = list(everybody), []
        chosen = first.chosen if first is not None else self._first(linked, loose)
        if chosen is None and first is not None:
            chosen = self._first_of_all()
        if chosen is None:
            return None
        if is_whole:
            better = Improvement(instance, chosen, self.rng)
            better.run(self.meter)
            chosen, self.is_optimal = better.best, better.is_optimal
        return chosen

    def _first(self, linked: list[int], loose: list[int]) -> dict[int, int] | None:
        """Some assignment; of the nodes with edges first, then of the others beside them."""
        if not loose:
            return self._first_of_all()
        chosen = self._search_first(linked)
        if chosen is None:
            return None
        filled = fill(self.instance, loose, chosen)
        return {**chosen, **filled.chosen} if filled.chosen is not None else self._first_of_all()

    def _first_of_all(self) -> dict[int, int] | None:
        if self.instance.has_capacity and self._is_too_much():
            return None
        if self.instance.size > MAX_SEARCHED and not all(self.instance.links):
            return None
        return self._search_first(list(range(self.instance.size)))

    def _is_too_much(self) -> bool:
        too_many = refute(self.instance, list(range(self.instance.size)))
        if too_many:
            self.is_refuted, self.blamed = True, too_many
        return bool(too_many)

    def _search_first(self, nodes: list[int]) -> dict[int, int] | None:
        """Restarts of growing length, each beginning where the ones before had trouble; the last is exhaustive."""
        trouble = [1] * self.instance.size
        total, length = 10 * self.work, 20 * len(nodes) + 200
        while total > 0:
            part = Meter(min(length, total))
            found = Search(self.instance, part, free=nodes, trouble=trouble).run(first=True)
            self.meter.spent += part.spent
            total -= max(1, part.spent)
            length = length * 3 // 2
            if found.chosen is not None:
                return found.chosen
            if found.is_complete:
                self.is_refuted, self.blamed = True, tuple(nodes)
                return None
        return None


def _has_guesses(instance: Instance) -> bool:
    return bool(instance.edges) and any(offer.coordinate for offer in instance.catalogue.offers)


def _answer(instance: Instance, chosen: dict[int, int], spent: int, *, is_optimal: bool) -> Outcome:
    ids = [offer.peer for offer in instance.catalogue.offers]
    assignment: dict[str, PeerID] = {instance.names[v]: ids[p] for v, p in sorted(chosen.items())}
    points = instance.points(chosen)
    lacking = {
        (min(ids[p], ids[q]), max(ids[p], ids[q]))
        for p, q, edge in ((chosen[s], chosen[t], edge) for s, t, edge in instance.edges)
        if instance.distances.lacks(p, q, edge)
    }
    if lacking:
        return Unmeasured(tuple(sorted(lacking)), assignment, points, spent)
    return Placed(assignment, points, is_optimal, spent)
