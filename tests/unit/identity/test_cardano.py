"""Cardano wallets' signatures; keys and addresses are the published vectors of CIP-19."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.identity import cardano, cbor
from dms.identity.errors import InvalidKey
from dms.identity.keys import KeyType, PrivateKey, PublicKey

PAYMENT_KEY = bytes.fromhex("73fea80d424276ad0978d4fe5310e8bc2d485f5f6bb3bf87612989f112ad5a7d")
STAKE_KEY = bytes.fromhex("09ab278d49b7b86a055185c474c4942281ddfa05a54684c7e8a6f230625aee57")
BASE = bytes.fromhex(
    "019493315cd92eb5d8c4304e67b7e16ae36d61d34502694657811a2c8e337b62cfff6403a06a3acbc34f8c46003c69fe79a3628cefa9c47251"
)
ENTERPRISE = bytes.fromhex("619493315cd92eb5d8c4304e67b7e16ae36d61d34502694657811a2c8e")
STAKE = bytes.fromhex("e1337b62cfff6403a06a3acbc34f8c46003c69fe79a3628cefa9c47251")

SIGNER = PrivateKey(KeyType.ED25519, b"\x11" * 32)
KEY = PublicKey(KeyType.CARDANO, SIGNER.public.raw)
OWN_ADDRESS = b"\x61" + cardano.key_hash(KEY.raw)
MESSAGE = b"dms:token:{}"


def encode(value: Any) -> bytes:  # nested lists and maps, which are invariant
    return cbor.encode(value)


def signed(
    message: bytes = MESSAGE,
    *,
    header: object = {1: -8, "address": OWN_ADDRESS},
    unprotected: object = {"hashed": False},
    payload: object = b"anything",
    context: str = "Signature1",
    parts: int = 4,
) -> bytes:
    protected = header if isinstance(header, bytes) else encode(header)
    inner = SIGNER.sign(encode([context, protected, b"", message]))
    return encode([protected, unprotected, payload, inner, 0][:parts])


def test_a_wallets_signature_verifies_whatever_its_payload_says() -> None:
    assert KEY.verify(MESSAGE, signed())
    assert KEY.verify(MESSAGE, signed(payload=None))
    assert KEY.verify(MESSAGE, signed(header={1: -8}))
    assert KEY.verify(MESSAGE, signed(header=b""))
    assert not KEY.verify(b"other", signed(payload=b"other"))
    assert not PublicKey(KeyType.CARDANO, PAYMENT_KEY).verify(MESSAGE, signed(header={1: -8}))


def test_a_bare_signature_over_the_message_is_none_of_a_wallet() -> None:
    assert not KEY.verify(MESSAGE, SIGNER.sign(MESSAGE))


@pytest.mark.parametrize(
    "changes",
    [
        {"header": {1: -7, "address": OWN_ADDRESS}},
        {"header": {1: -8, 2: ["address"], "address": OWN_ADDRESS}},
        {"header": {1: -8, "address": ENTERPRISE}},
        {"header": {1: -8, "address": OWN_ADDRESS[:-1]}},
        {"header": {1: -8, "address": OWN_ADDRESS.hex()}},
        {"header": {1: -8, "address": b""}},
        {"header": [1, -8]},
        {"header": b"\xff"},
        {"unprotected": {"address": ENTERPRISE}},
        {"unprotected": []},
        {"payload": "text"},
        {"payload": 7},
        {"context": "Signature"},
        {"parts": 3},
        {"parts": 5},
    ],
)
def test_signatures_of_another_form_or_address_are_refused(changes: dict[str, Any]) -> None:
    assert not KEY.verify(MESSAGE, signed(**changes))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_verification_raise(data: bytes) -> None:
    assert not KEY.verify(MESSAGE, data)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 255))
def test_no_changed_byte_but_the_payloads_goes_unnoticed(data: st.DataObject, change: int) -> None:
    changed = bytearray(signed(unprotected={}, payload=None))
    payload = len(changed) - 67  # one byte before the signature and its two bytes of length
    position = data.draw(st.integers(0, len(changed) - 1).filter(lambda at: at != payload))
    changed[position] ^= change
    assert not KEY.verify(MESSAGE, bytes(changed))


@pytest.mark.parametrize(("address", "key"), [(BASE, PAYMENT_KEY), (ENTERPRISE, PAYMENT_KEY), (STAKE, STAKE_KEY)])
def test_published_addresses_belong_to_their_keys_and_no_others(address: bytes, key: bytes) -> None:
    assert cardano.address_fits(address, key)
    assert not cardano.address_fits(address, KEY.raw)
    assert not cardano.address_fits(address + b"\0", key)
    assert not cardano.address_fits(address[:-1], key)


def test_the_stake_key_does_not_sign_for_a_payment_address() -> None:
    assert not cardano.address_fits(BASE, STAKE_KEY)


@pytest.mark.parametrize("kind", [1, 3, 5, 7, 8, 9, 15])
def test_addresses_of_scripts_and_of_unknown_kinds_have_no_key(kind: int) -> None:
    for length in (29, 57):
        address = bytes((kind << 4 | 1,)) + cardano.key_hash(PAYMENT_KEY) + bytes(length - 29)
        assert not cardano.address_fits(address, PAYMENT_KEY)


def test_a_key_is_read_bare_and_as_a_cose_key() -> None:
    assert cardano.public_key_from(PAYMENT_KEY) == PAYMENT_KEY
    assert cardano.public_key_from(encode({1: 1, 3: -8, -1: 6, -2: PAYMENT_KEY})) == PAYMENT_KEY
    assert cardano.public_key_from(encode({1: 1, -1: 6, -2: PAYMENT_KEY})) == PAYMENT_KEY


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(31),
        encode([1]),
        cbor.encode({1: 2, -1: 6, -2: PAYMENT_KEY}),
        cbor.encode({1: 1, -1: 4, -2: PAYMENT_KEY}),
        cbor.encode({1: 1, 3: -7, -1: 6, -2: PAYMENT_KEY}),
        cbor.encode({1: 1, -1: 6, -2: PAYMENT_KEY[:31]}),
        cbor.encode({1: 1, -1: 6, -2: PAYMENT_KEY.hex()}),
        cbor.encode({1: 1, -1: 6}),
    ],
)
def test_other_keys_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidKey):
        cardano.public_key_from(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_key_or_an_invalid_key(data: bytes) -> None:
    if len(data) == 32:
        assert cardano.public_key_from(data) == data
        return
    with pytest.raises(InvalidKey):
        cardano.public_key_from(data)
