"""Keys of the distributed hash table, and how far they are from each other.

Every key, a peer id's bytes included, is hashed with SHA-256; distance is the exclusive or of two hashes. Keys are bytes,
not text: those of ``/pk/`` and of providers are no UTF-8.
"""

from __future__ import annotations

import functools
import hashlib
import random

import base58

from dms.network.addresses import parse_peer_id
from dms.network.errors import InvalidAddress
from dms.types.ids import PeerID

KEY_BITS = 256
MAX_KEY_BYTES = 256
"""The longest key that is stored or looked for."""
MAX_SEARCHED_BITS = 12
"""How long a common prefix :func:`key_near` searches for: it tries twice as often for each bit."""

_CACHE = 4096
"""Base58 is slow, and the same peers come in every answer."""
_IDENTITY_ED25519 = b"\x00\x24\x08\x01\x12\x20"
_SHA256_MULTIHASH = b"\x12\x20"


def position(key: bytes) -> int:
    """Where a key is."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


@functools.lru_cache(maxsize=_CACHE)
def position_of_peer(peer: PeerID) -> int:
    """Where a peer is."""
    return position(peer_bytes(peer))


def shared_bits(a: int, b: int) -> int:
    """How many leading bits two positions have in common."""
    return KEY_BITS - (a ^ b).bit_length()


@functools.lru_cache(maxsize=_CACHE)
def peer_bytes(peer: PeerID) -> bytes:
    """A peer id as it travels: a multihash."""
    return base58.b58decode(peer)


@functools.lru_cache(maxsize=_CACHE)
def peer_of_bytes(raw: bytes) -> PeerID:
    """The peer id with these bytes.

    :raises InvalidAddress: they are none.
    """
    if len(raw) > 64:  # encoding costs the square of the length
        raise InvalidAddress("not a peer id: too long")
    return parse_peer_id(base58.b58encode(raw).decode("ascii"))


def provider_key(name: str) -> bytes:
    """The key under which providers of a name are found: the multihash in its CID (v1, raw, SHA-256)."""
    return _SHA256_MULTIHASH + hashlib.sha256(name.encode()).digest()


def key_near(own: int, bits: int, rng: random.Random) -> bytes:
    """A random key that shares exactly so many leading bits with a position; it has the form of a peer id.

    Some implementations refuse to look for what is not a peer id. More than :data:`MAX_SEARCHED_BITS` become that many.
    """
    bits = min(bits, MAX_SEARCHED_BITS)
    while True:
        key = _IDENTITY_ED25519 + rng.randbytes(32)
        if shared_bits(position(key), own) == bits:
            return key
