"""What was carried and what was dropped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum


class Drop(Enum):
    """Why a packet went no further; the values are what users and metrics see."""

    MALFORMED = "malformed"
    """Its headers disagree with its bytes."""
    FORGED_SOURCE = "forged source"
    """Its source address belongs to somebody else than who sent it."""
    NOT_OURS = "not ours"
    """A peer sent it here, but its destination is elsewhere."""
    NO_ROUTE = "no route"
    """Nobody has its destination address."""
    MULTICAST = "multicast"
    """To many: the network carries packets between two members."""
    QUEUE_FULL = "queue full"
    """The way is slower than what is sent; the oldest goes first."""
    UNREACHABLE = "unreachable"
    """There is no connection to the peer now."""
    RELAY_LIMIT = "relay limit"
    """The connection is relayed, and the relay carries no more for now."""
    TOO_BIG = "too big"
    """Larger than what the way carries; the sender was told."""
    DEVICE_FULL = "device full"
    """The member does not take its packets fast enough."""
    GATEWAY = "gateway"
    """To the gateway, which does nothing but names and pings."""
    REPLAYED = "replayed"
    """A datagram that came twice, or far too late."""
    INCOMPLETE = "incomplete"
    """Packets that were sealed together, of which a part was lost."""
    NOT_AUTHENTIC = "not authentic"
    """A datagram that the peer did not seal."""


class Tally:
    """Of one network, or of one peer in it."""

    __slots__ = ("bytes_in", "bytes_out", "drops", "packets_in", "packets_out")

    def __init__(self) -> None:
        self.packets_in = self.bytes_in = self.packets_out = self.bytes_out = 0
        self.drops: Counter[Drop] = Counter()

    def drop(self, reason: Drop, count: int = 1) -> None:
        """Count packets that went no further."""
        if count:
            self.drops[reason] += count

    def took(self, packets: int, size_bytes: int) -> None:
        """Count what came in."""
        self.packets_in += packets
        self.bytes_in += size_bytes

    def gave(self, packets: int, size_bytes: int) -> None:
        """Count what went out."""
        self.packets_out += packets
        self.bytes_out += size_bytes

    def dropped(self) -> Mapping[str, int]:
        """How many by reason, those that happened only."""
        return {reason.value: count for reason, count in sorted(self.drops.items(), key=lambda one: one[0].value)}
