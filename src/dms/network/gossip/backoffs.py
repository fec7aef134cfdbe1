"""Who may not be grafted for a while, since one of us pruned the other."""

from __future__ import annotations

from collections.abc import Callable

from dms.types.ids import PeerID


class Backoffs:
    """Backoffs by topic and peer; they survive the leaving of the topic and of the peer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since_until_s: dict[tuple[str, PeerID], tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._since_until_s)

    def add(self, topic: str, peer: PeerID, seconds: float) -> None:
        """From now on, for so long; a longer one that is there already stays."""
        now_s = self._clock()
        _, until_s = self._since_until_s.get((topic, peer), (0.0, 0.0))
        self._since_until_s[topic, peer] = (now_s, max(until_s, now_s + seconds))

    def has(self, topic: str, peer: PeerID) -> bool:
        """Whether the peer may not be grafted now."""
        found = self._since_until_s.get((topic, peer))
        return found is not None and found[1] > self._clock()

    def age_s(self, topic: str, peer: PeerID) -> float:
        """How long ago it began, or was made longer."""
        return self._clock() - self._since_until_s[topic, peer][0]

    def sweep(self) -> None:
        """Forget those that are over."""
        now_s = self._clock()
        for key in [key for key, (_, until_s) in self._since_until_s.items() if until_s <= now_s]:
            del self._since_until_s[key]
