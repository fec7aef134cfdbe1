"""Requests of one orchestrator in the order in which it made them, however they arrive (``spec/orchestration.md`` 12.2).

Every message of an actor has a higher number than its earlier ones, so numbers serve as request ids: a commit that was
overtaken by the revert that takes it back reserves nothing, and a revert that was overtaken by the next attempt takes
nothing away. The memory outlasts the life of any message; after a restart there are no bids either, without which nothing
is committed.
"""

from __future__ import annotations

from dms.identity.ids import ActorID
from dms.node.errors import StaleRequest
from dms.types.ids import EnsembleID

MEMORY_S = 3600.0
MAX_REMEMBERED = 50_000

_Key = tuple[EnsembleID, ActorID, str]
_WHOLE = ""


class RequestOrder:
    """The newest requests about each allocation, by the numbers of their messages."""

    def __init__(self) -> None:
        self._reverted: dict[_Key, tuple[int, float]] = {}
        self._made: dict[_Key, tuple[int, float]] = {}

    def make(self, ensemble: EnsembleID, orchestrator: ActorID, allocation: str, number: int, now_s: float) -> None:
        """A commit or an allocate is about to be carried out.

        :raises StaleRequest: a later message took it back already.
        """
        for key in ((ensemble, orchestrator, _WHOLE), (ensemble, orchestrator, allocation)):
            if number < self._reverted.get(key, (0, 0.0))[0]:
                raise StaleRequest(f"the request for {allocation} was taken back before it arrived")
        key = (ensemble, orchestrator, allocation)
        known = self._made.get(key, (0, 0.0))[0]
        if known or len(self._made) < MAX_REMEMBERED:
            self._made[key] = (max(known, number), now_s)

    def revert(
        self, ensemble: EnsembleID, orchestrator: ActorID, allocations: frozenset[str], number: int, now_s: float
    ) -> None:
        """Some allocations, or with none the whole ensemble, are taken back."""
        for allocation in allocations or {_WHOLE}:
            key = (ensemble, orchestrator, allocation)
            known = self._reverted.get(key, (0, 0.0))[0]
            if known or len(self._reverted) < MAX_REMEMBERED:
                self._reverted[key] = (max(known, number), now_s)

    def is_overtaken(self, ensemble: EnsembleID, orchestrator: ActorID, allocation: str, number: int) -> bool:
        """Whether the allocation was asked for after this message was made."""
        return self._made.get((ensemble, orchestrator, allocation), (0, 0.0))[0] > number

    def sweep(self, now_s: float) -> None:
        """Forget what no message can be about any more."""
        self._reverted = {key: entry for key, entry in self._reverted.items() if now_s - entry[1] < MEMORY_S}
        self._made = {key: entry for key, entry in self._made.items() if now_s - entry[1] < MEMORY_S}
