"""Which connections to close when there are too many: those of least use. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

IDLE_STEP_S = 60.0
"""Connections that were used within the same minute are equally busy."""


@dataclass(frozen=True, slots=True)
class Standing(Generic[K]):
    """What speaks for a connection: never to be closed, work under way, what gossip and node think of the peer, how long
    ago a stream was last used, and for how long it has existed (one that has lasted has round trips to show for it)."""

    key: K
    is_protected: bool
    open_work: int
    score: float
    idle_s: float
    age_s: float


def expendable(standings: Sequence[Standing[K]], *, low_water: int, grace_s: float) -> list[K]:
    """The connections to close so that ``low_water`` remain, the most expendable first.

    Those that are protected or younger than the grace period stay, so more may remain.
    """
    surplus = len(standings) - low_water
    if surplus <= 0:
        return []
    candidates = [one for one in standings if not one.is_protected and one.age_s >= grace_s]
    return [one.key for one in sorted(candidates, key=_use)[:surplus]]


def _use(one: Standing[K]) -> tuple[bool, float, float, float]:
    return one.open_work > 0, one.score, -(one.idle_s // IDLE_STEP_S), one.age_s
