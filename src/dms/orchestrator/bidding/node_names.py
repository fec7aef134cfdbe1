"""Many names of ensemble nodes in little space: ``worker-0001..worker-1250`` stands for all between.

Ranges are made of names that end in a number of the same width; a set of them answers whether a name is in it without
writing all of them down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dms.types.errors import BadInput

MAX_NAMES = 50_000
"""Of one set, ranges counted."""
MAX_ENTRIES = 5_000
MAX_CHARS = 63
_TO = ".."
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})", re.ASCII | re.DOTALL)


class NodeNames:
    """A set of names.

    :raises BadInput: it is too large, or has a range that is none.
    """

    __slots__ = ("_plain", "_ranges", "count")

    def __init__(self, entries: Iterable[str]) -> None:
        plain: set[str] = set()
        self._ranges: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self.count = 0
        for number, entry in enumerate(entries):
            if number >= MAX_ENTRIES:
                raise BadInput(f"more than {MAX_ENTRIES} names and ranges of nodes")
            first, to, last = entry.partition(_TO)
            if to:
                self.count += self._add_range(first, last)
            else:
                plain.add(first[: MAX_CHARS + 1])
        self._plain = frozenset(plain)
        self.count += len(plain)
        if self.count > MAX_NAMES:
            raise BadInput(f"more than {MAX_NAMES} nodes")

    def __contains__(self, name: str) -> bool:
        if name in self._plain:
            return True
        found = _NUMBERED.fullmatch(name)
        if found is None:
            return False
        number = int(found[2])
        return any(low <= number <= high for low, high in self._ranges.get((found[1], len(found[2])), ()))

    def _add_range(self, first: str, last: str) -> int:
        begin, end = _NUMBERED.fullmatch(first), _NUMBERED.fullmatch(last)
        if begin is None or end is None or begin[1] != end[1] or len(begin[2]) != len(end[2]):
            raise BadInput(f"not a range of nodes: {first[:MAX_CHARS]!r} to {last[:MAX_CHARS]!r}")
        low, high = int(begin[2]), int(end[2])
        self._ranges.setdefault((begin[1], len(begin[2])), []).append((low, high))
        return max(0, high - low + 1)


def compact(names: Iterable[str]) -> tuple[str, ...]:
    """The shortest list of names and ranges for a set of names."""
    plain: list[str] = []
    numbered: dict[tuple[str, int], list[int]] = {}
    for name in names:
        found = _NUMBERED.fullmatch(name)
        if found is None:
            plain.append(name)
        else:
            numbered.setdefault((found[1], len(found[2])), []).append(int(found[2]))
    for (stem, width), numbers in numbered.items():
        for low, high in _runs(sorted(set(numbers))):
            first, last = f"{stem}{low:0{width}}", f"{stem}{high:0{width}}"
            plain.append(first if low == high else f"{first}{_TO}{last}")
    return tuple(sorted(plain))


def _runs(numbers: list[int]) -> Iterable[tuple[int, int]]:
    low = None
    for place, number in enumerate(numbers):
        if low is None:
            low = number
        if place + 1 == len(numbers) or numbers[place + 1] != number + 1:
            yield low, number
            low = None
