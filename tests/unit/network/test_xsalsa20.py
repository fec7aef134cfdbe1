"""The cipher of private networks, against published values and an independent implementation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_secretbox

from dms.network.xsalsa20 import hsalsa20, xsalsa20


def test_the_hash_is_that_of_the_published_example() -> None:
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert hsalsa20(shared, bytes(16)).hex() == "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=24, max_size=24), st.binary(max_size=300))
def test_the_stream_is_that_of_sodium(key: bytes, nonce: bytes, text: bytes) -> None:
    sealed_by_sodium = crypto_secretbox(text, nonce, key)[
        16:
    ]  # behind its authenticator; 32 bytes of the stream make that
    cipher = xsalsa20(key, nonce)
    cipher.encrypt(bytes(32))
    assert cipher.encrypt(text) == sealed_by_sodium


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=5))
def test_the_stream_goes_on_between_calls(text: bytes, cuts: list[int]) -> None:
    key, nonce = bytes(range(32)), bytes(range(24))
    whole = xsalsa20(key, nonce).encrypt(text)
    opening = xsalsa20(key, nonce)
    at, opened = 0, b""
    for cut in [*sorted(cuts), len(whole)]:
        opened += opening.decrypt(whole[at:cut])
        at = max(at, cut)
    assert opened == text
