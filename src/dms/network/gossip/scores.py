"""What is thought of each peer, as a number: positive is good, below the thresholds it loses rights one by one."""

from __future__ import annotations

import ipaddress
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from dms.network.gossip.parameters import ScoreParameters
from dms.network.protocol import PeerScore, TopicScore
from dms.types.ids import PeerID


@dataclass(slots=True)
class _Fading:
    """A counter that loses a fixed part of itself in any second."""

    value: float = 0.0
    at_s: float = 0.0

    def now(self, now_s: float, decay_s: float, to_zero: float) -> float:
        if not self.value:
            return 0.0
        value = self.value * to_zero ** ((now_s - self.at_s) / decay_s)
        return value if value > to_zero else 0.0


@dataclass(slots=True)
class _Topic:
    grafted_s: float | None = None
    invalid: _Fading = field(default_factory=_Fading)


@dataclass(slots=True)
class _Peer:
    ip: str = ""
    crowd: str = ""
    is_connected: bool = True
    expires_s: float = math.inf
    topics: dict[str, _Topic] = field(default_factory=lambda: defaultdict(_Topic))
    breaches: _Fading = field(default_factory=_Fading)
    cached: float = 0.0
    cached_until_s: float = -math.inf


class Scores:
    """The scores of the connected peers, and of those that left lately with something to answer for.

    :param app_score: what the node itself thinks of a peer; whatever is no finite number counts as 0.
    :param clock: seconds that only grow.
    """

    def __init__(
        self, parameters: ScoreParameters, app_score: Callable[[PeerID], float], clock: Callable[[], float]
    ) -> None:
        self.parameters = parameters
        self._app_score = app_score
        self._clock = clock
        self._peers: dict[PeerID, _Peer] = {}
        self._crowds: dict[str, set[PeerID]] = defaultdict(set)
        self._shown: dict[PeerID, PeerScore] = {}
        self._shown_until_s = -math.inf

    # what happens ----------------------------------------------------------------------------------------------------

    def add(self, peer: PeerID, ip: str = "") -> None:
        """A peer connected, from this address if it is known and its own."""
        known = self._peers.get(peer)
        if known is None or known.expires_s <= self._clock():
            known = self._peers[peer] = _Peer()
        known.is_connected, known.expires_s = True, math.inf
        self._leave_crowd(peer, known)
        known.ip, known.crowd = ip, crowd_of(ip)
        if known.crowd:
            self._crowds[known.crowd].add(peer)
            self._recount(known.crowd)

    def remove(self, peer: PeerID) -> None:
        """It disconnected; what it did wrong is kept for a while."""
        known = self._peers.get(peer)
        if known is None:
            return
        self._leave_crowd(peer, known)
        now_s = self._clock()
        for topic in known.topics.values():
            topic.grafted_s = None
        known.is_connected = False
        known.cached_until_s = -math.inf
        known.expires_s = now_s + self.parameters.retain_s
        if not self._breaches(known, now_s) and not any(self._invalid(one, now_s) for one in known.topics.values()):
            del self._peers[peer]
        self._forget(now_s)

    def grafted(self, peer: PeerID, topic: str) -> None:
        """It is in our mesh of a topic from now on."""
        if (known := self._changed(peer)) is not None:
            known.topics[topic].grafted_s = self._clock()

    def pruned(self, peer: PeerID, topic: str) -> None:
        """It is not any more."""
        if (known := self._changed(peer)) is not None:
            known.topics[topic].grafted_s = None

    def rejected(self, peer: PeerID, topic: str) -> None:
        """It relayed a message that nobody may relay."""
        if (known := self._changed(peer)) is not None:
            now_s = self._clock()
            one = known.topics[topic]
            one.invalid = _Fading(self._invalid(one, now_s) + 1, now_s)

    def breached(self, peer: PeerID, times: float = 1.0) -> None:
        """It did not keep to the protocol."""
        if (known := self._changed(peer)) is not None:
            now_s = self._clock()
            known.breaches = _Fading(self._breaches(known, now_s) + times, now_s)

    # what follows ----------------------------------------------------------------------------------------------------

    def of(self, peer: PeerID) -> float:
        """The score of a peer; 0 for strangers. Changes of time and of the node's opinion count within a second."""
        known = self._peers.get(peer)
        if known is None:
            return 0.0
        now_s = self._clock()
        if known.cached_until_s <= now_s:
            known.cached = self._total(peer, known, now_s)
            known.cached_until_s = now_s + self.parameters.inspect_s
        return known.cached

    def all(self) -> dict[PeerID, PeerScore]:
        """The scores of the connected peers with all their parts, at most a second old."""
        now_s = self._clock()
        if self._shown_until_s <= now_s or self._shown.keys() != {p for p, k in self._peers.items() if k.is_connected}:
            self._shown = {
                peer: self._inspect(peer, known, now_s) for peer, known in self._peers.items() if known.is_connected
            }
            self._shown_until_s = now_s + self.parameters.inspect_s
        return dict(self._shown)

    @property
    def retained(self) -> int:
        """How many peers are remembered that are not here."""
        return sum(not known.is_connected for known in self._peers.values())

    def _inspect(self, peer: PeerID, known: _Peer, now_s: float) -> PeerScore:
        topics = {name: self._topic(one, now_s) for name, one in known.topics.items()}
        breaches = self._breaches(known, now_s)
        return PeerScore(
            total=self._total(peer, known, now_s),
            app_specific=self._app(peer),
            topics={name: one for name, one in topics.items() if one.score or one.mesh_s},
            ip_colocation=self._colocation(known),
            behaviour=self._behaviour(breaches),
            breaches=breaches,
            ip=known.ip,
        )

    def _total(self, peer: PeerID, known: _Peer, now_s: float) -> float:
        topics = 0.0
        for one in known.topics.values():
            if one.grafted_s is not None or one.invalid.value:
                topics += self._topic(one, now_s).score
        total = min(self.parameters.topic_cap, topics) + self._app(peer) + self._colocation(known)
        return total + self._behaviour(self._breaches(known, now_s))

    def _app(self, peer: PeerID) -> float:
        found = self._app_score(peer)
        return self.parameters.app_weight * found if math.isfinite(found) else 0.0

    def _colocation(self, known: _Peer) -> float:
        crowd = len(self._crowds[known.crowd]) - self.parameters.ip_threshold if known.crowd else 0
        return self.parameters.ip_weight * max(0, crowd) ** 2

    def _behaviour(self, breaches: float) -> float:
        return self.parameters.behaviour_weight * max(0.0, breaches - self.parameters.behaviour_threshold) ** 2

    def _topic(self, topic: _Topic, now_s: float) -> TopicScore:
        p = self.parameters.topic
        mesh_s = 0.0 if topic.grafted_s is None else now_s - topic.grafted_s
        invalid = self._invalid(topic, now_s)
        time_in_mesh = p.mesh_weight * min(mesh_s / p.mesh_quantum_s, p.mesh_cap)
        return TopicScore(
            score=p.weight * (time_in_mesh + p.invalid_weight * invalid**2), mesh_s=mesh_s, invalid_messages=invalid
        )

    def _invalid(self, topic: _Topic, now_s: float) -> float:
        return topic.invalid.now(now_s, self.parameters.topic.invalid_decay_s, self.parameters.decay_to_zero)

    def _breaches(self, known: _Peer, now_s: float) -> float:
        return known.breaches.now(now_s, self.parameters.behaviour_decay_s, self.parameters.decay_to_zero)

    def _changed(self, peer: PeerID) -> _Peer | None:
        known = self._peers.get(peer)
        if known is not None:
            known.cached_until_s = self._shown_until_s = -math.inf
        return known

    def _leave_crowd(self, peer: PeerID, known: _Peer) -> None:
        if known.crowd:
            self._crowds[known.crowd].discard(peer)
            self._recount(known.crowd)
            if not self._crowds[known.crowd]:
                del self._crowds[known.crowd]
            known.crowd = ""

    def _recount(self, crowd: str) -> None:
        for peer in self._crowds[crowd]:
            self._peers[peer].cached_until_s = -math.inf

    def _forget(self, now_s: float) -> None:
        left = [peer for peer, known in self._peers.items() if not known.is_connected]
        left.sort(key=lambda peer: self._peers[peer].expires_s)
        for number, peer in enumerate(left):
            if self._peers[peer].expires_s <= now_s or len(left) - number > self.parameters.max_retained:
                del self._peers[peer]


def crowd_of(ip: str) -> str:
    """With whom an address counts as one: IPv4 alone, IPv6 with its /64; empty for those that anybody may share."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_global:
        return ""
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
