"""What passed in private networks, all of them together: for metrics, whose labels must be few however many peers there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

PATHS = ("datagram", "direct", "relayed")


@dataclass
class Totals:
    """Of one network, or of many. What is counted never becomes less; ``networks``, ``attached``, ``ways`` and ``rtts_s`` are
    of now."""

    networks: int = 0
    attached: int = 0
    """Addresses whose devices are here."""
    ways: Counter[str] = field(default_factory=Counter)
    """To other machines, by path; those that are used now."""
    rtts_s: list[float] = field(default_factory=list)
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    queries: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, other: Totals, *, is_over: bool = False) -> None:
        """Those of another one; of one that is over, only what was counted."""
        if not is_over:
            self.networks += other.networks
            self.attached += other.attached
            self.ways += other.ways
            self.rtts_s += other.rtts_s
        self.packets_in += other.packets_in
        self.packets_out += other.packets_out
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.drops += other.drops
        self.queries += other.queries


def median(values: Sequence[float]) -> float | None:
    """The one in the middle, the lower of two; nothing of nothing."""
    return sorted(values)[(len(values) - 1) // 2] if values else None
