"""What lies between two nodes of a virtual network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from dms.types.ids import PeerID


class Path(Protocol):
    """What messages between two nodes take: a link, or two by way of a relay."""

    @property
    def delay_s(self) -> float:
        """One way."""
        ...

    @property
    def loss(self) -> float:
        """The probability that a message vanishes."""
        ...

    @property
    def jitter_s(self) -> float:
        """Up to so much later."""
        ...

    @property
    def duplication(self) -> float:
        """The probability that a message comes twice."""
        ...

    @property
    def reordering(self) -> float:
        """The probability that a message is overtaken by those sent after it."""
        ...

    @property
    def is_cut(self) -> bool:
        """Whether either direction is."""
        ...

    @property
    def is_relayed(self) -> bool:
        """Whether a third node passes everything on."""
        ...

    @property
    def relay(self) -> str:
        """Which one; empty where none does."""
        ...

    @property
    def healed(self) -> trio.Event:
        """Set when a cut ends."""
        ...

    def blocks(self, sender: PeerID) -> bool:
        """Whether nothing of this node passes."""
        ...

    def crossing_s(self, size: int, sender: PeerID) -> float:
        """How long a message of so many bytes is under way that is sent now, behind those sent before."""
        ...


@dataclass(slots=True)
class Link:
    """One link, both directions.

    Its one-way delay and what comes on top of it by chance, the probability that a message is lost, comes twice or is overtaken,
    which directions are cut (by sender), and what passes in a second in each.
    """

    delay_s: float
    loss: float
    jitter_s: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    blocked: set[PeerID] = field(default_factory=set)
    healed: trio.Event = field(default_factory=trio.Event)
    bandwidth_bps: float = math.inf
    free_at_s: dict[PeerID, float] = field(default_factory=lambda: defaultdict(float))
    is_relayed: bool = False
    relay: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether either direction is: connections need both."""
        return bool(self.blocked)

    def blocks(self, sender: PeerID) -> bool:
        """Whether nothing of this node passes."""
        return sender in self.blocked

    def cut(self, *senders: PeerID) -> bool:
        """Let nothing of these nodes pass any more; whether anything of them did."""
        if self.blocked >= set(senders):
            return False
        if not self.blocked:
            self.healed = trio.Event()
        self.blocked.update(senders)
        return True

    def heal(self) -> bool:
        """Let everything pass; whether anything was held up."""
        was_cut = self.is_cut
        self.blocked.clear()
        self.healed.set()
        return was_cut

    def crossing_s(self, size: int, sender: PeerID) -> float:
        """How long a message of so many bytes is under way that is sent now, behind those sent before."""
        now_s = trio.current_time()
        self.free_at_s[sender] = max(now_s, self.free_at_s[sender]) + size * 8 / self.bandwidth_bps
        return self.free_at_s[sender] - now_s + self.delay_s


@dataclass(slots=True)
class RelayedLink:
    """Two links by way of a node that passes on a bounded number of bytes for a bounded time.

    :param links: of each end to the relay.
    :param end: called when the bytes are used up.
    """

    relay: PeerID
    links: dict[PeerID, Link]
    extra_s: float
    left_bytes: int
    until_s: float
    end: Callable[[], None]
    is_relayed: bool = True

    @property
    def delay_s(self) -> float:
        """One way, with what the relay takes."""
        return sum(link.delay_s for link in self.links.values()) + self.extra_s

    @property
    def loss(self) -> float:
        """On either link."""
        return 1 - math.prod(1 - link.loss for link in self.links.values())

    @property
    def jitter_s(self) -> float:
        """On both links together."""
        return sum(link.jitter_s for link in self.links.values())

    @property
    def duplication(self) -> float:
        """On either link."""
        return 1 - math.prod(1 - link.duplication for link in self.links.values())

    @property
    def reordering(self) -> float:
        """On either link."""
        return 1 - math.prod(1 - link.reordering for link in self.links.values())

    @property
    def is_cut(self) -> bool:
        """Whether either link is."""
        return any(link.is_cut for link in self.links.values())

    @property
    def healed(self) -> trio.Event:
        """Of a link that is cut; who waits asks again."""
        return next((link for link in self.links.values() if link.is_cut), next(iter(self.links.values()))).healed

    def blocks(self, sender: PeerID) -> bool:
        """Whether nothing of this node gets to the other."""
        first, second = self._ways(sender)
        return first.blocks(sender) or second.blocks(self.relay)

    def crossing_s(self, size: int, sender: PeerID) -> float:
        """As on a link; what is over the limit ends the connection."""
        self.left_bytes -= size
        if self.left_bytes < 0:
            self.end()
        first, second = self._ways(sender)
        return first.crossing_s(size, sender) + self.extra_s + second.crossing_s(size, self.relay)

    def _ways(self, sender: PeerID) -> tuple[Link, Link]:
        (other,) = self.links.keys() - {sender}
        return self.links[sender], self.links[other]
