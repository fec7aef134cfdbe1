"""The router: takes what peers say, decides who gets which message, and says what is to be sent to whom.

Everything happens at once and in memory. :meth:`Mesh.drain` yields what is to be sent since the last time; whoever
carries it calls that after each other method. Bad input cannot make it raise: what does not belong is dropped, counted
and, where it costs something, held against the peer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dms.network.gossip.backoffs import Backoffs
from dms.network.gossip.caches import History, Seen
from dms.network.gossip.packets import Message, Offer, Packet, Prune
from dms.network.gossip.parameters import MeshParameters
from dms.network.gossip.scores import Scores
from dms.network.gossip.upkeep import plan
from dms.network.protocol import Verdict
from dms.types.ids import PeerID

MAX_ENTRIES = 256
"""Grafts and prunes, and topics of ids, that one packet may carry; the rest is not looked at."""

IsGenuine = Callable[[Message], bool]
"""Whether a message was made by whom it says; must not raise."""
Judge = Callable[[PeerID, Message], Verdict]
"""What to do with a genuine message that a peer relayed; must not raise."""


@dataclass(slots=True)
class _Peer:
    is_outbound: bool
    knows_dont_want: bool = False
    topics: set[str] = field(default_factory=set)
    dont_want: dict[bytes, int] = field(default_factory=dict)
    ihaves: int = 0
    asked: int = 0


class Mesh:
    """One node's part in the broadcast of a network.

    :param own: our id.
    :param is_genuine: called for each new message; what is not is not remembered, since its id says nothing.
    :param judge: called once for each that is.
    :param counters: what happened is counted here.
    """

    def __init__(
        self,
        own: PeerID,
        *,
        parameters: MeshParameters,
        scores: Scores,
        is_genuine: IsGenuine,
        judge: Judge,
        clock: Callable[[], float],
        rng: random.Random,
        counters: Counter[str],
    ) -> None:
        self.parameters = parameters
        self.scores = scores
        self.members: dict[str, set[PeerID]] = {}
        """The meshes of the topics that we joined."""
        self._own = own
        self._is_genuine = is_genuine
        self._judge = judge
        self._clock = clock
        self._rng = rng
        self._counters = counters
        self._peers: dict[PeerID, _Peer] = {}
        self._seen = Seen(clock, ttl_s=parameters.seen_s, limit=parameters.max_seen)
        self._history = History(
            beats=parameters.history_beats,
            gossip_beats=parameters.gossip_beats,
            max_transmissions=parameters.max_transmissions,
        )
        self._backoffs = Backoffs(clock)
        self._promises: dict[bytes, dict[PeerID, float]] = {}
        self._offers: list[Offer] = []
        self._out: dict[PeerID, Packet] = {}
        self._beats = 0

    # peers and topics ------------------------------------------------------------------------------------------------

    def add_peer(self, peer: PeerID, *, is_outbound: bool, ip: str = "") -> None:
        """A peer connected; ``is_outbound`` when we dialled it."""
        self._peers[peer] = _Peer(is_outbound)
        self.scores.add(peer, ip)

    def remove_peer(self, peer: PeerID) -> None:
        """It disconnected."""
        if self._peers.pop(peer, None) is None:
            return
        self._out.pop(peer, None)
        for topic, members in self.members.items():
            if peer in members:
                members.discard(peer)
                self.scores.pruned(peer, topic)
        self.scores.remove(peer)

    def speaks_dont_want(self, peer: PeerID) -> None:
        """It understands the protocol's version 1.2."""
        if peer in self._peers:
            self._peers[peer].knows_dont_want = True

    def subscribers(self, topic: str) -> list[PeerID]:
        """The connected peers that listen to a topic, in a fixed order."""
        return sorted(peer for peer, known in self._peers.items() if topic in known.topics)

    def topics_of(self, peer: PeerID) -> frozenset[str]:
        """What a peer listens to."""
        known = self._peers.get(peer)
        return frozenset(known.topics) if known is not None else frozenset()

    def join(self, topic: str) -> None:
        """Take part in a topic from now on."""
        if topic in self.members:
            return
        self.members[topic] = set()
        for peer in self._peers:
            self._to(peer).subscriptions.append((topic, True))
        self._tend(topic, better_than=None)

    def leave(self, topic: str) -> None:
        """Take part no more."""
        members = self.members.pop(topic, set())
        for peer in self._peers:
            self._to(peer).subscriptions.append((topic, False))
        for peer in sorted(members):
            self.scores.pruned(peer, topic)
            self._backoffs.add(topic, peer, self.parameters.unsubscribe_backoff_s)
            self._to(peer).prune.append(Prune(topic, self.parameters.unsubscribe_backoff_s))

    # messages --------------------------------------------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        """Send a message of our own."""
        self._seen.add(message.id, Verdict.ACCEPT)
        self._history.put(message, is_own=True)
        receivers: Iterable[PeerID] = self.members.get(message.topic, ())
        if self.parameters.flood_publish or message.topic not in self.members:
            receivers = self.subscribers(message.topic)
        threshold = self.scores.parameters.publish_threshold
        for peer in sorted(receivers):
            if self.scores.of(peer) >= threshold:
                self._send(peer, message)

    def receive(self, peer: PeerID, packet: Packet) -> list[Message]:
        """What a peer sent; returns the new messages that were accepted."""
        known = self._peers.get(peer)
        if known is None:
            return []
        for topic, wanted in packet.subscriptions[:MAX_ENTRIES]:
            self._take_subscription(peer, known, topic, wanted=wanted)
        if self.scores.of(peer) < self.scores.parameters.graylist_threshold:
            self._counters["gossip packets dropped: graylisted"] += 1
            return []
        accepted = [message for message in packet.messages if self._take_message(peer, message)]
        self._take_gossip(peer, known, packet)
        for topic in packet.graft[:MAX_ENTRIES]:
            self._take_graft(peer, known, topic)
        for prune in packet.prune[:MAX_ENTRIES]:
            self._take_prune(peer, prune)
        return accepted

    def drain(self) -> list[tuple[PeerID, Packet]]:
        """What is to be sent, by peer."""
        out, self._out = self._out, {}
        return list(out.items())

    def take_offers(self) -> list[Offer]:
        """Peers that were recommended by somebody in good standing."""
        offers, self._offers = self._offers, []
        return offers

    # the heartbeat ---------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """One heartbeat has passed."""
        self._beats += 1
        for known in self._peers.values():
            known.ihaves = known.asked = 0
            known.dont_want = {id_: beats - 1 for id_, beats in known.dont_want.items() if beats > 1}
        self._settle_promises()
        self._backoffs.sweep()
        self._seen.sweep()
        opportunity = self._beats % self.parameters.opportunistic_beats == 0
        better_than = self.scores.parameters.opportunistic_graft_threshold if opportunity else None
        for topic in sorted(self.members):
            self._tend(topic, better_than=better_than)
        for topic, ids in self._history.gossip().items():
            self._tell_of(topic, ids)
        self._history.shift()

    def _tend(self, topic: str, *, better_than: float | None) -> None:
        members = self.members[topic]
        decided = plan(
            members,
            lambda: [peer for peer in self.subscribers(topic) if not self._backoffs.has(topic, peer)],
            score=self.scores.of,
            is_outbound=lambda peer: self._peers[peer].is_outbound,
            parameters=self.parameters,
            rng=self._rng,
            better_than=better_than,
        )
        for peer in decided.evict:
            self._prune(topic, peer, offers=False)
        for peer in decided.prune:
            self._prune(topic, peer, offers=True)
        for peer in decided.graft:
            members.add(peer)
            self.scores.grafted(peer, topic)
            self._to(peer).graft.append(topic)

    def _tell_of(self, topic: str, ids: list[bytes]) -> None:
        p = self.parameters
        threshold = self.scores.parameters.gossip_threshold
        mesh = self.members.get(topic, set())
        others = [peer for peer in self.subscribers(topic) if peer not in mesh and self.scores.of(peer) >= threshold]
        count = max(p.degree_lazy, int(p.gossip_factor * len(others)))
        for peer in self._rng.sample(others, min(count, len(others))):
            some = ids if len(ids) <= p.max_ids else self._rng.sample(ids, p.max_ids)
            self._to(peer).ihave[topic] = list(some)

    def _settle_promises(self) -> None:
        """Who announced a message, was asked for it and did not send it, breached the protocol."""
        now_s = self._clock()
        for id_ in [id_ for id_, peers in self._promises.items() if min(peers.values()) <= now_s]:
            for peer, deadline_s in self._promises.pop(id_).items():
                if deadline_s <= now_s:
                    self._counters["gossip promises broken"] += 1
                    self.scores.breached(peer)
                else:
                    self._promises.setdefault(id_, {})[peer] = deadline_s

    # what peers say --------------------------------------------------------------------------------------------------

    def _take_subscription(self, peer: PeerID, known: _Peer, topic: str, *, wanted: bool) -> None:
        if not wanted:
            known.topics.discard(topic)
            if peer in self.members.get(topic, ()):
                self.members[topic].discard(peer)
                self.scores.pruned(peer, topic)
            return
        is_new = topic not in known.topics
        p = self.parameters
        if not is_new or len(known.topics) >= p.max_topics or not 0 < len(topic) <= p.max_topic_chars:
            return
        known.topics.add(topic)
        for message in self._history.own(topic, peer):
            self._to(peer).messages.append(message)
        members = self.members.get(topic)
        if members is None or len(members) >= p.degree_low or self._backoffs.has(topic, peer):
            return
        if self.scores.of(peer) >= 0:
            members.add(peer)
            self.scores.grafted(peer, topic)
            self._to(peer).graft.append(topic)

    def _take_message(self, peer: PeerID, message: Message) -> bool:
        if message.topic not in self.members or message.origin == self._own:
            return False
        verdict = self._seen.get(message.id)
        if verdict is not None:
            if verdict is Verdict.REJECT:
                self._reject(peer, message.topic)
            return False
        self._promises.pop(message.id, None)
        if not self._is_genuine(message):
            self._reject(peer, message.topic)
            return False
        verdict = self._judge(peer, message)
        self._seen.add(message.id, verdict)
        if verdict is Verdict.REJECT:
            self._reject(peer, message.topic)
            return False
        self._counters[f"gossip in: {verdict.value}"] += 1
        if verdict is Verdict.IGNORE:
            return False
        self._forward(peer, message)
        return True

    def _forward(self, relay: PeerID, message: Message) -> None:
        self._history.put(message, is_own=False)
        self._history.note_sent(message.id, relay)
        is_large = len(message.data) >= self.parameters.dont_want_bytes
        for peer in sorted(self.members[message.topic]):
            known = self._peers[peer]
            if peer in (relay, message.origin):
                continue
            if is_large and known.knows_dont_want:
                self._to(peer).idontwant.append(message.id)
            if message.id not in known.dont_want:
                self._send(peer, message)

    def _reject(self, peer: PeerID, topic: str) -> None:
        self._counters["gossip in: reject"] += 1
        self.scores.rejected(peer, topic)

    def _take_gossip(self, peer: PeerID, known: _Peer, packet: Packet) -> None:
        for id_ in packet.idontwant:
            if len(known.dont_want) < self.parameters.max_dont_want:
                known.dont_want[id_] = self.parameters.dont_want_beats
        if self.scores.of(peer) < self.scores.parameters.gossip_threshold:
            return
        for id_ in packet.iwant[: self.parameters.max_ids]:
            message = self._history.ask(id_, peer)
            if message is not None:
                self._to(peer).messages.append(message)
        if not packet.ihave:
            return
        known.ihaves += 1
        if known.ihaves > self.parameters.max_ihaves:
            self._counters["gossip dropped: too many announcements"] += 1
            return
        wanted: dict[bytes, None] = {}
        for topic, ids in list(packet.ihave.items())[:MAX_ENTRIES]:
            if topic in self.members:
                wanted.update((id_, None) for id_ in ids if self._seen.get(id_) is None)
        asked = list(wanted)[: self.parameters.max_ids - known.asked]
        if not asked:
            return
        known.asked += len(asked)
        self._to(peer).iwant += asked
        promised = self._rng.choice(asked)
        self._promises.setdefault(promised, {}).setdefault(peer, self._clock() + self.parameters.promise_s)

    def _take_graft(self, peer: PeerID, known: _Peer, topic: str) -> None:
        members = self.members.get(topic)
        if members is None or peer in members:
            return  # an answer about topics that we do not know would tell what we listen to
        p = self.parameters
        if self._backoffs.has(topic, peer):
            is_flood = self._backoffs.age_s(topic, peer) < p.graft_flood_s
            self.scores.breached(peer, 2.0 if is_flood else 1.0)
            self._counters["gossip grafts refused: too soon"] += 1
            self._prune(topic, peer, offers=False)
        elif self.scores.of(peer) < 0:
            self._prune(topic, peer, offers=False)
        elif len(members) >= p.degree_high and not known.is_outbound:
            self._prune(topic, peer, offers=True)
        else:
            members.add(peer)
            self.scores.grafted(peer, topic)

    def _take_prune(self, peer: PeerID, prune: Prune) -> None:
        members = self.members.get(prune.topic)
        if members is None:
            return
        members.discard(peer)
        self.scores.pruned(peer, prune.topic)
        backoff_s = prune.backoff_s or self.parameters.prune_backoff_s
        self._backoffs.add(prune.topic, peer, min(backoff_s, self.parameters.max_backoff_s))
        if prune.offers and self.scores.of(peer) >= self.scores.parameters.accept_px_threshold:
            self._offers += prune.offers[: self.parameters.prune_peers]

    # out -------------------------------------------------------------------------------------------------------------

    def _prune(self, topic: str, peer: PeerID, *, offers: bool) -> None:
        self.members[topic].discard(peer)
        self.scores.pruned(peer, topic)
        self._backoffs.add(topic, peer, self.parameters.prune_backoff_s)
        others: list[PeerID] = []
        if offers:
            others = [one for one in self.subscribers(topic) if one != peer and self.scores.of(one) >= 0]
            others = self._rng.sample(others, min(len(others), self.parameters.prune_peers))
        packet = self._to(peer)
        packet.prune.append(Prune(topic, self.parameters.prune_backoff_s, tuple(map(Offer, others))))
        packet.graft = [one for one in packet.graft if one != topic]

    def _send(self, peer: PeerID, message: Message) -> None:
        self._history.note_sent(message.id, peer)
        self._to(peer).messages.append(message)

    def _to(self, peer: PeerID) -> Packet:
        return self._out.setdefault(peer, Packet())
