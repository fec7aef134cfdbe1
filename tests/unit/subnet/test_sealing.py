from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet import sealing
from dms.subnet.errors import BadPacket
from dms.subnet.sealing import (
    WINDOW,
    Keys,
    Offer,
    Opener,
    Replayed,
    Sealer,
    agree,
    context_of,
    decode_offer,
    encode_offer,
)
from dms.types.ids import PeerID

A, B = PeerID("a"), PeerID("b")
KEY = bytes(range(32))


def sides(context_a: bytes = b"same", context_b: bytes = b"same") -> tuple[Keys, Keys]:
    a, b = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    return (
        agree(a, sealing.public_bytes(b), context=context_a),
        agree(b, sealing.public_bytes(a), context=context_b),
    )


def test_both_sides_get_the_same_two_keys_and_only_in_the_same_context() -> None:
    ours, theirs = sides()
    assert ours == theirs
    assert ours.forward != ours.backward
    ours, theirs = sides(b"one", b"other")
    assert ours.forward != theirs.forward


def test_a_context_tells_every_part_from_its_neighbours() -> None:
    one, other = Offer(b"k" * 32, 1, port=1), Offer(b"l" * 32, 2, port=1)
    found = {
        context_of("id", A, B, one, other),
        context_of("id", B, A, one, other),
        context_of("id", A, B, other, one),
        context_of("ida", PeerID(""), B, one, other),
        context_of("other", A, B, one, other),
    }
    assert len(found) == 5


def test_a_key_that_gives_everybody_the_same_is_refused() -> None:
    with pytest.raises(BadPacket, match="weak"):
        agree(X25519PrivateKey.generate(), bytes(32), context=b"")


@given(st.integers(0, 255), st.binary(max_size=1500))
def test_what_was_sealed_opens_and_names_its_session(kind: int, body: bytes) -> None:
    datagram = Sealer(KEY, 77).seal(kind, body)
    assert sealing.session_of(datagram) == 77
    assert len(datagram) == len(body) + sealing.OVERHEAD_BYTES
    assert Opener(KEY).open(datagram) == (kind, body)


@given(st.binary(max_size=40), st.integers(0, 1000), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_noticed(body: bytes, at: int, change: int) -> None:
    datagram = bytearray(Sealer(KEY, 77).seal(0, body))
    datagram[at % len(datagram)] ^= change
    with pytest.raises(BadPacket):
        Opener(KEY).open(bytes(datagram))


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_and_spoil_nothing(data: bytes) -> None:
    opener = Opener(KEY)
    with pytest.raises(BadPacket):
        opener.open(data)
    assert opener.open(Sealer(KEY, 1).seal(0, b"x")) == (0, b"x")


@given(st.lists(st.integers(0, 40), max_size=80))
def test_each_datagram_opens_once_in_whatever_order_they_come(order: list[int]) -> None:
    sealer, opener = Sealer(KEY, 1), Opener(KEY)
    sealed = [sealer.seal(0, bytes([number])) for number in range(41)]
    seen: set[int] = set()
    for number in order:
        if number in seen:
            with pytest.raises(Replayed):
                opener.open(sealed[number])
        else:
            assert opener.open(sealed[number]) == (0, bytes([number]))
        seen.add(number)


def test_a_datagram_from_behind_the_window_is_refused() -> None:
    sealer, opener = Sealer(KEY, 1), Opener(KEY)
    sealed = [sealer.seal(0, b"") for _ in range(WINDOW + 2)]
    opener.open(sealed[0])
    opener.open(sealed[-1])
    opener.open(sealed[2])
    for late in (0, 1, 2):
        with pytest.raises(Replayed):
            opener.open(sealed[late])


def test_an_offer_reads_back() -> None:
    offer = Offer(b"k" * 32, (1 << 64) - 1, ("192.0.2.1", "2001:db8::1"), 9000)
    assert decode_offer(encode_offer(offer)) == offer


@pytest.mark.parametrize(
    "offer",
    [
        Offer(b"k" * 31, 1, port=1),
        Offer(b"k" * 32, -1, port=1),
        Offer(b"k" * 32, 1 << 64, port=1),
        Offer(b"k" * 32, 1, port=0),
        Offer(b"k" * 32, 1, port=65536),
        Offer(b"k" * 32, 1, ("x",) * 17, 1),
    ],
)
def test_an_offer_that_cannot_be_is_refused(offer: Offer) -> None:
    with pytest.raises(BadPacket):
        decode_offer(encode_offer(offer))


@given(st.binary(max_size=100))
def test_any_bytes_are_no_offer(data: bytes) -> None:
    with pytest.raises(BadPacket):
        decode_offer(data)
