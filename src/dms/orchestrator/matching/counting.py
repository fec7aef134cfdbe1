"""Placing nodes that have no edges: by counting how many of a kind each peer takes, never node by node.

Ten thousand equal nodes are one kind. The next node of a kind goes where one more costs least; as each further node on a
peer costs more than the one before, that is the cheapest way for a kind that has its peers for itself. For several kinds
that compete, :func:`refute` proves by sums and by a flow of nodes to peers that they cannot all be placed, if that can be
seen from counts alone, and names the kinds that are too many.
"""

from __future__ import annotations

import functools
import heapq
from collections import deque
from dataclasses import dataclass
from operator import or_

from dms.orchestrator.matching.bits import members
from dms.orchestrator.matching.capacity import ENDLESS, Room
from dms.orchestrator.matching.instance import Instance

MAX_SUMMED = 64
"""Of more different sets of peers only the sum over all is looked at."""


@dataclass(slots=True)
class Filled:
    """Where the nodes go, or, if ``chosen`` is ``None``, which of them did not fit by this way of placing them.

    ``is_exact``: no cheaper way exists, or no way at all.
    """

    chosen: dict[int, int] | None
    is_exact: bool
    left_out: tuple[int, ...] = ()


def fill(instance: Instance, nodes: list[int], placed: dict[int, int]) -> Filled:
    """Place ``nodes`` beside those that are placed already."""
    groups = _groups(instance, nodes)
    is_alone = _are_disjoint(groups, instance) and not any(instance.apart[v] for v in nodes)
    groups.sort(key=lambda group: (instance.domains[group[0]].bit_count() / len(group), group[0]))
    left_out: tuple[int, ...] = ()
    for _ in range(min(len(groups), 8) + 1):
        chosen, failed = _fill_in_order(instance, groups, placed)
        if failed < 0:
            return Filled(chosen, is_exact=is_alone)
        left_out = tuple(groups[failed])
        if is_alone or not failed:
            break
        groups.insert(0, groups.pop(failed))
    return Filled(None, is_exact=is_alone and not placed, left_out=left_out)


def refute(instance: Instance, nodes: list[int]) -> tuple[int, ...]:
    """Nodes that are too many for all peers that could take them, whatever else is placed where; empty if none are."""
    groups = _groups(instance, nodes)
    if greedy := _want_too_much(instance, groups):
        return tuple(sorted(v for group in greedy for v in groups[group]))
    flow = _Flow(instance, groups)
    for number in range(len(groups)):
        if too_many := flow.send(number):
            return tuple(sorted(v for group in too_many for v in groups[group]))
    return ()


def _want_too_much(instance: Instance, groups: list[list[int]]) -> list[int]:
    """Groups that together want more of something than all the peers that any of them may use have."""
    left = instance.room().left
    domains = [instance.domains[group[0]] for group in groups]
    different = sorted(set(domains))
    anybody = functools.reduce(or_, domains, 0)
    for domain in [anybody, *different] if len(different) <= MAX_SUMMED else [anybody]:
        inside = [g for g, mine in enumerate(domains) if not mine & ~domain]
        peers = members(domain)
        for dimension in range(3):
            want = sum(len(groups[g]) * instance.demands[groups[g][0]].amounts[dimension] for g in inside)
            if want and want > sum(left[p][dimension] for p in peers):
                return [g for g in inside if instance.demands[groups[g][0]].amounts[dimension]]
    return []


class _Flow:
    """Nodes of several kinds flow to peers; each peer takes so many of a kind and so many in all."""

    def __init__(self, instance: Instance, groups: list[list[int]]) -> None:
        self._sizes = [len(group) for group in groups]
        self._demands = [instance.demands[group[0]] for group in groups]
        self._peers = [members(instance.domains[group[0]]) for group in groups]
        self._room = instance.room()
        self._slots = _slots(instance, groups, self._room)
        self._used = [0] * len(self._slots)
        self._sent: list[dict[int, int]] = [{} for _ in groups]
        self._at: list[set[int]] = [set() for _ in self._slots]
        self._limits: list[dict[int, int]] = [{} for _ in groups]

    def send(self, group: int) -> set[int]:
        """Send all nodes of a group; if they cannot be, the groups that are too many together."""
        missing = self._sizes[group]
        for p in self._peers[group]:
            if not missing:
                return set()
            give = min(missing, self._slots[p] - self._used[p], self._limit(group, p))
            if give > 0:
                self._move(group, p, give)
                self._used[p] += give
                missing -= give
        for _ in range(missing):
            if reached := self._make_way(group):
                return reached
        return set()

    def _make_way(self, group: int) -> set[int]:
        """Send one more node, others giving way; if nobody can, all groups that were asked to."""
        came_to: dict[int, tuple[int, int] | None] = {group: None}
        seen: set[int] = set()
        queue = deque([group])
        while queue:
            g = queue.popleft()
            for p in self._peers[g]:
                if p in seen or self._sent[g].get(p, 0) >= self._limit(g, p):
                    continue
                if self._used[p] < self._slots[p]:
                    self._used[p] += 1
                    self._shift(g, p, came_to)
                    return set()
                seen.add(p)
                for other in sorted(self._at[p]):
                    if other not in came_to:
                        came_to[other] = (g, p)
                        queue.append(other)
        return set(came_to)

    def _shift(self, group: int, p: int, came_to: dict[int, tuple[int, int] | None]) -> None:
        self._move(group, p, 1)
        step = came_to[group]
        while step is not None:
            before, through = step
            self._move(group, through, -1)
            self._move(before, through, 1)
            group, step = before, came_to[before]

    def _move(self, group: int, p: int, count: int) -> None:
        now = self._sent[group].get(p, 0) + count
        self._sent[group][p] = now
        (self._at[p].add if now else self._at[p].discard)(group)

    def _limit(self, group: int, p: int) -> int:
        known = self._limits[group].get(p)
        if known is None:
            known = self._room.most(p, self._demands[group], self._sizes[group])
            self._limits[group][p] = known
        return known


def _fill_in_order(instance: Instance, groups: list[list[int]], placed: dict[int, int]) -> tuple[dict[int, int], int]:
    """Place the groups one after the other; also which one did not fit, or -1."""
    room, spread = instance.room(), instance.spread
    hosted: dict[int, set[str]] = {}
    for v, p in placed.items():
        room.take(p, instance.demands[v])
        if instance.apart[v]:
            hosted.setdefault(p, set()).add(instance.apart[v])
    chosen: dict[int, int] = {}
    for number, group in enumerate(groups):
        costs, demand = instance.costs[group[0]], instance.demands[group[0]]
        heap = [(costs[p] + spread * room.load[p], p) for p in members(instance.domains[group[0]])]
        heapq.heapify(heap)
        for v in group:
            label, aside = instance.apart[v], []
            while heap:
                value, p = heap[0]
                if not room.fits(p, demand):
                    heapq.heappop(heap)
                elif label and label in hosted.get(p, ()):
                    aside.append(heapq.heappop(heap))
                else:
                    break
            if not heap:
                return chosen, number
            value, p = heap[0]
            room.take(p, demand)
            chosen[v] = p
            if label:
                hosted.setdefault(p, set()).add(label)
            heapq.heapreplace(heap, (value + spread, p))
            for item in aside:
                heapq.heappush(heap, item)
    return chosen, -1


def _groups(instance: Instance, nodes: list[int]) -> list[list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for v in nodes:
        found.setdefault((instance.kind_of[v], instance.domains[v]), []).append(v)
    return list(found.values())


def _are_disjoint(groups: list[list[int]], instance: Instance) -> bool:
    together = 0
    for group in groups:
        if together & instance.domains[group[0]]:
            return False
        together |= instance.domains[group[0]]
    return True


def _slots(instance: Instance, groups: list[list[int]], room: Room) -> list[int]:
    """How many nodes each peer could hold at most, were they all like the least of those that it may host."""
    least: list[tuple[int, int, int] | None] = [None] * len(room.load)
    for group in groups:
        want = instance.demands[group[0]].amounts
        for p in members(instance.domains[group[0]]):
            known = least[p]
            least[p] = (
                want if known is None else (min(known[0], want[0]), min(known[1], want[1]), min(known[2], want[2]))
            )
    slots = []
    for p, wants in enumerate(least):
        most = min(room.slots[p], ENDLESS)
        for have, amount in zip(room.left[p], wants or (), strict=False):
            if amount:
                most = min(most, have // amount)
        slots.append(most)
    return slots
