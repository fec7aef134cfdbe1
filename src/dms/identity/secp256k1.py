"""ECDSA on secp256k1: over SHA-256 as libp2p signs, over Keccak-256 as Ethereum wallets sign (``spec/security.md``
1.3).

Signatures are DER. Both halves of the order are accepted for ``s`` as other implementations do; we write the lower.
The libraries are loaded on first use: most processes only ever see Ed25519.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from dms.identity.errors import InvalidKey

_MAX_DER_BYTES = 72


def check_point(raw: bytes) -> None:
    """:raises InvalidKey: not a compressed point of the curve."""
    import coincurve

    if raw[:1] not in (b"\x02", b"\x03"):
        raise InvalidKey("invalid key: not a compressed secp256k1 point")
    try:
        coincurve.PublicKey(raw)
    except ValueError:
        raise InvalidKey("invalid key: not a point of secp256k1") from None


def public_key_of(secret: bytes) -> bytes:
    """The compressed point of a private scalar.

    :raises InvalidKey: zero, or not below the order of the group.
    """
    import coincurve

    try:
        return coincurve.PrivateKey(secret).public_key.format(compressed=True)
    except ValueError:
        raise InvalidKey("invalid key: not a secp256k1 scalar") from None


def sign(secret: bytes, message: bytes) -> bytes:
    """A DER signature over the SHA-256 of ``message``."""
    import coincurve

    return coincurve.PrivateKey(secret).sign(message)


def der_signature(r: bytes, s: bytes) -> bytes:
    """The DER form, with the lower ``s``, of a signature that came as two numbers of 32 bytes.

    :raises InvalidKey: one is zero or not below the order of the group.
    """
    from coincurve.ecdsa import cdata_to_der, deserialize_compact, signature_normalize

    if not any(r) or not any(s):
        raise InvalidKey("invalid signature: r and s must be above zero and below the order of the group")
    try:
        _, normalized = signature_normalize(deserialize_compact(r + s))
    except ValueError:
        raise InvalidKey("invalid signature: r and s must be above zero and below the order of the group") from None
    return cdata_to_der(normalized)


def compress(x: bytes, y: bytes) -> bytes:
    """The compressed form of a point given by its coordinates, 32 bytes each.

    :raises InvalidKey: not a point of the curve.
    """
    import coincurve

    try:
        return coincurve.PublicKey(b"\x04" + x + y).format(compressed=True)
    except ValueError:
        raise InvalidKey("invalid key: not a point of secp256k1") from None


def coordinates(raw: bytes) -> tuple[bytes, bytes]:
    """Both coordinates of a compressed point, 32 bytes each."""
    import coincurve

    point = coincurve.PublicKey(raw).format(compressed=False)
    return point[1:33], point[33:]


def verify(raw: bytes, message: bytes, signature: bytes) -> bool:
    """Check a DER signature over the SHA-256 of ``message``."""
    return _verify(raw, message, signature, lambda data: hashlib.sha256(data).digest())


def verify_ethereum(raw: bytes, message: bytes, signature: bytes) -> bool:
    """Check a DER signature of an Ethereum wallet's "personal message"."""
    return _verify(raw, b"\x19Ethereum Signed Message:\n%d%s" % (len(message), message), signature, keccak256)


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it, which is not the SHA3-256 that was standardised later."""
    from Crypto.Hash import keccak

    return keccak.new(digest_bits=256, data=data).digest()


def _verify(raw: bytes, message: bytes, signature: bytes, digest: Callable[[bytes], bytes]) -> bool:
    from coincurve import PublicKey
    from coincurve.ecdsa import cdata_to_der, der_to_cdata, signature_normalize

    if not 8 <= len(signature) <= _MAX_DER_BYTES:
        return False
    try:
        _, normalized = signature_normalize(der_to_cdata(signature))
        return PublicKey(raw).verify(cdata_to_der(normalized), digest(message), hasher=None)
    except ValueError:
        return False
