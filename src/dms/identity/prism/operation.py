"""The signed operation that creates a did:prism (``spec/security.md`` 1.12).

Protocol buffers, written in ascending order of the fields: the DID is the hash of these bytes, so one key has one DID.
The same key is listed as the master key, which signs the operation, and as the key for authentication.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from dms.identity import secp256k1
from dms.identity.ids import DID
from dms.identity.keys import KeyType, PrivateKey, PublicKey

MASTER_ID: Final = "master-0"
AUTHENTICATION_ID: Final = "auth-0"
_MASTER, _AUTHENTICATION = 1, 4
_CONTEXT: Final = "https://www.w3.org/ns/did/v1"
_SUITES: Final = {
    KeyType.ED25519: "https://w3id.org/security/suites/ed25519-2020/v1",
    KeyType.SECP256K1: "https://w3id.org/security/suites/secp256k1-2019/v1",
}
_CURVES: Final = {KeyType.ED25519: "Ed25519", KeyType.SECP256K1: "secp256k1"}
_VARINT, _BYTES = 0, 2


@dataclass(frozen=True, slots=True)
class Creation:
    """A DID and the signed operation that creates it."""

    did: DID
    signed_operation: bytes


def create_did(key: PrivateKey) -> Creation:
    """The did:prism of ``key`` and the operation that makes it known."""
    operation = encode_operation(key.public)
    signed = _text(1, MASTER_ID) + _bytes(2, key.sign(operation)) + _bytes(3, operation)
    return Creation(did_of_operation(operation), signed)


def encode_operation(key: PublicKey) -> bytes:
    """The operation that creates a DID with this key, an Ed25519 or Secp256k1 one."""
    data = (
        _bytes(2, _public_key(MASTER_ID, _MASTER, key))
        + _bytes(2, _public_key(AUTHENTICATION_ID, _AUTHENTICATION, key))
        + _text(4, _CONTEXT)
        + _text(4, _SUITES[key.type])
    )
    return _bytes(1, _bytes(1, data))


def did_of_operation(operation: bytes) -> DID:
    """The DID that an operation creates."""
    return DID(uri=f"did:prism:{hashlib.sha256(operation).hexdigest()}")


def _public_key(identifier: str, usage: int, key: PublicKey) -> bytes:
    x, y = secp256k1.coordinates(key.raw) if key.type is KeyType.SECP256K1 else (key.raw, b"")
    data = _text(1, _CURVES[key.type]) + _bytes(2, x) + (_bytes(3, y) if y else b"")
    return _text(1, identifier) + _tag(2, _VARINT) + _varint(usage) + _bytes(8, data)


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, data: bytes) -> bytes:
    return _tag(field, _BYTES) + _varint(len(data)) + data


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
