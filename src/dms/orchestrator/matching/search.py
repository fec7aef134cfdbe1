"""Branch and bound over the peers of each node: exact when it ends, and the best found so far when it is stopped.

The node with the fewest peers left, and with the most trouble behind it, is placed next, on the cheapest peer first.
Each placement is followed up: neighbours along edges keep the peers that are near enough, then their neighbours those
that still have a partner (arc consistency); peers that are full, or host one that must live apart, drop out. A branch is
left when a node has no peer any more, or when even the cheapest peers of all nodes that remain make it no better than
the best known. So an exhausted search is a proof.

Without edges, what remains depends only on what is left on the peers, whichever of several equal ones has it: such
situations are searched once. With edges, interchangeable nodes take their peers in one order.

The work is counted, never timed: the same problem gives the same answer on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from itertools import compress
from operator import add

from dms.orchestrator.matching.bits import flags, members
from dms.orchestrator.matching.capacity import Demand
from dms.orchestrator.matching.instance import Instance

MAX_REMEMBERED = 200_000
"""Situations without edges that are kept for not searching them twice."""


class Meter:
    """How much work may still be done. One unit is a placement or the follow-up at one neighbour, about 10 µs."""

    __slots__ = ("left", "spent")

    def __init__(self, units: int) -> None:
        self.left = units
        self.spent = 0

    def spend(self, units: int = 1) -> None:
        """Count."""
        self.left -= units
        self.spent += units

    def share(self, units: int) -> Meter:
        """A part of what is left; :meth:`settle` it afterwards."""
        return Meter(max(0, min(units, self.left)))

    def settle(self, part: Meter) -> None:
        """Count what was spent of a share."""
        self.spend(part.spent)


@dataclass(slots=True)
class _State:
    """A partial assignment: what each node may still take, and what that costs at least."""

    domains: list[int]
    costs: list[list[int]]
    least: list[int]
    todo: list[int]
    points: int
    bound: int


@dataclass(slots=True)
class _Frame:
    """One level of the search: whom it places and what was not yet tried."""

    state: _State
    node: int
    values: list[tuple[int, int]]
    next: int = 0
    placed: int = -1


@dataclass(slots=True)
class Found:
    """What a search found. ``is_complete``: nothing better exists (nothing at all, if ``chosen`` is ``None``)."""

    chosen: dict[int, int] | None
    points: int
    is_complete: bool
    failures: dict[int, int] = field(default_factory=dict)


class Search:
    """One search; use it once.

    ``fixed`` nodes stay where they are; ``below`` is the value of the objective to beat, over the free nodes and the
    edges that touch them.
    """

    def __init__(
        self,
        instance: Instance,
        meter: Meter,
        *,
        free: Iterable[int] | None = None,
        fixed: dict[int, int] | None = None,
        domains: list[int] | None = None,
        below: int | None = None,
        trouble: list[int] | None = None,
    ) -> None:
        self._instance = instance
        self._meter = meter
        self._fixed = fixed or {}
        self._room = instance.room()
        self._extra = [0] * len(self._room.load)
        self._below = below
        self._best: dict[int, int] | None = None
        self._trouble = trouble if trouble is not None else [1] * instance.size
        todo = list(range(instance.size)) if free is None else sorted(free)
        self._is_free = [False] * instance.size
        for v in todo:
            self._is_free[v] = True
        self._domains = list(domains or instance.domains)
        self._todo = todo
        self._chosen: dict[int, int] = {}
        self._is_ranked = True
        self._has_links = any(instance.links[v] for v in todo)
        self._needs = self._by_demand(todo)
        self._seen: dict[Hashable, int] = {}
        self._signature: list[int] | None = None
        self._touched: dict[int, int] = {}

    def run(self, *, first: bool = False) -> Found:
        """Search until everything was looked at, the work is used up or, if so wanted, something was found."""
        self._is_ranked = not first
        root = self._root()
        if root is None:
            return Found(None, 0, is_complete=True)
        stack = [self._enter(root)] if root.todo else []
        if not root.todo:
            return Found({}, 0, is_complete=True)
        while stack:
            frame = stack[-1]
            if frame.placed >= 0:
                self._take_back(frame)
            if frame.next >= len(frame.values):
                self._remember(frame)
                stack.pop()
                continue
            if self._meter.left <= 0:
                return Found(self._best, self._below or 0, is_complete=False)
            value, p = frame.values[frame.next]
            frame.next += 1
            state = frame.state
            if self._below is not None and state.bound - state.least[frame.node] + value >= self._below:
                frame.next = len(frame.values)
                continue
            child = self._place(frame, p, value)
            if child is None:
                continue
            if not child.todo:
                self._below, self._best = child.points, dict(self._chosen)
                if first:
                    return Found(self._best, self._below, is_complete=False)
                continue
            if self._is_known(child):
                continue
            stack.append(self._enter(child))
        return Found(self._best, self._below or 0, is_complete=True)

    # the beginning -------------------------------------------------------------------------------------------------

    def _root(self) -> _State | None:
        instance, room = self._instance, self._room
        costs = list(instance.costs)
        for u, p in self._fixed.items():
            room.take(p, instance.demands[u])
            self._extra[p] += instance.spread
        domains = self._domains
        for v in self._todo:
            for u, relation in instance.links[v]:
                if u in self._fixed:
                    domains[v] &= relation[self._fixed[u]]
                    if instance.has_edge_costs:
                        costs[v] = list(map(add, costs[v], instance.distances.points(self._fixed[u])))
            for u in instance.mates[v]:
                if u in self._fixed:
                    domains[v] &= ~(1 << self._fixed[u])
        if self._fixed and instance.has_capacity:
            for demand, nodes in self._needs:
                full = sum(1 << p for p in set(self._fixed.values()) if not room.fits(p, demand))
                for v in nodes:
                    domains[v] &= ~full
        state = _State(domains, costs, [0] * instance.size, self._todo, 0, 0)
        if not all(domains[v] for v in self._todo) or not self._follow(state, list(self._todo)):
            return None
        if not self._has_links and not self._fixed:
            self._signature = self._sign_peers(self._todo, domains)
        for v in self._todo:
            state.least[v] = self._least(v, state)
        state.bound = sum(state.least[v] for v in self._todo)
        return state

    def _by_demand(self, todo: list[int]) -> list[tuple[Demand, list[int]]]:
        groups: dict[int, list[int]] = {}
        for v in todo:
            groups.setdefault(self._instance.kind_of[v], []).append(v)
        merged: dict[Demand, list[int]] = {}
        for kind, nodes in groups.items():
            merged.setdefault(self._instance.kinds[kind].demand, []).extend(nodes)
        return list(merged.items())

    # one step ------------------------------------------------------------------------------------------------------

    def _enter(self, state: _State) -> _Frame:
        """Choose who is placed next, and list its peers from the best on."""
        domains, trouble, before, is_free = state.domains, self._trouble, self._instance.twin_before, self._is_free
        open_ = set(state.todo)
        best, score = -1, 0.0
        for v in state.todo:
            mine = domains[v].bit_count() / trouble[v]
            if (best < 0 or mine < score) and not (before[v] >= 0 and is_free[before[v]] and before[v] in open_):
                best, score = v, mine
        costs, extra = state.costs[best], self._extra
        values = sorted((costs[p] + extra[p], p) for p in members(domains[best]))
        if self._signature is not None:
            values = self._without_equals(values)
        return _Frame(state, best, values)

    def _place(self, frame: _Frame, p: int, value: int) -> _State | None:
        instance, before, v = self._instance, frame.state, frame.node
        room, demand = self._room, instance.demands[v]
        self._meter.spend()
        frame.placed = p
        room.take(p, demand)
        self._extra[p] += instance.spread
        self._chosen[v] = p
        self._touched[p] = self._touched.get(p, 0) + 1
        bit = 1 << p
        domains = before.domains[:]
        domains[v] = bit
        todo = [u for u in before.todo if u != v]
        state = _State(domains, before.costs, before.least[:], todo, before.points + value, 0)
        is_free, chosen, changed, stale = self._is_free, self._chosen, [], set()
        if instance.links[v]:
            points = instance.distances.points(p) if instance.has_edge_costs else None
            if points:
                state.costs = before.costs[:]
            for u, relation in instance.links[v]:
                if not is_free[u] or u in chosen:
                    continue
                self._meter.spend()
                rest = domains[u] & relation[p]
                if rest != domains[u]:
                    domains[u] = rest
                    changed.append(u)
                if points:
                    state.costs[u] = list(map(add, state.costs[u], points))
                stale.add(u)
        for u in instance.mates[v]:
            if domains[u] & bit and is_free[u] and u not in chosen:
                domains[u] &= ~bit
                changed.append(u)
        after = instance.twin_after[v]
        if after >= 0 and is_free[after]:
            rest = domains[after] >> p << p
            if rest != domains[after]:
                domains[after] = rest
                changed.append(after)
        for other, nodes in self._needs:
            if not room.fits(p, other):
                for u in nodes:
                    if domains[u] & bit and u not in chosen:
                        domains[u] ^= bit
                        changed.append(u)
        for u in changed:
            if not domains[u]:
                self._trouble[u] += 1
                return None
        if not self._follow(state, changed):
            return None
        return self._bounded(state, stale.union(changed), p, bit)

    def _bounded(self, state: _State, stale: set[int], p: int, bit: int) -> _State | None:
        """Bring the least costs up to date; nothing when they are too high already."""
        below = self._below
        if not self._is_ranked:
            return state
        domains, least, costs = state.domains, state.least, state.costs
        had = self._extra[p] - self._instance.spread
        bound = state.points
        for v in state.todo:
            if v in stale or (domains[v] & bit and costs[v][p] + had <= least[v]):
                least[v] = self._least(v, state)
            bound += least[v]
        state.bound = bound
        return None if below is not None and bound >= below else state

    def _least(self, v: int, state: _State) -> int:
        select = flags(state.domains[v])
        least: int = min(map(add, compress(state.costs[v], select), compress(self._extra, select)))
        return least

    def _follow(self, state: _State, changed: list[int]) -> bool:
        """Arc consistency: peers without a partner at the other end of an edge drop out, until none does."""
        domains, links, chosen = state.domains, self._instance.links, self._chosen
        is_free = self._is_free
        queue, queued = list(changed), set(changed)
        while queue:
            u = queue.pop()
            queued.discard(u)
            if not links[u]:
                continue
            mine = members(domains[u])
            effort = 1 + (len(mine) >> 5)
            for w, relation in links[u]:
                if not is_free[w] or w in chosen:
                    continue
                self._meter.spend(effort)
                lost = domains[w]
                for q in mine:
                    lost &= ~relation[q]
                    if not lost:
                        break
                if not lost:
                    continue
                domains[w] &= ~lost
                if not domains[w]:
                    self._trouble[w] += 1
                    return False
                changed.append(w)
                if w not in queued:
                    queued.add(w)
                    queue.append(w)
        return True

    def _take_back(self, frame: _Frame) -> None:
        p = frame.placed
        frame.placed = -1
        self._room.give(p, self._instance.demands[frame.node])
        self._extra[p] -= self._instance.spread
        del self._chosen[frame.node]
        self._touched[p] -= 1
        if not self._touched[p]:
            del self._touched[p]

    # without edges: equal situations -------------------------------------------------------------------------------

    def _sign_peers(self, todo: list[int], domains: list[int]) -> list[int]:
        """A number for each peer, equal for those that nothing tells apart."""
        instance = self._instance
        columns = sorted({(instance.kind_of[v], domains[v]) for v in todo})
        rows = [instance.kinds[kind].costs for kind, _ in columns]
        numbers: dict[Hashable, int] = {}
        signed = []
        for p in range(len(self._room.load)):
            bits = tuple(domain >> p & 1 for _, domain in columns)
            key = (bits, tuple(row[p] for row in rows), self._room.state(p))
            signed.append(numbers.setdefault(key, len(numbers)))
        return signed

    def _peer_state(self, p: int) -> tuple[Hashable, ...]:
        hosted = tuple(sorted(self._instance.apart[v] for v, q in self._chosen.items() if q == p))
        return (self._signature[p] if self._signature else p, self._room.state(p), hosted)

    def _without_equals(self, values: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Of peers that are equal in every respect, the first."""
        signature, touched, seen = self._signature or [], self._touched, set()
        kept = []
        for value, p in values:
            key: Hashable = self._peer_state(p) if p in touched else signature[p]
            if key not in seen:
                seen.add(key)
                kept.append((value, p))
        return kept

    def _situation(self, state: _State) -> Hashable:
        left = Counter((self._instance.kind_of[v], self._instance.apart[v]) for v in state.todo)
        return (frozenset(left.items()), frozenset(Counter(self._peer_state(p) for p in self._touched).items()))

    def _is_known(self, state: _State) -> bool:
        """Whether an equal situation was searched already, and was reached at no higher cost."""
        if self._signature is None:
            return False
        points = self._seen.get(self._situation(state))
        return points is not None and points <= state.points

    def _remember(self, frame: _Frame) -> None:
        if self._signature is None or len(self._seen) >= MAX_REMEMBERED:
            return
        self._seen[self._situation(frame.state)] = frame.state.points
