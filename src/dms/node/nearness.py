"""How near the connected peers are, and choosing among them: ``/dms/node/peers/latency``."""

from __future__ import annotations

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.network.coordinates import Coordinate
from dms.network.peer_filter import PeerFilter
from dms.network.protocol import Network
from dms.node.errors import InvalidRequest
from dms.node.nearness_payloads import LATENCY, PeerChoice, PeerDistance, PeerDistances, PeerPlace
from dms.types.ids import PeerID

MAX_TOLD = 1000
"""Peers in one answer, the nearest ones."""
_MILLE = 1000


def filter_of(choice: PeerChoice) -> PeerFilter:
    """What is asked of peers, as the network knows it.

    :raises InvalidRequest: a limit is negative.
    """
    if min(choice.max_rtt_us, choice.connected_for_ms, choice.nearest) < 0:
        raise InvalidRequest("a limit on peers cannot be negative")
    return PeerFilter(choice.max_rtt_us / _MILLE, choice.connected_for_ms / _MILLE, choice.nearest)


class NearnessBehaviours:
    """Tells the latency table."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        actor.on(LATENCY, self._tell, payload=PeerChoice, error_reply=lambda e: PeerDistances(peers=(), error=e))

    async def _tell(self, message: Message[PeerChoice]) -> PeerDistances:
        chosen = filter_of(message.payload).choose(self._network.peers(), self._network.latency)
        return PeerDistances(
            peers=tuple(self._distance(peer) for peer in chosen[:MAX_TOLD]),
            place=_place(self._network.latency.coordinate),
        )

    def _distance(self, peer: PeerID) -> PeerDistance:
        latency = self._network.latency
        trip, where = latency.of(peer), latency.coordinate_of(peer)
        return PeerDistance(
            id=peer,
            smoothed_us=trip.smoothed_us if trip else 0,
            variation_us=trip.variation_us if trip else 0,
            minimum_us=trip.minimum_us if trip else 0,
            samples=trip.samples if trip else 0,
            estimated_us=round(latency.coordinate.estimate_ms(where) * _MILLE) if where else 0,
            place=_place(where) if where else None,
        )


def _place(where: Coordinate) -> PeerPlace:
    return PeerPlace(
        vector=tuple(round(x, 3) for x in where.vector), height=round(where.height_ms, 3), error=round(where.error, 4)
    )
