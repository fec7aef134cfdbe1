"""What the matching answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dms.orchestrator.matching.problem import Edge
from dms.orchestrator.matching.rules import Rule
from dms.types.ids import PeerID


@dataclass(frozen=True, slots=True)
class Placed:
    """Every node has a peer and every edge is known to hold. ``points``: how bad it is, lower is better.

    ``is_optimal``: nothing better exists. ``work``: units of :class:`~dms.orchestrator.matching.search.Meter`.
    """

    assignment: Mapping[str, PeerID]
    points: int
    is_optimal: bool
    work: int = 0


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """The best assignment for all that is known rests on pairs that were never measured.

    Measure ``pairs``, record what was found (of a pair that cannot be measured: an endless round trip), ask again.
    """

    pairs: tuple[tuple[PeerID, PeerID], ...]
    assignment: Mapping[str, PeerID]
    points: int
    work: int = 0


@dataclass(frozen=True, slots=True)
class Conflict:
    """Wishes that cannot be met together, by themselves, whatever the others are.

    ``is_minimal``: leave any one of them out and the rest can be met. ``rules`` are those of single nodes that matter;
    ``needs_capacity``: what the peers have free matters for the nodes together; ``keeps_apart``: that nodes must live
    on different peers does.
    """

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...] = ()
    rules: tuple[tuple[str, Rule], ...] = ()
    needs_capacity: bool = False
    keeps_apart: bool = False
    is_minimal: bool = True

    def __str__(self) -> str:
        names = ", ".join(self.nodes[:_SHOWN]) + (f" and {len(self.nodes) - _SHOWN} more" * (len(self.nodes) > _SHOWN))
        by_rule: dict[Rule, list[str]] = {}
        for node, rule in self.rules:
            by_rule.setdefault(rule, []).append(node)
        reasons = [f"{rule} ({', '.join(nodes[:_SHOWN])})" for rule, nodes in by_rule.items()]
        reasons += [str(edge) for edge in self.edges[:_SHOWN]]
        if len(self.edges) > _SHOWN:
            reasons.append(f"{len(self.edges) - _SHOWN} more edges")
        if self.keeps_apart:
            reasons.append("different peers for a node and its standbys")
        if self.needs_capacity:
            reasons.append("what the peers have free")
        if len(self.nodes) == 1 and not self.edges:
            if not reasons:
                return f"no bids for {names}"
            return f"no peer that bid may host {names}: {', '.join(reasons)}"
        if self.needs_capacity and not self.edges and not self.rules and not self.keeps_apart:
            return f"the peers that bid cannot hold {names} together"
        if not reasons:
            return f"the peers that bid do not suffice for {names}"
        return f"{names} cannot be placed together: {', '.join(reasons)}"


_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Proven: there is no assignment, and ``conflict`` says why."""

    conflict: Conflict
    work: int = 0

    def __str__(self) -> str:
        return str(self.conflict)


@dataclass(frozen=True, slots=True)
class Undecided:
    """The work allowed was used up before an assignment was found or excluded."""

    work: int = 0

    def __str__(self) -> str:
        return f"no placement was found within {self.work} steps, and none excluded"


Outcome = Placed | Unmeasured | Infeasible | Undecided
