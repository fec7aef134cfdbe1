"""Round trips and coordinates of a virtual network: from the delays of its links, without sending anything.

In a real network neighbours tell each other their coordinates all the time. Here the same steps are made up for when
somebody asks: as many rounds as would have passed since, up to a limit. So what nobody asks for costs nothing, and the same
questions at the same times have the same answers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from dms.network.coordinates import Coordinate
from dms.network.latency import LatencyTable, RoundTrip
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork
    from dms.testing.network.node import MemoryNetwork

ROUND_S = 1.0
MEASURED_S = 5.0
"""Connections are measured that often."""
MAX_ROUNDS = 40
"""That are made up for at once."""


class CoordinateExchange:
    """What the nodes of one network would have told each other."""

    def __init__(self, network: VirtualNetwork) -> None:
        self._network = network
        self._rng = random.Random(f"{network.seed}/coordinates")  # noqa: S311  a simulation, not a secret
        self._done_s: float | None = None

    def catch_up(self) -> None:
        """Do what has not been done for the time that passed."""
        now_s = trio.current_time()
        passed = MAX_ROUNDS if self._done_s is None else min(MAX_ROUNDS, int((now_s - self._done_s) / ROUND_S))
        if passed < 1:
            return
        self._done_s = now_s
        nodes = [(node, list(node.connections.inbound)) for node in self._network.running()]
        for _ in range(passed):
            for node, neighbours in nodes:
                if neighbours:
                    other = self._network.find(self._rng.choice(neighbours))
                    if other is not None:
                        node.latency.meet(other)


class VirtualLatency:
    """The round trips of one node's connections; implements :class:`dms.network.latency.Latency`."""

    def __init__(self, network: VirtualNetwork, node: MemoryNetwork) -> None:
        self._network = network
        self._node = node
        self._table = self._begun()

    def begin(self) -> None:
        """The node was started: it knows nothing of its last life."""
        self._table = self._begun()

    def table(self) -> Mapping[PeerID, RoundTrip]:
        """The round trips to the connected peers."""
        return {peer: trip for peer in sorted(self._node.connections.inbound) if (trip := self.of(peer)) is not None}

    def of(self, peer: PeerID) -> RoundTrip | None:
        """That to one peer."""
        if self._node.is_connected(peer):
            self._measure(peer)
        return self._table.of(peer)

    @property
    def coordinate(self) -> Coordinate:
        """Where this node is."""
        self._network.coordinates.catch_up()
        return self._table.coordinate

    def coordinate_of(self, peer: PeerID) -> Coordinate | None:
        """Where a peer said last that it is."""
        self._network.coordinates.catch_up()
        return self._table.coordinate_of(peer, trio.current_time())

    def estimate_us(self, a: PeerID, b: PeerID) -> int | None:
        """The round trip between two peers, measured or guessed."""
        for peer in {a, b} - {self._node.peer_id}:
            self.of(peer)
        self._network.coordinates.catch_up()
        return self._table.estimate_us(a, b, trio.current_time())

    def meet(self, other: MemoryNetwork) -> None:
        """Be told where a neighbour is."""
        self._measure(other.peer_id)
        self._table.told(other.peer_id, other.latency._table.coordinate, trio.current_time())  # noqa: SLF001  its twin

    def _measure(self, peer: PeerID) -> None:
        link, known = self._node.connections.path(peer), self._table.of(peer)
        if not link.is_cut and (known is None or trio.current_time() - known.at_s >= MEASURED_S):
            self._table.measured(peer, 2 * link.delay_s, trio.current_time())

    def _begun(self) -> LatencyTable:
        own = self._node.peer_id
        return LatencyTable(own, random.Random(f"{self._network.seed}/{own}/latency"))  # noqa: S311  a simulation
