"""The routing table: peers that serve the hash table, the more of them the nearer they are to us. Pure.

Peers that share n leading bits with us are in bucket n, at most :data:`BUCKET_SIZE` of them. Old peers that still answer
stay, since they are the likeliest to stay on, and since nobody can flood them out; newcomers wait beside a full bucket
for a place. To guard against one owner of many cheap ids, a bucket takes only a few peers of one public network.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from multiaddr import Multiaddr

from dms.network.addresses import ip_of
from dms.network.kademlia.keys import position, position_of_peer, shared_bits
from dms.types.ids import PeerID

BUCKET_SIZE = 20
MAX_PER_GROUP = 3
"""Peers of one public /24 (IPv6: /48) in a bucket."""
REPLACE_AFTER_S = 3600.0
"""An entry not heard of for so long gives its place to a newcomer."""


@dataclass(slots=True)
class Entry:
    """A peer in the table; times are those of the caller's clock."""

    peer: PeerID
    position: int
    bucket: int
    since_s: float
    heard_s: float
    """When it last answered or asked."""
    group: str | None = None


@dataclass(slots=True)
class _Bucket:
    entries: dict[PeerID, Entry] = field(default_factory=dict)
    waiting: OrderedDict[PeerID, Entry] = field(default_factory=OrderedDict)


class RoutingTable:
    """Who serves the hash table."""

    def __init__(self, own: PeerID, *, bucket_size: int = BUCKET_SIZE, max_per_group: int = MAX_PER_GROUP) -> None:
        self.own = own
        self.own_position = position_of_peer(own)
        self._size = bucket_size
        self._per_group = max_per_group
        self._buckets: dict[int, _Bucket] = {}

    def heard(self, peer: PeerID, now_s: float, *, group: str | None = None) -> bool:
        """A peer serves the hash table and is alive; returns whether it is in the table now."""
        if peer == self.own:
            return False
        where = position_of_peer(peer)
        number = shared_bits(where, self.own_position)
        bucket = self._buckets.setdefault(number, _Bucket())
        entry = bucket.entries.get(peer)
        if entry is not None:
            entry.heard_s = now_s
            entry.group = group if group is not None else entry.group
            return True
        bucket.waiting.pop(peer, None)
        entry = Entry(peer, where, number, now_s, now_s, group)
        if self._has_room(bucket, entry) or self._make_room(bucket, entry, now_s):
            bucket.entries[peer] = entry
            return True
        bucket.waiting[peer] = entry
        while len(bucket.waiting) > self._size:
            bucket.waiting.popitem(last=False)
        return False

    def remove(self, peer: PeerID) -> None:
        """It does not answer, or serves no more; whoever waited last takes its place."""
        number = shared_bits(position_of_peer(peer), self.own_position)
        bucket = self._buckets.get(number)
        if bucket is None:
            return
        bucket.waiting.pop(peer, None)
        if bucket.entries.pop(peer, None) is not None:
            for waiting in reversed(list(bucket.waiting.values())):
                if self._has_room(bucket, waiting):
                    del bucket.waiting[waiting.peer]
                    bucket.entries[waiting.peer] = waiting
                    break
        if not bucket.entries and not bucket.waiting:
            del self._buckets[number]

    def closest(self, key: bytes, count: int = BUCKET_SIZE, *, without: Collection[PeerID] = ()) -> list[PeerID]:
        """The nearest peers to a key, nearest first."""
        target = position(key)
        near = sorted((entry.position ^ target, entry.peer) for entry in self if entry.peer not in without)
        return [peer for _, peer in near[:count]]

    def unheard(self, since_s: float, count: int) -> list[PeerID]:
        """Peers not heard of since then, those longest silent first."""
        silent = sorted((entry.heard_s, entry.peer) for entry in self if entry.heard_s < since_s)
        return [peer for _, peer in silent[:count]]

    def deepest(self) -> int:
        """The number of the nearest bucket in use; 0 for an empty table."""
        return max((number for number, bucket in self._buckets.items() if bucket.entries), default=0)

    def __iter__(self) -> Iterator[Entry]:
        for bucket in self._buckets.values():
            yield from bucket.entries.values()

    def __len__(self) -> int:
        return sum(len(bucket.entries) for bucket in self._buckets.values())

    def __contains__(self, peer: PeerID) -> bool:
        bucket = self._buckets.get(shared_bits(position_of_peer(peer), self.own_position))
        return bucket is not None and peer in bucket.entries

    def _has_room(self, bucket: _Bucket, entry: Entry) -> bool:
        return len(bucket.entries) < self._size and self._is_diverse(bucket.entries.values(), entry)

    def _make_room(self, bucket: _Bucket, entry: Entry, now_s: float) -> bool:
        oldest = min(bucket.entries.values(), key=lambda one: one.heard_s, default=None)
        if oldest is None or now_s - oldest.heard_s < REPLACE_AFTER_S:
            return False
        others = [one for one in bucket.entries.values() if one is not oldest]
        if not self._is_diverse(others, entry):
            return False
        del bucket.entries[oldest.peer]
        return True

    def _is_diverse(self, others: Iterable[Entry], entry: Entry) -> bool:
        return entry.group is None or sum(one.group == entry.group for one in others) < self._per_group


def group_of(addresses: Iterable[Multiaddr]) -> str | None:
    """The public network that a peer is in; nothing for private addresses and names, which tell nothing of ownership."""
    for address in addresses:
        ip = ip_of(address)
        if ip is not None and ip.is_global:
            length = 24 if ip.version == 4 else 48
            return str(ipaddress.ip_network((ip, length), strict=False))
    return None
