"""Named counters: what was dropped, refused, retried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class Counters:
    """Counts by name; names are chosen by the program, never by input."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Count ``amount`` more of ``name``."""
        self._counts[name] += amount

    def get(self, name: str) -> int:
        """How many of ``name`` there were."""
        return self._counts[name]

    def snapshot(self) -> Mapping[str, int]:
        """All counts of now, by name."""
        return dict(sorted(self._counts.items()))
