"""Hosts from which large messages are taken: those that we wrote to, and those of callers that were let in, lately.

A large message fills memory and takes time to read before anybody can tell who signed it; so strangers send small ones.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dms.types.ids import PeerID

MAX_REMEMBERED: Final = 4096
REMEMBERED_S: Final = 3600.0


class Familiar:
    """Remembers hosts for a while; bounded. Times are trio's."""

    def __init__(self) -> None:
        self._until_s: OrderedDict[PeerID, float] = OrderedDict()

    def note(self, host: PeerID, now_s: float) -> None:
        """We have to do with this host."""
        self._until_s.pop(host, None)
        if len(self._until_s) >= MAX_REMEMBERED:
            self._until_s.popitem(last=False)
        self._until_s[host] = now_s + REMEMBERED_S

    def knows(self, host: PeerID, now_s: float) -> bool:
        """Whether we had to do with it lately."""
        return self._until_s.get(host, 0.0) > now_s
