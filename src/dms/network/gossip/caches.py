"""What was seen lately, and what others can still ask for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dms.network.gossip.packets import Message
from dms.network.protocol import Verdict
from dms.types.ids import PeerID


class Seen:
    """Ids of messages with the verdict, for a while and in bounded number.

    The verdict is kept because whoever relays a message that was rejected before is as guilty as the first.
    """

    def __init__(self, clock: Callable[[], float], *, ttl_s: float, limit: int) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._limit = limit
        self._ids: dict[bytes, tuple[float, Verdict]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, id_: bytes) -> Verdict | None:
        """The verdict; none when the message is new."""
        found = self._ids.get(id_)
        return found[1] if found is not None and found[0] > self._clock() else None

    def add(self, id_: bytes, verdict: Verdict) -> None:
        """Remember a message; the first sight counts."""
        if self.get(id_) is not None:
            return
        self._ids.pop(id_, None)
        self._ids[id_] = (self._clock() + self._ttl_s, verdict)
        self.sweep()

    def sweep(self) -> None:
        """Forget the old ones, and the oldest beyond the limit."""
        now_s = self._clock()
        while self._ids:
            oldest = next(iter(self._ids))
            if self._ids[oldest][0] > now_s and len(self._ids) <= self._limit:
                return
            del self._ids[oldest]


@dataclass(slots=True)
class _Kept:
    message: Message
    is_own: bool
    sent: Counter[PeerID] = field(default_factory=Counter)


class History:
    """The messages of the last heartbeats, by topic, for peers that ask."""

    def __init__(self, *, beats: int, gossip_beats: int, max_transmissions: int) -> None:
        self._gossip_beats = gossip_beats
        self._max_transmissions = max_transmissions
        self._kept: dict[bytes, _Kept] = {}
        self._beats: deque[list[bytes]] = deque([[]], maxlen=beats)

    def put(self, message: Message, *, is_own: bool) -> None:
        """Keep a message."""
        if message.id not in self._kept:
            self._kept[message.id] = _Kept(message, is_own)
            self._beats[0].append(message.id)

    def ask(self, id_: bytes, peer: PeerID) -> Message | None:
        """A message for a peer, unless it is gone or the peer got it often enough."""
        kept = self._kept.get(id_)
        if kept is None or kept.sent[peer] >= self._max_transmissions:
            return None
        kept.sent[peer] += 1
        return kept.message

    def own(self, topic: str, peer: PeerID) -> list[Message]:
        """Our own messages on a topic, for a peer that is new there and was sent none of them."""
        found = [kept for kept in self._kept.values() if kept.is_own and kept.message.topic == topic]
        new = [kept for kept in found if not kept.sent[peer]]
        for kept in new:
            kept.sent[peer] += 1
        return [kept.message for kept in new]

    def note_sent(self, id_: bytes, peer: PeerID) -> None:
        """Remember that a peer got a message unasked."""
        kept = self._kept.get(id_)
        if kept is not None:
            kept.sent[peer] += 1

    def gossip(self) -> dict[str, list[bytes]]:
        """Ids to tell of, by topic."""
        found: dict[str, list[bytes]] = {}
        for beat in list(self._beats)[: self._gossip_beats]:
            for id_ in beat:
                found.setdefault(self._kept[id_].message.topic, []).append(id_)
        return found

    def shift(self) -> None:
        """A heartbeat has passed."""
        if len(self._beats) == self._beats.maxlen:
            for id_ in self._beats[-1]:
                del self._kept[id_]
        self._beats.appendleft([])
