"""Watches the providers of all deployments of this node, each peer once.

The shell of :mod:`dms.orchestrator.supervision.suspicion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from dms.actor.actor import Actor
from dms.actor.handle import handle_of_peer
from dms.network.protocol import PeerChange, PeerEvent
from dms.orchestrator import messages
from dms.orchestrator.supervision.suspicion import (
    CONFIRMERS,
    PROBE_INTERVAL_S,
    PROBE_TIMEOUT_S,
    LocalHealth,
    Suspicion,
)
from dms.types.errors import DMSError
from dms.types.ids import EnsembleID, PeerID

TICK_S = 0.5
MAX_PROBES_PER_S = 50.0
"""With more peers than that takes, each is probed less often; connections that end are noticed at once all the same."""
CONFIRM_TIMEOUT_S = 3.0

OnLost = Callable[[PeerID, str], None]
OnBack = Callable[[PeerID], None]


class PeerWatch:
    """One for a node."""

    def __init__(self, root: Actor) -> None:
        self.health = LocalHealth()
        self._root = root
        self._followers: dict[EnsembleID, tuple[frozenset[PeerID], OnLost, OnBack]] = {}
        self._suspected: dict[PeerID, Suspicion] = {}
        self._dead: set[PeerID] = set()
        self._next_probe: dict[PeerID, float] = {}
        self._probing: set[PeerID] = set()
        self._woken = trio.Event()

    def follow(self, ensemble: EnsembleID, peers: Iterable[PeerID], on_lost: OnLost, on_back: OnBack) -> None:
        """From now on these are the peers of that deployment. ``on_lost`` is told of each that is dead, also of one that
        was so already; ``on_back`` of each that is there again.
        """
        wanted = frozenset(peers)
        before = self._followers.get(ensemble)
        self._followers[ensemble] = (wanted, on_lost, on_back)
        for peer in self._dead & wanted - (before[0] if before else frozenset()):
            on_lost(peer, "it is dead")
        self._woken.set()

    def forget(self, ensemble: EnsembleID) -> None:
        """That deployment has none any more."""
        self._followers.pop(ensemble, None)

    def is_dead(self, peer: PeerID) -> bool:
        """As far as anybody can tell."""
        return peer in self._dead

    async def run(self) -> None:
        """Watch, until cancelled."""
        end = self._root.network.listen(self._on_change)
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    peers = self._peers()
                    if not peers:
                        self._woken = trio.Event()
                        await self._woken.wait()
                        continue
                    self._look(nursery, peers)
                    wanted_s = trio.current_time() + TICK_S
                    await trio.sleep_until(wanted_s)
                    self._notice_lag(trio.current_time() - wanted_s)
        finally:
            end()

    def _peers(self) -> frozenset[PeerID]:
        every = frozenset[PeerID]().union(*(peers for peers, _, _ in self._followers.values()))
        return every - {self._root.network.peer_id}

    def _look(self, nursery: trio.Nursery, peers: frozenset[PeerID]) -> None:
        now_s = trio.current_time()
        interval_s = max(PROBE_INTERVAL_S, len(peers) / MAX_PROBES_PER_S)
        for gone in [peer for peer in (*self._suspected, *self._dead, *self._next_probe) if peer not in peers]:
            self._suspected.pop(gone, None)
            self._dead.discard(gone)
            self._next_probe.pop(gone, None)
        for peer in sorted(peers):
            suspicion = self._suspected.get(peer)
            if suspicion is not None and suspicion.is_dead(now_s, self.health):
                self._declare(peer, suspicion, now_s)
            if peer in self._probing or now_s < self._next_probe.get(peer, 0.0):
                continue
            self._next_probe[peer] = now_s + (TICK_S if suspicion is not None else interval_s)
            self._probing.add(peer)
            nursery.start_soon(self._probe, peer)

    async def _probe(self, peer: PeerID) -> None:
        network = self._root.network
        try:
            await network.ping(peer, timeout_s=PROBE_TIMEOUT_S * self.health.multiplier)
        except DMSError:
            if peer in self._dead:
                return
            is_new = peer not in self._suspected
            suspicion = self._suspected.setdefault(peer, Suspicion(since_s=trio.current_time()))
            suspicion.failed(is_connected=network.is_connected(peer))
            if is_new or len(suspicion.denials) < CONFIRMERS:
                await self._confirm(peer, suspicion)
        else:
            self._is_well(peer)
        finally:
            self._probing.discard(peer)

    async def _confirm(self, peer: PeerID, suspicion: Suspicion) -> None:
        """Ask others whether they reach it. That one of them does not answer us says nothing."""
        connected = [info.peer for info in self._root.network.peers() if info.peer != peer]
        own = [other for other in self._peers() if other in set(connected)]
        others = [
            other for other in dict.fromkeys((*sorted(own), *sorted(connected))) if other not in suspicion.denials
        ]

        async def ask(other: PeerID) -> None:
            request = messages.ReachRequest(peer=peer)
            try:
                reply = await self._root.invoke(
                    handle_of_peer(other), messages.REACH, request, messages.Reply, timeout_s=CONFIRM_TIMEOUT_S
                )
            except DMSError:
                return
            if reply.ok:
                self._is_well(peer)
            elif reply.error == messages.UNREACHED:
                suspicion.denied(other)

        async with trio.open_nursery() as nursery:
            for other in others[:CONFIRMERS]:
                nursery.start_soon(ask, other)

    def _is_well(self, peer: PeerID) -> None:
        if self._suspected.pop(peer, None) is not None:
            self.health.misjudged()
        else:
            self.health.reached()
        if peer in self._dead:
            self._dead.discard(peer)
            for peers, _, on_back in list(self._followers.values()):
                if peer in peers:
                    on_back(peer)

    def _declare(self, peer: PeerID, suspicion: Suspicion, now_s: float) -> None:
        del self._suspected[peer]
        self._dead.add(peer)
        beside = f", nor do {len(suspicion.denials)} others" if suspicion.denials else ""
        why = f"{peer} cannot be reached for {now_s - suspicion.since_s:.1f} s{beside}"
        for peers, on_lost, _ in list(self._followers.values()):
            if peer in peers:
                on_lost(peer, why)

    def _notice_lag(self, lag_s: float) -> None:
        self.health.lagged(lag_s)
        for suspicion in self._suspected.values():
            suspicion.slept(lag_s)

    def _on_change(self, event: PeerEvent) -> None:
        """A connection that ends is looked at without delay."""
        if event.change is PeerChange.DISCONNECTED or event.peer in self._dead:
            self._next_probe.pop(event.peer, None)
