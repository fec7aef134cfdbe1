"""Which peer hosts which ensemble node: an exact search over the bids, pure (``spec/orchestration.md`` 5.3, 12.1).

A peer may host several nodes as long as what it has free (part of its bid) holds them all; a peer that did not say
what it has free hosts one. Nodes with the fewest bids are placed first; whatever cannot be right is cut early, so that
exhausting the search proves that no assignment exists. Among the assignments the search meets peers in order of
preference: those that host fewer nodes of this ensemble already, then those with more free capacity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dms.orchestrator.bid import Bid
from dms.resources.arithmetic import fits, subtract
from dms.types.ids import PeerID
from dms.types.resources import Resources

MAX_STEPS = 200_000
"""Placements tried before the search gives up; without edges far fewer are ever needed."""


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
    offers = {w.node_id: _usable(w, bids) for w in nodes}
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
        if bid.node_id != wanted.node_id or (wanted.pinned and bid.peer != wanted.pinned):
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
            if bid.free is not None and (known is None or bid.free.cpu.cores < known.cpu.cores):
                self._left[bid.peer] = bid.free
            else:
                self._left.setdefault(bid.peer, None)
        self._load: dict[PeerID, int] = dict.fromkeys(self._left, 0)
        self._steps = 0
        self.chosen: dict[str, Bid] = {}

    def place(self, index: int) -> bool:
        if index == len(self._order):
            return True
        wanted = self._order[index]
        for bid in sorted(self._offers[wanted.node_id], key=self._preference):
            self._steps += 1
            if self._steps > MAX_STEPS:
                return False
            before = self._left[bid.peer]
            if before is None and self._load[bid.peer]:
                continue
            if before is not None and not fits(before, wanted.resources):
                continue
            self._left[bid.peer] = None if before is None else subtract(before, wanted.resources)
            self._load[bid.peer] += 1
            self.chosen[wanted.node_id] = bid
            if self.place(index + 1):
                return True
            self._left[bid.peer] = before
            self._load[bid.peer] -= 1
            del self.chosen[wanted.node_id]
        return False

    def _preference(self, bid: Bid) -> tuple[int, float, int, str]:
        left = self._left[bid.peer]
        cores, ram = (left.cpu.cores, left.ram.size) if left is not None else (0.0, 0)
        return (self._load[bid.peer], -cores, -ram, bid.peer)
