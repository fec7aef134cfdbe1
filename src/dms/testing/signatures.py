"""Ed25519 signatures that cost nearly nothing, for simulations: the same key signs the same bytes in the same way, and nobody
without the key can, as long as nobody tries who knows this module.

A signature is a keyed digest, and whoever verifies asks here for the key, which all in the process share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from nacl.exceptions import BadSignatureError

_SEED = 32
_SIZE = 64


class QuickSignatures:
    """Stands in for ``nacl.bindings.crypto_sign`` and ``crypto_sign_open``; ``verify`` is for keys that never signed here."""

    def __init__(self, verify: Callable[[bytes, bytes], bytes]) -> None:
        self._seeds: dict[bytes, bytes] = {}
        self._verify = verify

    def sign(self, message: bytes, sk: bytes) -> bytes:
        """The signature and then the message."""
        seed = sk[:_SEED]
        self._seeds[sk[_SEED:]] = seed
        return _digest(message, seed) + message

    def open(self, signed: bytes, pk: bytes) -> bytes:
        """The message.

        :raises BadSignatureError: it was not signed so.
        """
        seed = self._seeds.get(pk)
        if seed is None:
            return self._verify(signed, pk)
        message = signed[_SIZE:]
        if signed[:_SIZE] != _digest(message, seed):
            raise BadSignatureError("Signature was forged or corrupt")
        return message


def _digest(message: bytes, seed: bytes) -> bytes:
    return hashlib.blake2b(message, digest_size=_SIZE, key=seed).digest()
