"""Names of keys; the did:key texts are the published vectors of the did:key method."""

from __future__ import annotations

import base58
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.identity.errors import IdentityError, InvalidDID, InvalidKey, InvalidPeerID, NoAnchorMethod, UnexpectedKeyType
from dms.identity.ids import (
    DID,
    NO_DID,
    ActorID,
    did_of,
    peer_id_of,
    public_key_of_did,
    public_key_of_peer,
)
from dms.identity.keys import KeyType, PrivateKey, PublicKey
from dms.types import gojson
from dms.types.ids import PeerID

ZERO_SEED = PrivateKey(KeyType.ED25519, bytes(32)).public
ZERO_SEED_DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
SECP = PrivateKey(
    KeyType.SECP256K1, bytes.fromhex("9085d2bef69286a6cbb51623c8fa258629945cd55ca705cc4e66700396894e0c")
).public
SECP_DID = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"


@pytest.mark.parametrize(("key", "did"), [(ZERO_SEED, ZERO_SEED_DID), (SECP, SECP_DID)])
def test_published_did_key_vectors(key: PublicKey, did: str) -> None:
    assert did_of(key) == DID(uri=did)
    assert public_key_of_did(DID.parse(did)) == key


@pytest.mark.parametrize(
    ("kind", "raw", "start"),
    [
        (KeyType.ED25519, ZERO_SEED.raw, "z6Mk"),
        (KeyType.SECP256K1, SECP.raw, "zQ3s"),
        (KeyType.ETH, SECP.raw, "zzCH"),
        (KeyType.CARDANO, ZERO_SEED.raw, "zE4Mr"),
    ],
)
def test_every_kind_of_key_has_a_did(kind: KeyType, raw: bytes, start: str) -> None:
    key = PublicKey(kind, raw)
    did = did_of(key)
    assert did.uri.startswith(f"did:key:{start}")
    assert public_key_of_did(did) == key


@pytest.mark.parametrize(("key", "start"), [(ZERO_SEED, "12D3KooW"), (SECP, "16Uiu2HAm")])
def test_peer_ids_contain_the_key(key: PublicKey, start: str) -> None:
    peer = peer_id_of(key)
    assert peer.startswith(start)
    assert base58.b58decode(peer)[:2] == bytes((0, len(key.to_protobuf())))
    assert public_key_of_peer(peer) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "12D3KooW",
        "0OIl",
        " " + peer_id_of(ZERO_SEED),
        peer_id_of(ZERO_SEED) + "\n",
        "1" * 100_000,
        "ü",
    ],
)
def test_other_peer_ids_are_refused(text: str) -> None:
    with pytest.raises(InvalidPeerID):
        public_key_of_peer(PeerID(text))


def test_actor_ids_are_padded_base32_in_an_object() -> None:
    for key in (ZERO_SEED, SECP):
        actor = ActorID.of(key)
        assert len(actor.pub) == 64
        assert actor.pub.endswith("=")
        assert gojson.encode(actor) == b'{"pub":"%s"}' % actor.pub.encode()
        assert gojson.decode(gojson.encode(actor), ActorID).public_key() == key
    assert gojson.encode(ActorID(pub="")) == b'{"pub":""}'
    assert not ActorID(pub="")


def test_only_the_canonical_text_of_an_actor_id_is_accepted() -> None:
    pub = ActorID.of(ZERO_SEED).pub
    body = pub.rstrip("=")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"["ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".index(body[-1]) | 1]
    for text in (
        "",
        body,
        pub.lower(),
        pub + "=" * 8,
        body[:-1] + last + "=" * (64 - len(body)),
        "é" * 64,
        "A" * 64,
        "=" * 64,
    ):
        if text != pub:
            with pytest.raises(InvalidKey):
                ActorID(pub=text).public_key()


def test_wallet_keys_have_a_did_but_no_actor_id_and_no_peer_id() -> None:
    key = PublicKey(KeyType.ETH, SECP.raw)
    with pytest.raises(UnexpectedKeyType):
        ActorID.of(key)
    with pytest.raises(UnexpectedKeyType):
        peer_id_of(key)


@pytest.mark.parametrize(
    "text", ["did", "did:key", "did:key:", "did::z6Mk", ":key:z", "did:key:a:b", "DID:key:z", "did:web:" + "a" * 2000]
)
def test_texts_that_are_no_did_are_refused(text: str) -> None:
    with pytest.raises(InvalidDID, match=r"^invalid DID"):
        DID.parse(text)


def test_the_empty_text_is_nobody() -> None:
    assert DID.parse("") == NO_DID
    assert not NO_DID
    assert str(NO_DID) == ""
    assert gojson.encode(NO_DID) == b"{}"
    assert gojson.encode(DID.parse("did:web:x")) == b'{"uri":"did:web:x"}'
    assert DID.parse("did:web:x").method == "web"
    assert NO_DID.method == ""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", InvalidDID),
        ("nonsense", InvalidDID),
        ("did:web:example.org", NoAnchorMethod),
        ("did:prism:abc", NoAnchorMethod),
        ("did:key:f0102", InvalidDID),
        ("did:key:z", InvalidDID),
        ("did:key:z0OIl", InvalidDID),
        ("did:key:z" + "1" * 900, InvalidDID),
        ("did:key:zé", InvalidDID),
        ("did:key:z" + base58.b58encode(b"\xec\x01" + bytes(32)).decode(), InvalidDID),
        ("did:key:z" + base58.b58encode(b"\xed\x01" + bytes(31)).decode(), InvalidDID),
        ("did:key:z" + base58.b58encode(b"\xed\x81\x00" + bytes(32)).decode(), InvalidDID),
        ("did:key:z" + base58.b58encode(b"\xe7\x01\x04" + bytes(32)).decode(), InvalidDID),
        (ZERO_SEED_DID + "\n", InvalidDID),
    ],
)
def test_dids_without_a_usable_key_are_refused(text: str, error: type[IdentityError]) -> None:
    with pytest.raises(error):
        public_key_of_did(DID(uri=text))


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_every_name_leads_back_to_the_key(seed: bytes) -> None:
    key = PrivateKey(KeyType.ED25519, seed).public
    assert public_key_of_did(did_of(key)) == key
    assert public_key_of_peer(peer_id_of(key)) == key
    assert ActorID.of(key).public_key() == key


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_did_or_an_identity_error(text: str) -> None:
    with pytest.raises(IdentityError):
        public_key_of_did(DID(uri="did:key:" + text))
    with pytest.raises(IdentityError):
        public_key_of_peer(PeerID(text))
    with pytest.raises(IdentityError):
        ActorID(pub=text).public_key()
