"""Who said that he provides a key. Pure, and bounded in every direction.

Only the peer itself may say so, and has to say it again before :data:`PROVIDER_TTL_S` is over. A key that everybody
provides, such as the rendezvous, keeps the newest; who asks gets a random handful, so that load is spread.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from dataclasses import dataclass

from multiaddr import Multiaddr

from dms.network.kademlia.keys import position
from dms.types.ids import PeerID

PROVIDER_TTL_S = 48 * 3600.0
MAX_KEYS = 4096
MAX_PROVIDERS = 512
"""Of one key."""
MAX_KEYS_PER_PEER = 256
MAX_ENTRIES = 16384
"""Of all keys together."""
MAX_ADDRESSES = 8
"""Of one provider."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that provides a key, where it listens, and until when it is believed."""

    peer: PeerID
    addresses: tuple[Multiaddr, ...]
    expires_s: float


class ProviderStore:
    """Providers by key; times are those of the caller's clock."""

    def __init__(self, own_position: int, *, max_keys: int = MAX_KEYS, max_entries: int = MAX_ENTRIES) -> None:
        self._own = own_position
        self._max = max_keys
        self._max_entries = max_entries
        self._keys: dict[bytes, OrderedDict[PeerID, Provider]] = {}
        self._by_peer: Counter[PeerID] = Counter()
        self.entries = 0
        """How many providers of all keys."""

    def add(self, key: bytes, peer: PeerID, addresses: tuple[Multiaddr, ...], now_s: float) -> bool:
        """A peer says that it provides a key; returns whether that is kept."""
        known = self._keys.get(key)
        if known is None or peer not in known:
            if self._by_peer[peer] >= MAX_KEYS_PER_PEER:
                return False
            if known is None and not self._make_room(key):
                return False
            known = self._keys.setdefault(key, OrderedDict())
            self._by_peer[peer] += 1
            self.entries += 1
        known[peer] = Provider(peer, addresses[:MAX_ADDRESSES], now_s + PROVIDER_TTL_S)
        known.move_to_end(peer)
        while len(known) > MAX_PROVIDERS:
            self._drop(key, next(iter(known)))
        while self.entries > self._max_entries:
            farthest = self._farthest()
            self._drop(farthest, next(iter(self._keys[farthest])))
        return peer in self._keys.get(key, ())

    def get(self, key: bytes, now_s: float, count: int, rng: random.Random) -> list[Provider]:
        """Some providers of a key."""
        alive = [one for one in self._keys.get(key, {}).values() if one.expires_s > now_s]
        return alive if len(alive) <= count else rng.sample(alive, count)

    def sweep(self, now_s: float) -> None:
        """Forget those who did not say it again."""
        for key, known in list(self._keys.items()):
            for peer in [peer for peer, one in known.items() if one.expires_s <= now_s]:
                self._drop(key, peer)

    def __len__(self) -> int:
        return len(self._keys)

    def _make_room(self, key: bytes) -> bool:
        while len(self._keys) >= self._max:
            farthest = self._farthest()
            if position(farthest) ^ self._own < position(key) ^ self._own:
                return False
            for peer in list(self._keys[farthest]):
                self._drop(farthest, peer)
        return True

    def _farthest(self) -> bytes:
        return max(self._keys, key=lambda one: position(one) ^ self._own)

    def _drop(self, key: bytes, peer: PeerID) -> None:
        del self._keys[key][peer]
        self.entries -= 1
        if not self._keys[key]:
            del self._keys[key]
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]
