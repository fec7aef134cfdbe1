"""Why there is no assignment: as few wishes as possible that cannot be met together.

Wishes are left out, many at a time while that is possible, and what is still proven impossible without them was not
their fault. What remains can be met as soon as any single one of them is dropped (unless the work allowed ended
before that was certain, which is said).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from dms.orchestrator.matching.counting import fill, refute
from dms.orchestrator.matching.instance import Catalogue, Instance
from dms.orchestrator.matching.outcome import Conflict
from dms.orchestrator.matching.problem import Edge
from dms.orchestrator.matching.rules import ALONE, Rule
from dms.orchestrator.matching.search import Meter, Search

WORK_PER_PROOF = 20_000
MANY = 50
MAX_MINIMISED = 300
"""Of more nodes than this the conflict is told as it was found."""

_RELAXABLE: tuple[Rule, ...] = tuple(rule for rule in ALONE if rule not in (Rule.NO_BID, Rule.RESOURCES))


@dataclass(frozen=True, slots=True)
class _Wish:
    """One thing that can be left out: a node, an edge, a rule of a node, sharing peers, living apart."""

    node: int = -1
    edge: Edge | None = None
    rule: Rule | None = None


_CAPACITY = _Wish(rule=Rule.CAPACITY)
_APART = _Wish(rule=Rule.APART)


def find_conflict(catalogue: Catalogue, blamed: Collection[int], work: int) -> tuple[Conflict, int]:
    """The conflict among the nodes of a problem that was proven to have no assignment, and the work it took.

    ``blamed`` are nodes that the proof needed. Without work it is told as it was found.
    """
    checker = _Checker(catalogue, Meter(3 * work))
    nodes = tuple(sorted(blamed))
    empty = [v for v in nodes if not catalogue.kinds[catalogue.kind_of[v]].domain()]
    nodes = tuple(empty[:1]) or nodes
    edges, rules = checker.edges_among(nodes), checker.rules_of(nodes)
    everybody = [_Wish(node=v) for v in nodes]
    around = [*edges, *rules, _CAPACITY, _APART]
    if len(nodes) > MANY:  # then it is mostly about sums, whatever the edges
        for fewer in ([_CAPACITY], [*rules, _CAPACITY]):
            if checker.is_impossible([*everybody, *fewer]):
                around = fewer
                break
    if len(nodes) > MAX_MINIMISED or not work:
        return _tell(catalogue, [*everybody, *around], is_minimal=False), checker.meter.spent
    kept = checker.least(everybody, around)
    chosen = {wish.node for wish in kept}
    around = [w for w in around if checker.concerns(w, chosen)]
    needed = checker.least(around, kept)
    return _tell(catalogue, [*kept, *needed], is_minimal=checker.is_certain), checker.meter.spent


class _Checker:
    def __init__(self, catalogue: Catalogue, meter: Meter) -> None:
        self._catalogue = catalogue
        self.meter = meter
        self.is_certain = True

    def edges_among(self, nodes: Collection[int]) -> list[_Wish]:
        wanted = self._catalogue.problem.wanted
        names = {wanted[v].node_id for v in nodes}
        return [_Wish(edge=e) for e in self._catalogue.problem.edges if e.s in names and e.t in names]

    def rules_of(self, nodes: Collection[int]) -> list[_Wish]:
        """The rules that refused some peer to one of the nodes."""
        found = []
        for v in nodes:
            refused = self._catalogue.kinds[self._catalogue.kind_of[v]].refused
            found += [_Wish(node=v, rule=rule) for rule in _RELAXABLE if refused.get(rule)]
        return found

    def concerns(self, wish: _Wish, nodes: Collection[int]) -> bool:
        wanted = self._catalogue.problem.wanted
        if wish.edge is not None:
            names = {wanted[v].node_id for v in nodes}
            return wish.edge.s in names and wish.edge.t in names
        return wish.node < 0 or wish.node in nodes

    def least(self, wishes: Sequence[_Wish], always: Sequence[_Wish]) -> list[_Wish]:
        """Some of ``wishes``, none too many, that are impossible beside ``always``; all of them together are."""
        if not wishes or self.is_impossible(always):
            return []
        return self._halve(list(wishes), list(always), is_new=False)

    def is_impossible(self, wishes: Collection[_Wish]) -> bool:
        """Whether it is proven that these wishes cannot be met together."""
        nodes = sorted({w.node for w in wishes if w.node >= 0 and w.rule is None})
        if not nodes:
            return False
        if len(nodes) <= MAX_MINIMISED:
            self.meter.spend(len(wishes))
            if self.meter.left <= 0:
                self.is_certain = False
                return False
        kept = {(w.node, w.rule) for w in wishes if w.rule is not None}
        has_capacity = _CAPACITY in wishes
        relaxed: dict[int, Collection[Rule]] = {}
        for v in nodes:
            refused = self._catalogue.kinds[self._catalogue.kind_of[v]].refused
            left_out: list[Rule] = [rule for rule in _RELAXABLE if refused.get(rule) and (v, rule) not in kept]
            if not has_capacity:
                left_out.append(Rule.RESOURCES)
            if left_out:
                relaxed[v] = left_out
        instance = Instance(
            self._catalogue,
            nodes=nodes,
            edges=[w.edge for w in wishes if w.edge is not None],
            relaxed=relaxed,
            has_capacity=has_capacity,
            has_apart=_APART in wishes,
        )
        return self._proves(instance)

    def _proves(self, instance: Instance) -> bool:
        if not all(instance.domains):
            return True
        everybody = list(range(instance.size))
        if instance.size > MANY:
            kinds = {(kind, domain) for kind, domain in zip(instance.kind_of, instance.domains, strict=True)}
            self.meter.spend(sum(domain.bit_count() for _, domain in kinds) >> 2)
        if not instance.edges:
            filled = fill(instance, everybody, {})
            if filled.chosen is not None or filled.is_exact:
                return filled.chosen is None
        if instance.has_capacity and refute(instance, everybody):
            return True
        if instance.size > MAX_MINIMISED:
            return False
        part = self.meter.share(WORK_PER_PROOF)
        found = Search(instance, part).run(first=True)
        self.meter.settle(part)
        if found.chosen is None and not found.is_complete:
            self.is_certain = False
            return False
        return found.chosen is None

    def _halve(self, wishes: list[_Wish], always: list[_Wish], *, is_new: bool) -> list[_Wish]:
        """``is_new``: ``always`` has grown, and may be impossible by now."""
        if is_new and self.is_impossible(always):
            return []
        if len(wishes) == 1:
            return wishes
        middle = len(wishes) // 2
        first, second = wishes[:middle], wishes[middle:]
        of_second = self._halve(second, always + first, is_new=True)
        of_first = self._halve(first, always + of_second, is_new=bool(of_second))
        return of_first + of_second


def _tell(catalogue: Catalogue, wishes: Sequence[_Wish], *, is_minimal: bool) -> Conflict:
    name: Callable[[int], str] = lambda v: catalogue.problem.wanted[v].node_id  # noqa: E731
    return Conflict(
        nodes=tuple(name(w.node) for w in wishes if w.node >= 0 and w.rule is None),
        edges=tuple(w.edge for w in wishes if w.edge is not None),
        rules=tuple((name(w.node), w.rule) for w in wishes if w.node >= 0 and w.rule is not None),
        needs_capacity=_CAPACITY in wishes,
        keeps_apart=_APART in wishes,
        is_minimal=is_minimal,
    )
