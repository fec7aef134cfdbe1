"""Whoever wants to hear of peers that come and go."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from dms.network.protocol import PeerChange, PeerEvent, PeerListener
from dms.types.ids import PeerID

log = logging.getLogger(__name__)


class Listeners:
    """Tells all of them, in the order in which they came."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._listeners: dict[int, PeerListener] = {}
        self._next = 0

    def add(self, listener: PeerListener) -> Callable[[], None]:
        """Tell one more; returns the function that ends it."""
        number = self._next
        self._next += 1
        self._listeners[number] = listener

        def end() -> None:
            self._listeners.pop(number, None)

        return end

    def tell(self, change: PeerChange, peer: PeerID) -> None:
        """Count a change and tell it; a listener that raises is logged."""
        self._counters[f"peers {change.value}"] += 1
        for listener in list(self._listeners.values()):
            try:
                listener(PeerEvent(change, peer))
            except Exception:  # a listener must not end the network
                log.exception("a listener of peer events failed")
