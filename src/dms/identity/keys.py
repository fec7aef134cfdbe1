"""Public and private keys, their serialised form and their signatures (``spec/security.md`` 1.1-1.3).

The serialised form is libp2p's protobuf message {1: type, 2: data}. Each kind has exactly one encoding that anybody
writes, so it is recognised by its first bytes; other encodings of the same message are refused, which keeps one key
one text.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import Final

import nacl.bindings
import nacl.exceptions
import nacl.utils

from dms.identity import cardano, secp256k1
from dms.identity.errors import InvalidKey, UnexpectedKeyType

ED25519_SIZE: Final = 32
SECP256K1_SIZE: Final = 33
_SIGNATURE_SIZE: Final = 64
_KEY_CACHE: Final = 4096
"""Public keys kept decoded: about one per peer that talks to us."""


class KeyType(IntEnum):
    """libp2p's numbers; those from 127 on are private to this network and never part of a peer id."""

    ED25519 = 1
    SECP256K1 = 2
    ETH = 127
    CARDANO = 128


_RAW_SIZE = {
    KeyType.ED25519: ED25519_SIZE,
    KeyType.SECP256K1: SECP256K1_SIZE,
    KeyType.ETH: SECP256K1_SIZE,
    KeyType.CARDANO: ED25519_SIZE,
}
_PUBLIC_PREFIX = {KeyType.ED25519: b"\x08\x01\x12\x20", KeyType.SECP256K1: b"\x08\x02\x12\x21"}
_ED25519_PRIVATE = b"\x08\x01\x12\x40"
_ED25519_PRIVATE_LEGACY = b"\x08\x01\x12\x60"
_SECP256K1_PRIVATE = b"\x08\x02\x12\x20"


class PublicKey:
    """A public key; equal keys are equal and hash alike.

    :raises InvalidKey: ``raw`` has the wrong length or is not a point of the curve.
    """

    __slots__ = ("_hash", "raw", "type")

    type: KeyType
    raw: bytes

    def __init__(self, type: KeyType, raw: bytes) -> None:  # noqa: A002
        if len(raw) != _RAW_SIZE[type]:
            raise InvalidKey(f"invalid key: a public {type.name} key has {_RAW_SIZE[type]} bytes, not {len(raw)}")
        if type in (KeyType.SECP256K1, KeyType.ETH):
            secp256k1.check_point(raw)
        self.type = type
        self.raw = raw
        self._hash = hash((type, raw))

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` fits; a malformed one simply does not."""
        if self.type is KeyType.ED25519:
            return _verify_ed25519(self.raw, message, signature)
        if self.type is KeyType.SECP256K1:
            return secp256k1.verify(self.raw, message, signature)
        if self.type is KeyType.ETH:
            return secp256k1.verify_ethereum(self.raw, message, signature)
        parts = cardano.split_signature(self.raw, message, signature)
        return parts is not None and _verify_ed25519(self.raw, *parts)

    @property
    def is_allowed(self) -> bool:
        """Whether it may sign messages and name a peer (``spec/security.md`` 1.1)."""
        return self.type in _PUBLIC_PREFIX

    def to_protobuf(self) -> bytes:
        """The serialised form.

        :raises UnexpectedKeyType: wallets' keys have none.
        """
        prefix = _PUBLIC_PREFIX.get(self.type)
        if prefix is None:
            raise UnexpectedKeyType(f"unexpected key type: {self.type.name}")
        return prefix + self.raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.raw == other.raw and self.type == other.type

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"PublicKey({self.type.name}, {self.raw.hex()})"


class PrivateKey:
    """A private key, Ed25519 or Secp256k1; ``secret`` is the 32-byte seed or scalar and never printed.

    :raises InvalidKey: the secret is not one of this kind.
    """

    __slots__ = ("_secret", "_signer", "public", "type")

    type: KeyType
    public: PublicKey

    def __init__(self, type: KeyType, secret: bytes) -> None:  # noqa: A002
        if type not in _PUBLIC_PREFIX:
            raise UnexpectedKeyType(f"unexpected key type: {type.name}")
        if len(secret) != ED25519_SIZE:
            raise InvalidKey(f"invalid key: a private {type.name} key has 32 bytes, not {len(secret)}")
        self.type = type
        self._secret = secret
        if type is KeyType.ED25519:
            raw, self._signer = nacl.bindings.crypto_sign_seed_keypair(secret)
        else:
            raw, self._signer = secp256k1.public_key_of(secret), secret
        self.public = PublicKey(type, raw)

    def sign(self, message: bytes) -> bytes:
        """The signature in the format of ``spec/security.md`` 1.3."""
        if self.type is KeyType.ED25519:
            return nacl.bindings.crypto_sign(message, self._signer)[:_SIGNATURE_SIZE]
        return secp256k1.sign(self._signer, message)

    def to_protobuf(self) -> bytes:
        """The serialised form, which is also the plain text of a keystore file. Secret."""
        if self.type is KeyType.ED25519:
            return _ED25519_PRIVATE + self._secret + self.public.raw
        return _SECP256K1_PRIVATE + self._secret

    def ed25519_seed(self) -> bytes:
        """The 32-byte seed. Secret.

        :raises UnexpectedKeyType: it is another kind of key.
        """
        if self.type is not KeyType.ED25519:
            raise UnexpectedKeyType(f"unexpected key type: {self.type.name}, not ED25519")
        return self._secret

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKey) and self.public == other.public

    def __hash__(self) -> int:
        return hash(self.public)

    def __repr__(self) -> str:
        return f"PrivateKey({self.type.name}, public={self.public.raw.hex()})"


def generate_key(kind: KeyType = KeyType.ED25519) -> PrivateKey:
    """A new Ed25519 or Secp256k1 key from the system's random numbers."""
    while True:
        try:
            return PrivateKey(kind, nacl.utils.random(ED25519_SIZE))
        except UnexpectedKeyType:
            raise
        except InvalidKey:  # one scalar in 2**128 is not below the order of the group
            continue


@functools.lru_cache(maxsize=_KEY_CACHE)
def public_key_from_protobuf(data: bytes) -> PublicKey:
    """Parse the serialised form.

    :raises UnexpectedKeyType: another kind than Ed25519 and Secp256k1.
    :raises InvalidKey: not a key at all.
    """
    for kind, prefix in _PUBLIC_PREFIX.items():
        if data.startswith(prefix) and len(data) == len(prefix) + _RAW_SIZE[kind]:
            return PublicKey(kind, data[len(prefix) :])
    raise _refusal(data)


def private_key_from_protobuf(data: bytes) -> PrivateKey:
    """Parse the serialised form, including the older 96-byte Ed25519 one that repeats the public key.

    :raises UnexpectedKeyType: another kind than Ed25519 and Secp256k1.
    :raises InvalidKey: not a key at all, or its halves do not fit together.
    """
    body = data[4:]
    if data.startswith(_ED25519_PRIVATE) and len(body) == 64:
        return _checked_ed25519(body[:32], body[32:])
    if data.startswith(_ED25519_PRIVATE_LEGACY) and len(body) == 96 and body[32:64] == body[64:]:
        return _checked_ed25519(body[:32], body[32:64])
    if data.startswith(_SECP256K1_PRIVATE) and len(body) == 32:
        return PrivateKey(KeyType.SECP256K1, body)
    raise _refusal(data)


def private_key_from_import(data: bytes, bare: KeyType = KeyType.ED25519) -> PrivateKey:
    """Read a private key from elsewhere: serialised, or bare (``spec/security.md`` 2).

    32 bytes that are no serialised key are an Ed25519 seed, or a Secp256k1 scalar where ``bare`` says so; 64 bytes are
    an Ed25519 seed and its public key.

    :raises InvalidKey: none of these.
    """
    try:
        return private_key_from_protobuf(data)
    except InvalidKey:
        if len(data) == ED25519_SIZE:
            return PrivateKey(bare, data)
        if len(data) == 2 * ED25519_SIZE:
            return _checked_ed25519(data[:ED25519_SIZE], data[ED25519_SIZE:])
        raise


def _checked_ed25519(seed: bytes, public: bytes) -> PrivateKey:
    key = PrivateKey(KeyType.ED25519, seed)
    if key.public.raw != public:
        raise InvalidKey("invalid key: the public half does not belong to the private half")
    return key


def _refusal(data: bytes) -> InvalidKey:
    if len(data) > 2 and data[0] == 0x08 and data[1] not in (KeyType.ED25519, KeyType.SECP256K1):
        return UnexpectedKeyType(f"unexpected key type: {data[1]}")
    return InvalidKey("invalid key: not a serialised Ed25519 or Secp256k1 key")


def _verify_ed25519(raw: bytes, message: bytes, signature: bytes) -> bool:
    if len(signature) != _SIGNATURE_SIZE:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, raw)
    except nacl.exceptions.BadSignatureError:
        return False
    return True
