"""Health as data: warnings that are declared, each with what it means, when it shows, and what keeps it silent. Pure.

Whoever looks after a part reports what is wrong with it, again and again, or that nothing is. A warning shows once that has
been so for its delay, and while no warning that explains it is reported: a node without peers is not also told that
nobody's clock can be compared. Time is given in seconds of a clock that never goes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter


class Severity(StrEnum):
    """How bad it is, the worst first."""

    ERROR = "error"
    """Something does not work."""
    WARNING = "warning"
    """Something works worse than it should, or soon will not."""
    NOTE = "note"
    """Worth knowing; nothing need be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnable:
    """Something that can be wrong. ``hint`` tells how to mend it; ``delay_s``: how long it must be so before it shows;
    ``silenced_by``: codes of others that explain it.
    """

    code: str
    severity: Severity
    text: str
    hint: str
    delay_s: float = 0.0
    silenced_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShownWarning:
    """A warning that shows: what is declared of it, what was found, and since when, in seconds of the caller's clock."""

    kind: Warnable
    detail: str
    since_s: float

    @property
    def text(self) -> str:
        """What is wrong, in one line."""
        return f"{self.kind.text}: {self.detail}" if self.detail else self.kind.text


@dataclass(frozen=True, slots=True)
class Turn:
    """What has changed since the last look."""

    appeared: tuple[ShownWarning, ...] = ()
    gone: tuple[ShownWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class _Trouble:
    detail: str
    since_s: float


class Health:
    """The warnings of one process.

    :raises ValueError: a code is declared twice, silenced by one that is not declared, or in the end by itself.
    """

    def __init__(self, declared: Iterable[Warnable]) -> None:
        self._kinds: dict[str, Warnable] = {}
        for kind in declared:
            if kind.code in self._kinds:
                raise ValueError(f"the warning {kind.code} is declared twice")
            self._kinds[kind.code] = kind
        for kind in self._kinds.values():
            if unknown := set(kind.silenced_by) - set(self._kinds):
                raise ValueError(f"the warning {kind.code} is silenced by {unknown}, not declared")
        try:
            TopologicalSorter({code: kind.silenced_by for code, kind in self._kinds.items()}).prepare()
        except CycleError as exc:
            raise ValueError(f"warnings silence each other: {exc.args[1]}") from None
        self._troubles: dict[str, _Trouble] = {}
        self._told: dict[str, ShownWarning] = {}

    @property
    def declared(self) -> Mapping[str, Warnable]:
        """All that can be wrong, by code."""
        return self._kinds

    def report(self, code: str, detail: str | None, now_s: float) -> None:
        """What is wrong now, in a few words or none; ``None``: nothing is.

        :raises KeyError: the code is not declared.
        """
        kind = self._kinds[code]
        if detail is None:
            self._troubles.pop(kind.code, None)
            return
        known = self._troubles.get(code)
        self._troubles[code] = _Trouble(detail, now_s if known is None else known.since_s)

    def shown(self, now_s: float) -> tuple[ShownWarning, ...]:
        """The warnings that show, the worst first, then the oldest."""
        order = list(Severity)
        found = [
            ShownWarning(self._kinds[code], trouble.detail, trouble.since_s)
            for code, trouble in self._troubles.items()
            if now_s >= self._due_s(code) and not self._is_explained(code)
        ]
        return tuple(sorted(found, key=lambda w: (order.index(w.kind.severity), w.since_s, w.kind.code)))

    def turn(self, now_s: float) -> Turn:
        """What shows that did not at the last call, and the other way round."""
        now = {warning.kind.code: warning for warning in self.shown(now_s)}
        appeared = tuple(warning for code, warning in now.items() if code not in self._told)
        gone = tuple(warning for code, warning in self._told.items() if code not in now)
        self._told = now
        return Turn(appeared, gone)

    def next_change_s(self, now_s: float) -> float:
        """When the next warning shows if nothing is reported until then; infinite: none does."""
        waiting = (self._due_s(code) for code in self._troubles if not self._is_explained(code))
        return min((due for due in waiting if due > now_s), default=math.inf)

    def _due_s(self, code: str) -> float:
        return self._troubles[code].since_s + self._kinds[code].delay_s

    def _is_explained(self, code: str) -> bool:
        """Whether a warning that silences it, or one that silences that, is reported: whether it shows already or not."""
        return any(other in self._troubles or self._is_explained(other) for other in self._kinds[code].silenced_by)
