"""Why a peer may not host a node, looked at alone: the rules that need no search (``spec/ensemble.md`` 2.8, 2.9)."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from dms.ensemble.config import LocationConstraints
from dms.ensemble.requirements import location_matches
from dms.orchestrator.matching.capacity import Demand, shortage
from dms.orchestrator.matching.problem import Offer, Wanted
from dms.types.ids import PeerID


class Rule(StrEnum):
    """What can keep a node from a peer. The first ones concern the two alone, the last ones other nodes too."""

    NO_BID = "bid"
    EXCLUDED = "excluded"
    PINNED = "pinned"
    LOCATION = "location"
    DISTANCE = "distance"
    RESOURCES = "resources"
    PRICE = "price"

    EDGE = "edge"
    APART = "apart"
    CAPACITY = "capacity"
    RANK = "rank"


ALONE = (Rule.NO_BID, Rule.EXCLUDED, Rule.PINNED, Rule.LOCATION, Rule.DISTANCE, Rule.RESOURCES, Rule.PRICE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node is not on a peer: the rule, and what exactly."""

    node_id: str
    peer: PeerID
    rule: Rule
    detail: str

    def __str__(self) -> str:
        return f"{self.node_id} on {self.peer}: {self.detail}"


def broken_rules(
    wanted: Wanted, demand: Demand, offer: Offer, excluded: AbstractSet[PeerID]
) -> Iterator[tuple[Rule, str]]:
    """Every rule that keeps this node from this peer whatever becomes of the other nodes, and why."""
    if wanted.name not in offer.nodes:
        yield Rule.NO_BID, "the peer did not bid for this node"
    if offer.peer in excluded:
        yield Rule.EXCLUDED, "the peer is excluded"
    if wanted.pinned and offer.peer != wanted.pinned:
        yield Rule.PINNED, f"the node is pinned to {wanted.pinned}"
    if not wanted.pinned:
        yield from _broken_places(wanted, offer)
    if short := shortage(offer.free, demand):
        yield Rule.RESOURCES, short
    price = offer.price_of(wanted.name)
    if wanted.max_price is not None and price > wanted.max_price:
        yield Rule.PRICE, f"the peer asks {price:g}, the limit is {wanted.max_price:g}"


def _broken_places(wanted: Wanted, offer: Offer) -> Iterator[tuple[Rule, str]]:
    if not location_matches(wanted.location, offer.location):
        where = offer.location
        known = ", ".join(filter(None, (where.continent, where.country, where.city, where.isp))) or "unknown"
        rejected = wanted.location is not None and location_matches(
            LocationConstraints(accept=wanted.location.accept), where
        )
        yield Rule.LOCATION, f"its location ({known}) is {'rejected' if rejected else 'not among those accepted'}"
    elif offer.doubt and wanted.location is not None and (wanted.location.accept or wanted.location.reject):
        yield Rule.LOCATION, offer.doubt
    if wanted.within is None:
        return
    if offer.place is None:
        yield Rule.DISTANCE, f"where it is is not known, and it must be within {wanted.within.radius_km:g} km"
        return
    distance_km = wanted.within.centre.distance_km(offer.place)
    if distance_km > wanted.within.radius_km:
        yield Rule.DISTANCE, f"it is {distance_km:.0f} km away, the limit is {wanted.within.radius_km:g} km"
