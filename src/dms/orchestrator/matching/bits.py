"""Sets of peers as the bits of one whole number: unions and intersections of thousands at the speed of the processor."""

from __future__ import annotations

from functools import lru_cache
from itertools import compress

_TO_FLAGS = bytes.maketrans(b"01", b"\0\1")
_REMEMBERED = 512
"""Sets: a search comes back to few of them again and again."""


@lru_cache(_REMEMBERED)
def flags(mask: int) -> bytes:
    """One byte per peer from the lowest on, 1 where it is a member: a selector for :func:`itertools.compress`."""
    return bin(mask)[:1:-1].encode().translate(_TO_FLAGS)


@lru_cache(_REMEMBERED)
def members(mask: int) -> tuple[int, ...]:
    """The members, in order."""
    if 20 * mask.bit_count() > 120 + mask.bit_length():  # where the one way becomes faster than the other
        return tuple(compress(range(mask.bit_length()), flags(mask)))
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return tuple(found)
