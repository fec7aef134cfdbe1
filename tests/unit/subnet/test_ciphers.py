from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from dms.subnet.ciphers import SPAN_BITS, Ciphers, Suite

KEY = bytes(range(32))
NONCE = bytes(12)


def test_keys_of_aes_change_with_the_counter_and_those_of_chacha_never() -> None:
    far = 1 << SPAN_BITS
    ciphers = Ciphers(KEY, Suite.AES)
    first = ciphers.at(far - 1).encrypt(NONCE, b"x", None)
    assert first == AESGCM(KEY).encrypt(NONCE, b"x", None)
    with pytest.raises(InvalidTag):
        ciphers.at(far).decrypt(NONCE, first, None)
    assert ciphers.use(5 * far).encrypt(NONCE, b"x", None) == Ciphers(KEY, Suite.AES).at(6 * far - 1).encrypt(
        NONCE, b"x", None
    )
    assert ciphers.at(0).encrypt(NONCE, b"x", None) == first, "also after a later one"
    still = Ciphers(KEY, Suite.CHACHA20).at(3 * far).encrypt(NONCE, b"x", None)
    assert still == ChaCha20Poly1305(KEY).encrypt(NONCE, b"x", None)
