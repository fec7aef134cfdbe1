"""Remembering which messages were seen, so that a captured one cannot be used again."""

from __future__ import annotations

import heapq

from dms.actor.errors import Replayed
from dms.identity.ids import ActorID

MAX_REMEMBERED = 200_000
"""Beyond this the entries that expire soonest are forgotten first; at that rate they have all but expired anyway."""


class ReplayWindow:
    """(sender, nonce) pairs until their expiry, in bounded memory."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._limit = limit
        self._seen: set[tuple[str, int]] = set()
        self._by_expiry: list[tuple[int, str, int]] = []

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, sender: ActorID, nonce: int, expiry_ns: int, now_ns: int) -> None:
        """Note a message.

        :raises Replayed: it was noted before and has not expired.
        """
        while self._by_expiry and (self._by_expiry[0][0] < now_ns or len(self._by_expiry) >= self._limit):
            _, pub, old = heapq.heappop(self._by_expiry)
            self._seen.discard((pub, old))
        key = (sender.pub, nonce)
        if key in self._seen:
            raise Replayed
        self._seen.add(key)
        heapq.heappush(self._by_expiry, (expiry_ns, sender.pub, nonce))
