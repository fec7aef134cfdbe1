"""Keys: vectors published with RFC 8032, the libp2p peer id specification and web3."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.identity import secp256k1
from dms.identity.errors import InvalidKey, UnexpectedKeyType
from dms.identity.keys import (
    KeyType,
    PrivateKey,
    PublicKey,
    generate_key,
    private_key_from_import,
    private_key_from_protobuf,
    public_key_from_protobuf,
)

ED25519_PRIVATE = bytes.fromhex(
    "080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d"
    "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
)
ED25519_PUBLIC = bytes.fromhex("080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
SECP256K1_PRIVATE = bytes.fromhex("0802122053dadf1d5a164d6b4acdb15e24aa4c5b1d3461bdbd42abedb0a4404d56ced8fb")
SECP256K1_PUBLIC = bytes.fromhex("08021221037777e994e452c21604f91de093ce415f5432f701dd8cd1a7a6fea0e630bfca99")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def der(r: int, s: int) -> bytes:
    def number(value: int) -> bytes:
        data = value.to_bytes(33, "big").lstrip(b"\0")
        data = b"\0" + data if data[0] & 0x80 else data
        return bytes((2, len(data))) + data

    body = number(r) + number(s)
    return bytes((0x30, len(body))) + body


@pytest.mark.parametrize(
    ("private", "public"), [(ED25519_PRIVATE, ED25519_PUBLIC), (SECP256K1_PRIVATE, SECP256K1_PUBLIC)]
)
def test_libp2p_vectors_are_read_and_written(private: bytes, public: bytes) -> None:
    key = private_key_from_protobuf(private)
    assert key.to_protobuf() == private
    assert key.public.to_protobuf() == public
    assert public_key_from_protobuf(public) == key.public
    assert key.public.is_allowed


def test_rfc_8032_vector() -> None:
    key = PrivateKey(KeyType.ED25519, bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


def test_the_older_ed25519_form_with_a_repeated_public_key_is_read() -> None:
    seed, public = ED25519_PRIVATE[4:36], ED25519_PRIVATE[36:]
    assert private_key_from_protobuf(b"\x08\x01\x12\x60" + seed + public + public).to_protobuf() == ED25519_PRIVATE
    with pytest.raises(InvalidKey):
        private_key_from_protobuf(b"\x08\x01\x12\x60" + seed + public + bytes(32))


def test_a_private_key_whose_halves_do_not_fit_is_refused() -> None:
    with pytest.raises(InvalidKey, match="public half"):
        private_key_from_protobuf(ED25519_PRIVATE[:-1] + b"\0")


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.SECP256K1])
def test_signatures_verify_and_changed_ones_do_not(kind: KeyType) -> None:
    key = PrivateKey(kind, b"\x07" * 32)
    signature = key.sign(b"message")
    assert key.public.verify(b"message", signature)
    assert not key.public.verify(b"massage", signature)
    assert not key.public.verify(b"message", signature[:-1])
    assert not key.public.verify(b"message", signature + b"\0")
    assert not key.public.verify(b"message", b"")
    assert not key.public.verify(b"message", bytes((signature[0], signature[1] ^ 1)) + signature[2:])
    assert not PrivateKey(kind, b"\x08" * 32).public.verify(b"message", signature)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([KeyType.ED25519, KeyType.SECP256K1]), st.binary(max_size=80), st.binary(max_size=90))
def test_no_signature_whatsoever_makes_verification_raise(kind: KeyType, message: bytes, signature: bytes) -> None:
    assert not PrivateKey(kind, b"\x07" * 32).public.verify(message, signature)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_a_key_or_an_invalid_key(data: bytes) -> None:
    for read in (public_key_from_protobuf, private_key_from_protobuf):
        with pytest.raises(InvalidKey):
            read(data)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([KeyType.ED25519, KeyType.SECP256K1]), st.binary(min_size=32, max_size=32))
def test_keys_survive_their_serialised_form(kind: KeyType, secret: bytes) -> None:
    if kind is KeyType.SECP256K1 and not 0 < int.from_bytes(secret, "big") < ORDER:
        with pytest.raises(InvalidKey):
            PrivateKey(kind, secret)
        return
    key = PrivateKey(kind, secret)
    again = private_key_from_protobuf(key.to_protobuf())
    assert again == key
    assert hash(again) == hash(key)
    assert again.to_protobuf() == key.to_protobuf()
    assert public_key_from_protobuf(key.public.to_protobuf()) == key.public


def test_secp256k1_signs_der_over_sha256_with_low_s_and_reads_either_s() -> None:
    key = PrivateKey(KeyType.SECP256K1, b"\x07" * 32)
    signature = key.sign(b"message")
    size = signature[3]
    r = int.from_bytes(signature[4 : 4 + size], "big")
    s = int.from_bytes(signature[6 + size :], "big")
    assert der(r, s) == signature
    assert s <= ORDER // 2
    assert key.public.verify(b"message", der(r, ORDER - s))
    assert not key.public.verify(hashlib.sha256(b"message").digest(), signature)


def test_ethereum_wallets_personal_messages_verify() -> None:
    # published with web3.js, eth.accounts.sign("Some data", …)
    secret = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
    r = 0xB91467E570A6466AA9E9876CBCD013BABA02900B8979D43FE208A4A4F339F5FD
    s = 0x6007E74CD82E037B800186422FC2DA167C747EF045E5D18A5F5D4300F8E1A029
    key = PublicKey(KeyType.ETH, PrivateKey(KeyType.SECP256K1, secret).public.raw)
    assert key.verify(b"Some data", der(r, s))
    assert not key.verify(b"some data", der(r, s))
    assert not key.verify(b"Some data", der(s, r))


def test_keccak_is_not_sha3() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert secp256k1.keccak256(b"").hex() == empty
    assert hashlib.sha3_256(b"").hexdigest() != empty


def test_wallet_keys_are_neither_peers_nor_actors() -> None:
    key = PublicKey(KeyType.ETH, SECP256K1_PUBLIC[4:])
    assert not key.is_allowed
    with pytest.raises(UnexpectedKeyType, match=r"^unexpected key type"):
        key.to_protobuf()
    with pytest.raises(UnexpectedKeyType, match=r"^unexpected key type"):
        PrivateKey(KeyType.ETH, bytes(32))
    with pytest.raises(UnexpectedKeyType, match=r"^unexpected key type"):
        public_key_from_protobuf(b"\x08\x7f\x12\x21" + key.raw)


@pytest.mark.parametrize("kind", [0, 3, 4, 127, 128])
def test_other_kinds_of_keys_are_named(kind: int) -> None:
    data = b"\x08" + (bytes((kind,)) if kind < 128 else b"\x80\x01") + b"\x12\x20" + bytes(32)
    for read in (public_key_from_protobuf, private_key_from_protobuf):
        with pytest.raises(UnexpectedKeyType, match=rf"^unexpected key type: {kind}$"):
            read(data)


def test_a_key_from_elsewhere_is_serialised_a_seed_or_a_seed_with_its_public_key() -> None:
    seed, public = ED25519_PRIVATE[4:36], ED25519_PRIVATE[36:]
    key = private_key_from_protobuf(ED25519_PRIVATE)
    for data in (ED25519_PRIVATE, seed, seed + public, b"\x08\x01\x12\x60" + seed + public + public):
        assert private_key_from_import(data) == key
    assert private_key_from_import(SECP256K1_PRIVATE).to_protobuf() == SECP256K1_PRIVATE
    assert private_key_from_import(SECP256K1_PRIVATE[4:], KeyType.SECP256K1).to_protobuf() == SECP256K1_PRIVATE
    for data in (b"", seed[:-1], seed + bytes(32), ED25519_PRIVATE + b"\0"):
        with pytest.raises(InvalidKey):
            private_key_from_import(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: bytes((0x31,)) + d[1:],
        lambda d: d[:1] + bytes((d[1] + 1,)) + d[2:],
        lambda d: d[:1] + b"\x81" + d[1:],
        lambda d: d + b"\0",
        lambda d: d[:1] + bytes((d[1] + 1, 2, d[3] + 1, 0)) + d[4:],
    ],
    ids=["tag", "length", "long length", "trailing", "padded"],
)
def test_der_that_is_not_strict_is_refused(change: Callable[[bytes], bytes]) -> None:
    key = PrivateKey(KeyType.SECP256K1, b"\x07" * 32)
    signature = key.sign(b"message")
    assert key.public.verify(b"message", signature)
    assert not key.public.verify(b"message", change(signature))


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (ORDER, 1), (1, ORDER)])
def test_ecdsa_numbers_beyond_the_order_are_refused(r: int, s: int) -> None:
    with pytest.raises(InvalidKey, match="order"):
        secp256k1.der_signature(r.to_bytes(32, "big"), s.to_bytes(32, "big"))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, ORDER - 1), st.integers(1, ORDER - 1))
def test_ecdsa_numbers_are_written_as_der_with_the_lower_s(r: int, s: int) -> None:
    written = secp256k1.der_signature(r.to_bytes(32, "big"), s.to_bytes(32, "big"))
    assert written == der(r, min(s, ORDER - s))


@pytest.mark.parametrize("raw", [b"", bytes(32), b"\x04" + bytes(32), b"\x02" + b"\xff" * 32])
def test_points_off_the_curve_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidKey):
        PublicKey(KeyType.SECP256K1, raw)


def test_secrets_are_not_printed() -> None:
    for key in (PrivateKey(KeyType.ED25519, b"\x5a" * 32), PrivateKey(KeyType.SECP256K1, b"\x5a" * 32)):
        shown = f"{key!r} {key} {key!s}"
        assert "5a5a5a" not in shown
        assert "ZZZ" not in shown
        assert key.public.raw.hex() in shown


def test_the_seed_is_that_of_ed25519_keys_only() -> None:
    assert PrivateKey(KeyType.ED25519, b"\x07" * 32).ed25519_seed() == b"\x07" * 32
    with pytest.raises(UnexpectedKeyType):
        PrivateKey(KeyType.SECP256K1, b"\x07" * 32).ed25519_seed()


def test_new_keys_differ_and_are_ed25519() -> None:
    first, second = generate_key(), generate_key()
    assert first.type is KeyType.ED25519
    assert first != second
    assert len({first.public, second.public, private_key_from_protobuf(first.to_protobuf()).public}) == 2
    assert PublicKey(KeyType.CARDANO, first.public.raw) != first.public
