"""Keys and signatures as Cardano wallets write them: COSE (RFC 9052) with an address (``spec/security.md`` 1.3, 1.11).

A wallet does not sign the message but a structure around it, and says in the protected header which address it signed
for. Addresses are bound to the key: they contain its hash, and one that contains another is refused. The payload that
the signature carries is ignored: what was signed is what the verifier knows, not what the signer says.
"""

from __future__ import annotations

import hashlib
from typing import Final

from dms.identity import cbor
from dms.identity.errors import BadCBOR, InvalidKey

KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_HASH_BYTES: Final = 28
_CONTEXT: Final = "Signature1"
_ADDRESS: Final = "address"
_ALGORITHM, _CRITICAL = 1, 2
_EDDSA: Final = -8
_KEY_KIND, _KEY_ALGORITHM, _CURVE, _X = 1, 3, -1, -2
_OKP, _ED25519 = 1, 6
_PAYMENT_KEY_KINDS: Final = {0: 57, 2: 57, 4: None, 6: 29}
"""Kinds of addresses that begin with the hash of a payment key, and their lengths; that of kind 4 varies."""
_STAKE_KEY_KIND: Final = 14


def split_signature(key: bytes, message: bytes, signature: bytes) -> tuple[bytes, bytes] | None:
    """What an Ed25519 signature of ``key`` was made over, and that signature; ``None`` when ``signature`` is no
    COSE_Sign1 that ``key`` could have made."""
    try:
        parts = cbor.decode(signature)
        if not isinstance(parts, list) or len(parts) != 4:
            return None
        protected, unprotected, payload, inner = parts
        if not isinstance(protected, bytes) or not isinstance(unprotected, dict):
            return None
        if not isinstance(inner, bytes) or len(inner) != _SIGNATURE_BYTES:
            return None
        if payload is not None and not isinstance(payload, bytes):
            return None
        header = cbor.decode(protected) if protected else {}
    except BadCBOR:
        return None
    if not isinstance(header, dict) or not all(_fits(part, key) for part in (header, unprotected)):
        return None
    return cbor.encode([_CONTEXT, protected, b"", message]), inner


def public_key_from(data: bytes) -> bytes:
    """The 32 bytes of a key, given as such or as a COSE_Key.

    :raises InvalidKey: neither.
    """
    if len(data) == KEY_BYTES:
        return data
    try:
        parts = cbor.decode(data)
    except BadCBOR as exc:
        raise InvalidKey(f"invalid key: neither {KEY_BYTES} bytes nor a COSE_Key: {exc.message}") from None
    if not isinstance(parts, dict) or parts.get(_KEY_KIND) != _OKP or parts.get(_CURVE) != _ED25519:
        raise InvalidKey("invalid key: not the COSE_Key of an Ed25519 key")
    x = parts.get(_X)
    if not isinstance(x, bytes) or len(x) != KEY_BYTES or parts.get(_KEY_ALGORITHM, _EDDSA) != _EDDSA:
        raise InvalidKey("invalid key: not the COSE_Key of an Ed25519 key")
    return x


def address_fits(address: bytes, key: bytes) -> bool:
    """Whether ``address`` is one for which ``key`` signs: a payment address by its first part, a stake address by its
    only one. Scripts have no key, and the addresses of the first era do not show theirs."""
    if len(address) < 1 + _HASH_BYTES or address[1 : 1 + _HASH_BYTES] != key_hash(key):
        return False
    kind = address[0] >> 4
    if kind == _STAKE_KEY_KIND:
        return len(address) == 1 + _HASH_BYTES
    if kind not in _PAYMENT_KEY_KINDS:
        return False
    length = _PAYMENT_KEY_KINDS[kind]
    return length is None or len(address) == length


def key_hash(key: bytes) -> bytes:
    """The hash of a key that addresses contain: BLAKE2b of 28 bytes."""
    return hashlib.blake2b(key, digest_size=_HASH_BYTES).digest()


def _fits(header: dict[int | bytes | str, cbor.Value], key: bytes) -> bool:
    if header.get(_ALGORITHM, _EDDSA) != _EDDSA or _CRITICAL in header:
        return False
    if _ADDRESS not in header:
        return True
    address = header[_ADDRESS]
    return isinstance(address, bytes) and address_fits(address, key)
