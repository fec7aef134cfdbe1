"""Finding where datagrams reach a peer, and how large they may be, without I/O.

Probes of several sizes go to every address that might be the peer's. The first that is answered is the way; larger ones
that are answered raise its size. While it is used a probe goes out every other second; when none is answered any more
the way is given up, packets take the stream again, and the search begins anew, less and less often.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

SIZES_BYTES = (1420, 1380, 1310, 1190)
"""Of packets: what fits 1,500 bytes of Ethernet, the same over IPv6 and the 1,460 of some clouds, 1,400, and the 1,280 that
IPv6 guarantees."""
SEARCH_EVERY_S = 1.0
SEARCHES = 5
REST_S = 30.0
KEEP_EVERY_S = 2.0
SILENT_S = 7.0
TOKEN_BYTES = 8
MAX_OUTSTANDING = 256

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Probe:
    """One to send: where to, the token that its answer carries, and the size of packet that it stands for."""

    address: Address
    token: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Way:
    """Where datagrams reach the peer now, and the largest packet that does."""

    address: Address
    size_bytes: int


class Prober:
    """Of one peer."""

    def __init__(self, candidates: tuple[Address, ...], *, token: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._candidates = dict.fromkeys(candidates)
        self._token = token
        self._sent: OrderedDict[bytes, tuple[Probe, float]] = OrderedDict()
        self._way: Way | None = None
        self._answered_s = 0.0
        self._searches = 0
        self._next_s = 0.0
        self.rtt_s: float | None = None

    def add(self, address: Address) -> None:
        """Another address that might be the peer's: try it at once."""
        if address not in self._candidates:
            self._candidates[address] = None
            if self._way is None:
                self._searches, self._next_s = 0, 0.0

    def way(self, now_s: float) -> Way | None:
        """Where to send now."""
        if self._way is not None and now_s - self._answered_s > SILENT_S:
            self._way, self._searches, self._next_s, self.rtt_s = None, 0, now_s, None
        return self._way

    def due(self, now_s: float) -> list[Probe]:
        """What to send now; ask again at :meth:`next_s`."""
        way = self.way(now_s)
        if now_s < self._next_s:
            return []
        if way is not None:
            self._next_s = now_s + KEEP_EVERY_S
            larger = [size for size in SIZES_BYTES if size > way.size_bytes][-1:]
            return [self._probe(way.address, size, now_s) for size in (way.size_bytes, *larger)]
        self._searches += 1
        rests = self._searches >= SEARCHES
        self._next_s = now_s + (REST_S if rests else SEARCH_EVERY_S)
        if rests:
            self._searches = 0
        return [self._probe(address, size, now_s) for address in self._candidates for size in SIZES_BYTES]

    def next_s(self, now_s: float) -> float:
        """When something is due."""
        return max(now_s, self._next_s)

    def answered(self, token: bytes, now_s: float) -> None:
        """An answer came."""
        found = self._sent.pop(token, None)
        if found is None:
            return
        probe, sent_s = found
        way = self.way(now_s)
        if way is None:
            self._way = Way(probe.address, probe.size_bytes)
            self._next_s = now_s + KEEP_EVERY_S
        elif probe.address != way.address:
            return
        elif probe.size_bytes > way.size_bytes:
            self._way = Way(way.address, probe.size_bytes)
        self._answered_s = now_s
        sample_s = now_s - sent_s
        self.rtt_s = sample_s if self.rtt_s is None else 0.75 * self.rtt_s + 0.25 * sample_s

    def too_large(self, size_bytes: int) -> None:
        """The kernel knows that the way takes no packets of this size."""
        smaller = [size for size in SIZES_BYTES if size < size_bytes]
        if self._way is not None and self._way.size_bytes >= size_bytes and smaller:
            self._way = Way(self._way.address, smaller[0])

    def _probe(self, address: Address, size_bytes: int, now_s: float) -> Probe:
        probe = Probe(address, self._token(TOKEN_BYTES), size_bytes)
        self._sent[probe.token] = (probe, now_s)
        while len(self._sent) > MAX_OUTSTANDING:
            self._sent.popitem(last=False)
        return probe
