"""Signed offers: those of this program, those of the original in both of its eras, and those that lie."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.actor.handle import handle_of_peer
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.bid import (
    BID_PREFIX,
    BidMessage,
    EarlyBidLocation,
    EarlyBidV1,
    sign_bid,
    verify_bid,
)
from dms.orchestrator.errors import InvalidBid
from dms.testing.actors import EPOCH_NS, key_of
from dms.types import gojson
from dms.types.ids import EnsembleID
from dms.types.resources import CPU, RAM, Location, Resources

KEY, OTHER = key_of("bob"), key_of("mallory")
HANDLE = handle_of_peer(peer_id_of(KEY.public))
OTHER_HANDLE = handle_of_peer(peer_id_of(OTHER.public))
ENSEMBLE = EnsembleID("e" * 64)
FREE = Resources(cpu=CPU(cores=1.5), ram=RAM(size=1 << 30))
PLACE = Location(continent="EU", country="DE", city="Köln <&>", asn=3320, isp="x")


def offer(**members: Any) -> BidMessage:
    arguments: dict[str, Any] = {
        "ensemble": ENSEMBLE,
        "node_id": "n1",
        "handle": HANDLE,
        "location": PLACE,
        "addresses": ("/ip4/10.0.0.1/tcp/9000",),
        "nonce": "round 1",
        "expiry_ns": EPOCH_NS + 100,
        "free": FREE,
    }
    return sign_bid(members.pop("key", KEY), **(arguments | members))


def verify(message: object, **members: Any) -> Any:
    data = message if isinstance(message, bytes) else gojson.encode(message)
    arguments: dict[str, Any] = {"ensemble": ENSEMBLE, "nonce": "round 1", "now_ns": EPOCH_NS}
    return verify_bid(data, **(arguments | members))


def test_an_offer_says_who_where_and_how_much() -> None:
    bid = verify(offer())
    assert (bid.node_id, bid.peer, bid.handle) == ("n1", HANDLE.addr.host, HANDLE)
    assert (bid.location, bid.addresses, bid.free) == (PLACE, ("/ip4/10.0.0.1/tcp/9000",), FREE)
    assert bid.expiry_ns == EPOCH_NS + 100


def test_the_signed_bytes_are_the_originals() -> None:
    v1 = offer().v1
    unsigned = gojson.encode(msgspec.structs.replace(v1, signature=None)).decode()
    assert unsigned.startswith(
        '{"EnsembleID":"' + ENSEMBLE + '","NodeID":"n1","Peer":"' + HANDLE.addr.host + '","PubAddress":['
    )
    assert (
        '"PromiseBid":false,"Location":{"continent":"EU","country":"DE","city":"Köln \\u003c\\u0026\\u003e"' in unsigned
    )
    assert unsigned.endswith('"Signature":null}')
    assert KEY.public.verify(BID_PREFIX + unsigned.encode(), v1.signature or b"")


def test_a_bid_of_the_original_says_nothing_of_capacity() -> None:
    bid = verify(msgspec.structs.replace(offer(), offer=None))
    assert bid.free is None
    assert bid.location == PLACE


def test_a_bid_of_the_early_era_is_understood() -> None:
    early = EarlyBidV1(
        ensemble_id=ENSEMBLE,
        node_id="n1",
        peer=HANDLE.addr.host,
        location=EarlyBidLocation(region="EU", country="DE", city="", asn=0, isp=""),
        handle=HANDLE,
        signature=None,
    )
    signed = msgspec.structs.replace(early, signature=KEY.sign(BID_PREFIX + gojson.encode(early)))
    bid = verify({"V1": gojson.to_builtins(signed)})
    assert (bid.location.continent, bid.location.country, bid.free) == ("EU", "DE", None)
    forged = msgspec.structs.replace(signed, node_id="n2")
    with pytest.raises(InvalidBid, match="signature"):
        verify({"V1": gojson.to_builtins(forged)})


def test_a_bid_whose_keys_are_written_otherwise_is_understood() -> None:
    text = gojson.encode(offer()).replace(b'"NodeID"', b'"nodeid"').replace(b'"Peer"', b'"PEER"')
    assert verify(text).node_id == "n1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ensemble_id": "f" * 64}, "another ensemble"),
        ({"node_id": "n2"}, "signature verification failed"),
        ({"peer": OTHER_HANDLE.addr.host}, "signature verification failed"),
        ({"pub_address": ()}, "signature verification failed"),
        ({"handle": OTHER_HANDLE}, "signature verification failed"),
        ({"signature": b""}, "signature verification failed"),
        ({"signature": None}, "signature verification failed"),
        ({"peer": "nobody"}, "failed to decode bid"),
    ],
)
def test_a_changed_bid_is_refused(change: dict[str, Any], reason: str) -> None:
    message = offer()
    with pytest.raises(InvalidBid, match=reason):
        verify(msgspec.structs.replace(message, v1=msgspec.structs.replace(message.v1, **change)))


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "round 2"},
        {"expiry_ns": EPOCH_NS + 10**15},
        {"free": Resources(cpu=CPU(cores=99))},
        {"signature": None},
    ],
)
def test_a_changed_offer_is_refused(change: dict[str, Any]) -> None:
    message = offer()
    assert message.offer is not None
    with pytest.raises(InvalidBid, match="signature verification of the offer failed"):
        verify(msgspec.structs.replace(message, offer=msgspec.structs.replace(message.offer, **change)))


def test_an_offer_of_endless_capacity_is_refused() -> None:
    data = gojson.encode(offer()).replace(b'"cores":1.5', b'"cores":1e999')
    with pytest.raises(InvalidBid, match="inf has no JSON form"):
        verify(data)


def test_an_offer_of_another_bid_does_not_fit_this_one() -> None:
    rich = offer(node_id="n2", free=Resources(cpu=CPU(cores=99)))
    with pytest.raises(InvalidBid, match="offer"):
        verify(msgspec.structs.replace(offer(), offer=rich.offer))


def test_an_offer_of_another_round_or_too_late_is_refused() -> None:
    with pytest.raises(InvalidBid, match="another round"):
        verify(offer(), nonce="round 2")
    verify(offer(), now_ns=EPOCH_NS + 100)
    with pytest.raises(InvalidBid, match="expired"):
        verify(offer(), now_ns=EPOCH_NS + 101)


def test_who_signs_for_another_peer_is_refused() -> None:
    with pytest.raises(InvalidBid, match="signature verification failed"):
        verify(offer(key=OTHER))
    wrong = msgspec.structs.replace(HANDLE, id=OTHER_HANDLE.id)
    with pytest.raises(InvalidBid, match="handle in the bid"):
        verify(offer(handle=wrong))


def test_promises_are_refused() -> None:
    v1 = msgspec.structs.replace(offer().v1, promise_bid=True, signature=None)
    signed = msgspec.structs.replace(v1, signature=KEY.sign(BID_PREFIX + gojson.encode(v1)))
    with pytest.raises(InvalidBid, match="promise"):
        verify(BidMessage(v1=signed))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["V1", "Offer", "Peer", "Handle", "id"]), inner)
    ),
)


@settings(max_examples=50)
@given(JUNK)
def test_junk_is_an_invalid_bid_and_nothing_else(junk: object) -> None:
    with pytest.raises(InvalidBid):
        verify(json.dumps(junk).encode())


@settings(max_examples=100)
@given(st.integers(0, 2000), st.integers(0, 255))
def test_no_flipped_byte_changes_what_is_offered(position: int, byte: int) -> None:
    data = bytearray(gojson.encode(offer()))
    data[position % len(data)] = byte
    try:
        bid = verify(bytes(data))
    except InvalidBid:
        return
    assert bid in (verify(offer()), verify(msgspec.structs.replace(offer(), offer=None)))
