"""A bid: a peer's signed offer to host one ensemble node (``spec/orchestration.md`` 3.2).

The inner object is the original's, byte for byte: its signature covers ``dms-bid-`` and its canonical JSON with
``"Signature":null``, made with the peer's key. It says nothing about *when* and *how much*, so ours adds a second
signed part which the original ignores: the round's nonce, the expiry, the capacity that the peer has left, for which
further nodes that holds, what it costs and how long it lasts. With that one peer can offer to host several nodes in one
message and the orchestrator knows how many fit. The second signature covers the first, and so the peer, its identity,
the ensemble and the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from dms.actor.handle import Handle
from dms.identity.ids import ActorID, public_key_of_peer
from dms.identity.keys import PrivateKey
from dms.orchestrator.errors import InvalidBid
from dms.types import gojson
from dms.types.errors import BadJSON, DMSError
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import Location, Resources

BID_PREFIX = b"dms-bid-"
OFFER_PREFIX = b"dms-bid-offer-"
MAX_NODES = 1_000
"""Different ones of one bid."""
MAX_PRICES = 16


class BidLocation(Wire):
    """Where the peer says that it is; every key is always written."""

    continent: str
    country: str
    city: str
    asn: int
    isp: str


class EarlyBidLocation(Wire):
    """The same, of the 0.5 era."""

    region: str
    country: str
    city: str
    asn: int
    isp: str


class BidV1(Wire):
    """The offer as the original knows it."""

    ensemble_id: EnsembleID = msgspec.field(name="EnsembleID")
    node_id: str = msgspec.field(name="NodeID")
    peer: PeerID = msgspec.field(name="Peer")
    pub_address: tuple[str, ...] | None = msgspec.field(name="PubAddress")
    promise_bid: bool = msgspec.field(name="PromiseBid")
    location: BidLocation = msgspec.field(name="Location")
    handle: Handle = msgspec.field(name="Handle")
    signature: bytes | None = msgspec.field(name="Signature")


class EarlyBidV1(Wire):
    """The offer of the 0.5 era."""

    ensemble_id: EnsembleID = msgspec.field(name="EnsembleID")
    node_id: str = msgspec.field(name="NodeID")
    peer: PeerID = msgspec.field(name="Peer")
    location: EarlyBidLocation = msgspec.field(name="Location")
    handle: Handle = msgspec.field(name="Handle")
    signature: bytes | None = msgspec.field(name="Signature")


class PriceBid(Wire):
    """What hosting one node costs; several are alternatives. Both parts are to be paid: by the hour, and for the result."""

    currency: str
    per_hour: float = 0.0
    per_result: float = 0.0


class TimeBid(Wire):
    """For how long: the work may last so many seconds (0: as long as it likes); whether the resources are held for whoever
    asked until the bid expires, or only once they are committed."""

    max_s: int = 0
    locked: bool = False


class StatedPlace(Wire):
    """The position that the owner of the machine states, more exactly than a city does: degrees, and how exact."""

    latitude: float
    longitude: float
    radius_km: float = 0.0


class StatedCoordinate(Wire):
    """Where the peer lies in the space of latencies (:mod:`dms.network.coordinates`), in microseconds; ``error`` in
    thousandths."""

    vector_us: tuple[int, ...]
    height_us: int = 0
    error: int = 0


class Offer(Wire):
    """Ours: for which round, until when (UNIX nanoseconds), and what the peer has free for all its nodes together.

    ``nodes`` are those beside the bid's own that it holds for, by the names under which they were asked for.
    """

    nonce: str
    expiry_ns: int
    free: Resources
    signature: bytes | None
    nodes: tuple[str, ...] = ()
    prices: tuple[PriceBid, ...] = ()
    time: TimeBid = msgspec.field(default_factory=TimeBid)
    place: StatedPlace | None = None
    coordinate: StatedCoordinate | None = None


class BidMessage(Wire):
    """The payload of a bid."""

    v1: BidV1 = msgspec.field(name="V1")
    offer: Offer | None = msgspec.field(name="Offer", default=None)


class _AnyBidMessage(Wire):
    v1: Any = msgspec.field(name="V1")  # one of two eras
    offer: Offer | None = msgspec.field(name="Offer", default=None)


class Bid(Wire):
    """A verified bid, as the matching sees it. ``free`` is ``None`` when the peer did not say.

    ``proof`` is the signed message itself, kept where others must be convinced of it. Of whoever received it:
    ``latency_us``, the round trip to the peer (0: not known), and ``doubt``, why it cannot be where it says.
    """

    node_id: str
    peer: PeerID
    handle: Handle
    location: Location = msgspec.field(default_factory=Location)
    addresses: tuple[str, ...] = ()
    free: Resources | None = None
    expiry_ns: int = 0
    prices: tuple[PriceBid, ...] = ()
    time: TimeBid = msgspec.field(default_factory=TimeBid)
    also: tuple[str, ...] = ()
    proof: bytes = b""
    place: StatedPlace | None = None
    coordinate: StatedCoordinate | None = None
    latency_us: int = 0
    doubt: str = ""


def sign_bid(
    key: PrivateKey,
    *,
    ensemble: EnsembleID,
    node_id: str,
    handle: Handle,
    location: Location,
    addresses: tuple[str, ...],
    nonce: str,
    expiry_ns: int,
    free: Resources,
    also: tuple[str, ...] = (),
    prices: tuple[PriceBid, ...] = (),
    time: TimeBid | None = None,
    place: StatedPlace | None = None,
    coordinate: StatedCoordinate | None = None,
) -> BidMessage:
    """Make and sign an offer by the node whose key this is; ``also``: further nodes that it holds for."""
    bid = BidV1(
        ensemble_id=ensemble,
        node_id=node_id,
        peer=handle.addr.host,
        pub_address=addresses,
        promise_bid=False,
        location=BidLocation(
            continent=location.continent,
            country=location.country,
            city=location.city,
            asn=location.asn,
            isp=location.isp,
        ),
        handle=handle,
        signature=None,
    )
    signature = key.sign(BID_PREFIX + gojson.encode(bid))
    offer = Offer(
        nonce=nonce,
        expiry_ns=expiry_ns,
        free=free,
        signature=None,
        nodes=also,
        prices=prices,
        time=time or TimeBid(),
        place=place,
        coordinate=coordinate,
    )
    return BidMessage(
        v1=msgspec.structs.replace(bid, signature=signature),
        offer=msgspec.structs.replace(offer, signature=key.sign(_offer_bytes(signature, offer))),
    )


def verify_bid(data: bytes, *, ensemble: EnsembleID, nonce: str | None, now_ns: int) -> Bid:
    """Parse and check a bid of any era; without ``nonce``, of any round.

    :raises InvalidBid: for another ensemble or round, expired, a signature that does not fit the peer, or a handle
        that is not the peer's.
    """
    try:
        message = gojson.decode(data, _AnyBidMessage)
        v1 = _parse_era(message.v1)
        key = public_key_of_peer(v1.peer)
    except DMSError as exc:
        raise InvalidBid(f"failed to decode bid: {exc.message}") from None
    if v1.ensemble_id != ensemble:
        raise InvalidBid("bid for another ensemble")
    if not key.verify(BID_PREFIX + gojson.encode(msgspec.structs.replace(v1, signature=None)), v1.signature or b""):
        raise InvalidBid("signature verification failed")
    if v1.handle.id != ActorID.of(key) or v1.handle.addr.host != v1.peer:
        raise InvalidBid("the handle in the bid is not that of its peer")
    bid = _plain(v1)
    offer = message.offer
    if offer is None:
        return bid
    bare = msgspec.structs.replace(offer, signature=None)
    if not key.verify(_offer_bytes(v1.signature or b"", bare), offer.signature or b""):
        raise InvalidBid("signature verification of the offer failed")
    if nonce is not None and offer.nonce != nonce:
        raise InvalidBid("bid for another round")
    if offer.expiry_ns < now_ns:
        raise InvalidBid("bid has expired")
    if len(offer.nodes) > MAX_NODES or len(offer.prices) > MAX_PRICES:
        raise InvalidBid("a bid for too many nodes, or with too many prices")
    return msgspec.structs.replace(
        bid,
        free=offer.free,
        expiry_ns=offer.expiry_ns,
        prices=offer.prices,
        time=offer.time,
        also=offer.nodes,
        place=offer.place,
        coordinate=offer.coordinate,
    )


def for_each_node(bid: Bid) -> tuple[Bid, ...]:
    """The same bid once for each node that it holds for."""
    names = dict.fromkeys((bid.node_id, *bid.also))
    return tuple(msgspec.structs.replace(bid, node_id=name, also=()) for name in names)


def asked_price(bid: Bid, currency: str) -> float | None:
    """The cheapest of what it asks in this currency: an hour of work and its result together; ``None``: it asks in others.
    Who asks nothing costs nothing."""
    if not bid.prices:
        return 0.0
    return min((p.per_hour + p.per_result for p in bid.prices if p.currency == currency), default=None)


def affordable(bid: Bid, limits: Iterable[PriceBid]) -> tuple[PriceBid, ...]:
    """The prices that keep one of these limits: in the same currency, no part is higher."""
    limits = tuple(limits)
    return tuple(
        asked
        for asked in bid.prices
        if any(
            asked.currency == limit.currency
            and 0 <= asked.per_hour <= limit.per_hour
            and 0 <= asked.per_result <= limit.per_result
            for limit in limits
        )
    )


def _parse_era(value: Any) -> BidV1 | EarlyBidV1:  # JSON of one of two shapes
    if isinstance(value, dict) and not any(key.lower() == "promisebid" for key in value):
        return gojson.convert(value, EarlyBidV1)
    return gojson.convert(value, BidV1)


def _plain(v1: BidV1 | EarlyBidV1) -> Bid:
    where = v1.location
    place = Location(
        continent=where.region if isinstance(where, EarlyBidLocation) else where.continent,
        country=where.country,
        city=where.city,
        asn=where.asn,
        isp=where.isp,
    )
    bid = Bid(node_id=v1.node_id, peer=v1.peer, handle=v1.handle, location=place)
    if isinstance(v1, EarlyBidV1):
        return bid
    if v1.promise_bid:
        raise InvalidBid("promise bids are not supported")
    return msgspec.structs.replace(bid, addresses=v1.pub_address or ())


def _offer_bytes(bid_signature: bytes, offer: Offer) -> bytes:
    try:
        return OFFER_PREFIX + bid_signature + gojson.encode(offer)
    except BadJSON as exc:
        raise InvalidBid(f"failed to decode bid: {exc.message}") from None
