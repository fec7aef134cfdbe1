"""Looking for the peers nearest to a key: which peer to ask next, and when it is enough. Pure.

A peer that was asked tells of others that are nearer. The search ends when the :data:`WIDTH` nearest peers that did not
fail have all answered. What answers may add is bounded: a liar can make a search longer, not endless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from dms.network.kademlia.keys import position, position_of_peer
from dms.network.kademlia.table import BUCKET_SIZE
from dms.types.ids import PeerID

WIDTH = BUCKET_SIZE
AT_ONCE = 10
MAX_ASKED = 160
"""Peers asked in one search."""
MAX_HEARD = 1000
"""Peers heard of in one search."""


class _State(Enum):
    HEARD = "heard"
    ASKED = "asked"
    ANSWERED = "answered"
    FAILED = "failed"


class Lookup:
    """One search."""

    def __init__(
        self, key: bytes, seeds: Iterable[PeerID], *, own: PeerID, width: int = WIDTH, at_once: int = AT_ONCE
    ) -> None:
        self._target = position(key)
        self._own = own
        self._width = width
        self._at_once = at_once
        self._states: dict[PeerID, _State] = {}
        self._distances: dict[PeerID, int] = {}
        self._asked = 0
        self._hear(seeds)

    def next(self) -> list[PeerID]:
        """Whom to ask now; they count as asked from here on."""
        in_flight = sum(state is _State.ASKED for state in self._states.values())
        room = min(self._at_once - in_flight, MAX_ASKED - self._asked)
        wanted = [peer for peer in self._nearest() if self._states[peer] is _State.HEARD][: max(0, room)]
        for peer in wanted:
            self._states[peer] = _State.ASKED
        self._asked += len(wanted)
        return wanted

    def answered(self, peer: PeerID, nearer: Iterable[PeerID] = ()) -> None:
        """A peer that was asked told of others."""
        if self._states.get(peer) is _State.ASKED:
            self._states[peer] = _State.ANSWERED
            self._hear(list(nearer)[: self._width])

    def failed(self, peer: PeerID) -> None:
        """A peer that was asked did not answer."""
        if self._states.get(peer) is _State.ASKED:
            self._states[peer] = _State.FAILED

    @property
    def is_done(self) -> bool:
        """Whether nobody is left to ask or to wait for."""
        nearest = self._nearest()
        if any(self._states[peer] is _State.ASKED for peer in nearest):
            return False
        return self._asked >= MAX_ASKED or all(self._states[peer] is _State.ANSWERED for peer in nearest)

    def closest(self) -> list[PeerID]:
        """The nearest peers that answered, nearest first."""
        found = [peer for peer in self._by_distance() if self._states[peer] is _State.ANSWERED]
        return found[: self._width]

    @property
    def asked(self) -> int:
        """How many were asked."""
        return self._asked

    def _nearest(self) -> list[PeerID]:
        return [peer for peer in self._by_distance() if self._states[peer] is not _State.FAILED][: self._width]

    def _by_distance(self) -> Sequence[PeerID]:
        return sorted(self._states, key=self._distances.__getitem__)

    def _hear(self, peers: Iterable[PeerID]) -> None:
        for peer in peers:
            if len(self._states) >= MAX_HEARD:
                return
            if peer != self._own and peer not in self._states:
                self._states[peer] = _State.HEARD
                self._distances[peer] = position_of_peer(peer) ^ self._target
