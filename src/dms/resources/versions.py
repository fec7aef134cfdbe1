"""Versions of libraries and what is asked of them: ``1.21.3``, ``v2``, ``3.0-rc1``; ``>= 1.2``, ``~> 1.4``.

They are ordered as semantic versions are, with any number of numbers: missing ones are zero, a pre-release comes before
its release, and what follows a ``+`` does not count.
"""

from __future__ import annotations

import re
from functools import total_ordering
from typing import Final

from dms.resources.errors import InvalidResources

MAX_CHARS = 100
_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)

CONSTRAINTS: Final = ("", "=", "==", "!=", ">", ">=", "<", "<=", "~>", "~=", "^")
"""Empty stands for ``>=``. ``~>`` and ``~=``: the last number given may grow; ``^``: all but the first may."""


@total_ordering
class Version:
    """One version.

    :raises InvalidResources: the text is none.
    """

    __slots__ = ("_given", "_key")

    def __init__(self, text: str) -> None:
        match = _VERSION.fullmatch(text.strip()) if len(text) <= MAX_CHARS else None
        if match is None:
            raise InvalidResources(f'invalid version "{text[:MAX_CHARS]}"', hint="write it like 1.21.3 or 3.0-rc1")
        self._given = tuple(int(part) for part in match[1].split("."))
        numbers = list(self._given)
        while numbers and not numbers[-1]:
            numbers.pop()
        self._key = tuple(numbers), _pre_release(match[2])

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def satisfies(self, constraint: str, wanted: Version) -> bool:
        """Whether this one will do where ``constraint`` ``wanted`` is asked for.

        :raises InvalidResources: there is no such constraint.
        """
        match constraint.strip():
            case "" | ">=":
                return self >= wanted
            case "=" | "==":
                return self == wanted
            case "!=":
                return self != wanted
            case ">":
                return self > wanted
            case "<":
                return self < wanted
            case "<=":
                return self <= wanted
            case "~>" | "~=":
                return self >= wanted and self._begins_like(wanted, max(len(wanted._given) - 1, 1))
            case "^":
                return self >= wanted and self._begins_like(wanted, 1)
            case other:
                raise InvalidResources(
                    f'invalid constraint "{other[:MAX_CHARS]}"', hint="use =, !=, >, >=, <, <=, ~>, ^"
                )

    def _begins_like(self, wanted: Version, count: int) -> bool:
        mine = (*self._given, *[0] * count)[:count]
        return mine == (*wanted._given, *[0] * count)[:count]


def _pre_release(text: str | None) -> tuple[tuple[int, int, str], ...]:
    """Numbers come before words, fewer parts before more, and everything before no pre-release at all."""
    if text is None:
        return ((2, 0, ""),)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in text.split("."))
