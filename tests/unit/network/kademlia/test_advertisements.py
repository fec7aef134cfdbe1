"""Tests of :mod:`dms.network.kademlia.advertisements`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.network.errors import InvalidRecord
from dms.network.kademlia.advertisements import (
    LEEWAY_S,
    LIFETIME_S,
    AdvertisementValidator,
    record_key,
    seal,
    split_record_key,
    unseal,
)
from dms.network.protobuf import decode, encode

NOW_S = 1_800_000_000.0
OWNER = PrivateKey(KeyType.ED25519, b"\x01" * 32)
OTHER = PrivateKey(KeyType.ED25519, b"\x02" * 32)
PEER = peer_id_of(OWNER.public)
PLACE = record_key("gpu", PEER)
VALIDATOR = AdvertisementValidator()


def original(
    signer: PrivateKey, data: bytes, timestamp: int, *, signed_timestamp: int | None = None, swapped: bool = False
) -> bytes:
    """A record as the original writes it."""
    public = signer.public.to_protobuf()
    peer = peer_id_of(signer.public).encode()
    byte = (timestamp if signed_timestamp is None else signed_timestamp) & 0xFF
    signature = signer.sign(peer + bytes([byte]) + data + public)
    ends = (signature, public) if swapped else (public, signature)
    return encode([(1, peer), (2, timestamp), (3, data), (4, ends[0]), (5, ends[1])])


def sealed(sequence: int, *, data: bytes = b"data", withdrawn: bool = False, wall_s: float = NOW_S) -> bytes:
    return seal(OWNER, "gpu", data, sequence=sequence, wall_s=wall_s, is_withdrawn=withdrawn)


def test_the_place_of_a_record_is_that_of_the_original() -> None:
    assert f"/nunet-dht-1/-gpu-{PEER}".encode() == PLACE
    assert split_record_key(record_key("a-b-c", PEER)) == ("a-b-c", PEER)


@pytest.mark.parametrize(
    "raw", [b"", b"/nunet-dht-1/", b"/nunet-dht-1/-gpu", b"/nunet-dht-1/--" + PEER.encode(), b"\xff/x", b"/pk/x"]
)
def test_other_places_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRecord):
        split_record_key(raw)


@settings(max_examples=40)
@given(st.binary(max_size=200), st.integers(0, 1 << 50), st.booleans())
def test_what_is_sealed_is_read(data: bytes, sequence: int, withdrawn: bool) -> None:
    record = unseal(sealed(sequence, data=data, withdrawn=withdrawn))
    assert (record.peer, record.key, record.data, record.sequence) == (PEER, "gpu", data, sequence)
    assert record.is_withdrawn == withdrawn
    assert record.expires_s == NOW_S + LIFETIME_S
    VALIDATOR.validate(PLACE, sealed(sequence, data=data, withdrawn=withdrawn), NOW_S)


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_bit_of_what_counts_can_be_changed(at: int, flip: int) -> None:
    raw = bytearray(sealed(7))
    raw[at % len(raw)] ^= flip
    try:
        record = unseal(bytes(raw))
    except InvalidRecord:
        return
    assert record == unseal(sealed(7))  # only the part of the timestamp that the original does not sign


def test_a_record_of_ours_is_one_of_the_original() -> None:
    """Its nodes verify what they know: peer id, one byte of the timestamp, data and public key."""
    fields = dict(decode(sealed(3)))
    peer, timestamp, data, public, signature = (fields[number] for number in (1, 2, 3, 4, 5))
    assert isinstance(peer, bytes)
    assert isinstance(timestamp, int)
    assert isinstance(data, bytes)
    assert isinstance(public, bytes)
    assert isinstance(signature, bytes)
    assert (peer.decode(), timestamp, public) == (PEER, NOW_S, OWNER.public.to_protobuf())
    assert OWNER.public.verify(peer + bytes([timestamp & 0xFF]) + data + public, signature)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_record_of_the_original_can_be_read(swapped: bool) -> None:
    raw = original(OWNER, b"hello", int(NOW_S), swapped=swapped)
    VALIDATOR.validate(PLACE, raw, NOW_S)
    record = unseal(raw)
    assert (record.data, record.sequence, record.is_legacy) == (b"hello", NOW_S, True)


def test_any_record_of_ours_outranks_those_of_the_original_and_the_highest_sequence_wins() -> None:
    old = original(OWNER, b"replayed", 1 << 60)
    values = [old, sealed(1), sealed(9), sealed(8), sealed(9, wall_s=NOW_S - 10)]
    assert VALIDATOR.select(PLACE, values) == 2
    assert VALIDATOR.select(PLACE, [old, sealed(1, withdrawn=True)]) == 1
    assert VALIDATOR.select(PLACE, [original(OWNER, b"a", 5), original(OWNER, b"b", 6)]) == 1


def test_only_the_owner_can_delete() -> None:
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(PLACE, b"", NOW_S)
    foreign = seal(OTHER, "gpu", b"", sequence=99, wall_s=NOW_S, is_withdrawn=True)
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(PLACE, foreign, NOW_S)
    VALIDATOR.validate(PLACE, sealed(99, withdrawn=True), NOW_S)


def test_a_record_stands_only_under_its_key() -> None:
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(record_key("cpu", PEER), sealed(1), NOW_S)
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(record_key("gpu", peer_id_of(OTHER.public)), sealed(1), NOW_S)


def test_records_expire_and_none_lives_for_ever() -> None:
    raw = sealed(1)
    VALIDATOR.validate(PLACE, raw, NOW_S + LIFETIME_S + LEEWAY_S - 1)
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(PLACE, raw, NOW_S + LIFETIME_S + LEEWAY_S)
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(PLACE, raw, NOW_S - LEEWAY_S - 2)


@settings(max_examples=60)
@given(st.binary(max_size=120), st.integers(0, 300))
def test_no_bytes_are_fatal(junk: bytes, cut: int) -> None:
    for raw in (junk, sealed(1)[:cut], sealed(1)[:cut] + junk, encode([(1, junk), (3, junk), (4, junk), (5, junk)])):
        try:
            VALIDATOR.validate(PLACE, raw, NOW_S)
        except InvalidRecord:
            continue
