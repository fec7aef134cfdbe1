"""Which peer hosts which ensemble node: an exact search over the bids, pure (``spec/orchestration.md`` 5.3, 12.1).

A peer may host several nodes as long as what it has free (part of its bid) holds them all; a peer that did not say
what it has free hosts one. Nodes with the fewest bids are placed first; whatever cannot be right is cut early, so that
exhausting the search proves that no assignment exists. Among the assignments the search meets peers in order of
preference: those that host fewer nodes of this ensemble already, then those with more free capacity.

What was proven hopeless is remembered: equal remainders of the search, of which there are many as nodes and peers
resemble each other, are not searched twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dms.orchestrator.bid import Bid
from dms.resources.arithmetic import covers, fits, hundredths, take
from dms.types.ids import PeerID
from dms.types.resources import Resources

MAX_STEPS = 10_000
"""Placements tried before the search gives up, some tenths of a second; without edges far fewer are ever needed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one ensemble node needs."""

    node_id: str
    resources: Resources
    pinned: PeerID | None = None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Why there is no assignment: nodes without any bid, or those whose bids cannot be reconciled."""

    without_bids: tuple[str, ...] = ()
    contended: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.without_bids:
            return f"no bids for {', '.join(self.without_bids)}"
        return f"the peers that bid cannot hold {', '.join(self.contended)} together"


def match(wanted: Iterable[Wanted], bids: Iterable[Bid]) -> Mapping[str, Bid] | Unmatched:
    """One bid for every node, or why not."""
    nodes = tuple(wanted)
    by_node: dict[str, list[Bid]] = {w.node_id: [] for w in nodes}
    for bid in bids:
        if bid.node_id in by_node:
            by_node[bid.node_id].append(bid)
    offers = {w.node_id: _usable(w, by_node[w.node_id]) for w in nodes}
    empty = tuple(w.node_id for w in nodes if not offers[w.node_id])
    if empty:
        return Unmatched(without_bids=empty)
    search = _Search(sorted(nodes, key=lambda w: (len(offers[w.node_id]), w.node_id)), offers)
    if search.place(0):
        return {w.node_id: search.chosen[w.node_id] for w in nodes}
    return Unmatched(contended=tuple(w.node_id for w in nodes))


def _usable(wanted: Wanted, bids: Iterable[Bid]) -> tuple[Bid, ...]:
    """The newest bid of each peer for this node that could hold it alone."""
    newest: dict[PeerID, Bid] = {}
    for bid in bids:
        if wanted.pinned and bid.peer != wanted.pinned:
            continue
        if bid.free is None or fits(bid.free, wanted.resources):
            newest[bid.peer] = bid
    return tuple(newest.values())


class _Search:
    """Depth-first search with a running account of what each peer has left."""

    def __init__(self, order: list[Wanted], offers: Mapping[str, tuple[Bid, ...]]) -> None:
        self._order = order
        self._offers = offers
        self._left: dict[PeerID, Resources | None] = {}
        for bid in (b for candidates in offers.values() for b in candidates):
            known = self._left.get(bid.peer)
            if bid.free is not None and (known is None or covers(known, bid.free)):
                self._left[bid.peer] = bid.free  # of several, the least
            else:
                self._left.setdefault(bid.peer, None)
        self._load: dict[PeerID, int] = dict.fromkeys(self._left, 0)
        self._steps = 0
        self._hopeless: set[tuple[int, frozenset[object]]] = set()
        asked: dict[PeerID, set[str]] = {}
        for node, candidates in offers.items():
            for bid in candidates:
                asked.setdefault(bid.peer, set()).add(node)
        self._to_place = [(0, 0, 0)]
        """Of the nodes from each index on: hundredths of cores, bytes of memory and of disk."""
        for wanted in reversed(order):
            mine, rest = _amounts(wanted.resources), self._to_place[0]
            self._to_place.insert(0, (mine[0] + rest[0], mine[1] + rest[1], mine[2] + rest[2]))
        self._bid_for = {peer: frozenset(nodes) for peer, nodes in asked.items()}
        self.chosen: dict[str, Bid] = {}

    def place(self, index: int) -> bool:
        if index == len(self._order):
            return True
        wanted = self._order[index]
        if not self._is_enough(index):
            return False
        situation = (index, self._remainder())
        if situation in self._hopeless:
            return False
        for bid in sorted(self._offers[wanted.node_id], key=self._preference):
            self._steps += 1
            if self._steps > MAX_STEPS:
                return False
            before = self._left[bid.peer]
            if before is None and self._load[bid.peer]:
                continue
            if before is not None and not fits(before, wanted.resources):
                continue
            self._left[bid.peer] = None if before is None else take(before, wanted.resources)
            self._load[bid.peer] += 1
            self.chosen[wanted.node_id] = bid
            if self.place(index + 1):
                return True
            self._left[bid.peer] = before
            self._load[bid.peer] -= 1
            del self.chosen[wanted.node_id]
        self._hopeless.add(situation)
        return False

    def _is_enough(self, index: int) -> bool:
        """Whether all peers together could hold what is still to be placed."""
        if None in self._left.values():
            return True
        have = [_amounts(left) for left in self._left.values() if left is not None]
        return all(
            sum(column) >= want for column, want in zip(zip(*have, strict=True), self._to_place[index], strict=True)
        )

    def _remainder(self) -> frozenset[object]:
        """What is left, without regard to which of equal peers has it."""
        return frozenset(
            Counter(
                (self._bid_for[peer], left, self._load[peer] if left is None else 0)
                for peer, left in self._left.items()
            ).items()
        )

    def _preference(self, bid: Bid) -> tuple[int, float, int, str]:
        left = self._left[bid.peer]
        cores, ram = (left.cpu.cores, left.ram.size) if left is not None else (0.0, 0)
        return (self._load[bid.peer], -cores, -ram, bid.peer)


def _amounts(resources: Resources) -> tuple[int, int, int]:
    return (hundredths(resources.cpu.cores), resources.ram.size, resources.disk.size)
