from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet import sealing
from dms.subnet.ciphers import SPAN_BITS, Suite
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
    suite_of,
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


def test_a_pair_seals_with_aes_where_both_take_it_and_older_ones_are_told_nothing_new() -> None:
    with_aes, without = Offer(b"k" * 32, 1, port=1, takes_aes=True), Offer(b"k" * 32, 1, port=1)
    assert suite_of(with_aes, with_aes) is Suite.AES
    assert suite_of(with_aes, without) is suite_of(without, with_aes) is Suite.CHACHA20
    said = encode_offer(with_aes).replace(b',"takes_aes":true', b"")
    assert decode_offer(said) == without
    a, b = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    aes = agree(a, sealing.public_bytes(b), context=b"", suite=Suite.AES)
    assert aes == agree(b, sealing.public_bytes(a), context=b"", suite=Suite.AES)
    assert aes.forward != agree(a, sealing.public_bytes(b), context=b"").forward


def burst_of(sealer: Sealer, count: int) -> list[bytes]:
    """Datagrams of 100 bytes and a shorter one."""
    payloads = [memoryview(bytes([number]) * 60) for number in range(count)]
    sealed = sealer.seal_all(4, [b"fronts"] * (count + 1), [*payloads, memoryview(b"end")])
    return [sealed[at : at + 99] for at in range(0, len(sealed), 99)]


@pytest.mark.parametrize("suite", Suite)
@given(st.data())
def test_many_at_once_open_as_one_after_the_other_do(suite: Suite, data: st.DataObject) -> None:
    sealer, other = Sealer(KEY, 1, suite), Sealer(KEY, 2, suite)
    sealer._counter = data.draw(st.sampled_from([0, (1 << SPAN_BITS) - 5, (1 << SPAN_BITS) - 40]))
    made = burst_of(sealer, 12)[:-1] + burst_of(sealer, 12)[:-1]
    order = data.draw(st.permutations(range(len(made))) | st.just(tuple(range(len(made)))))
    row = [made[number] for number in order[: data.draw(st.integers(1, len(made)))]]
    for at in data.draw(st.lists(st.integers(0, len(row) - 1), max_size=3)):
        row.insert(at, row[0])  # again
    for at in data.draw(st.lists(st.integers(0, len(row) - 1), max_size=3)):
        row[at] = row[at][:50] + bytes([row[at][50] ^ 1]) + row[at][51:]
    if data.draw(st.booleans()):
        row.append(row[-1][:-10])
    after = [*row, burst_of(other, 1)[0]]
    at_once, single = Opener(KEY, suite), Opener(KEY, suite)
    wanted: list[bytes] = []
    dropped = [0, 0]
    for datagram in row:
        try:
            kind, body = single.open(datagram)
            wanted.append(bytes([kind]) + body)
        except BadPacket:
            dropped[0] += 1
        except Replayed:
            dropped[1] += 1
    joined = memoryview(b"".join(after if len(row[-1]) == 99 else row))
    half = data.draw(st.integers(0, len(row))) * 99
    first = at_once.open_all(joined[:half], 0, 99)
    rest = at_once.open_all(joined[half:], 0, 99) if half < len(b"".join(row)) else first._replace(plain=[])
    assert first.plain + rest.plain == wanted
    if half < len(row) * 99 - 10:
        assert [first.not_authentic + rest.not_authentic, first.replayed + rest.replayed] == dropped
        assert half + rest.end == min(len(row) * 99, len(joined)), "the other session is left to others"
    for datagram in row:
        with pytest.raises((BadPacket, Replayed)):
            at_once.open(datagram)


def test_a_sealer_begins_the_next_key_rather_than_to_cross_over_within_a_burst() -> None:
    sealer, opener = Sealer(KEY, 1, Suite.AES), Opener(KEY, Suite.AES)
    sealer._counter = (1 << SPAN_BITS) - 3
    before = sealer.seal(0, b"before")
    burst = burst_of(sealer, 5)
    assert int.from_bytes(burst[0][8:16], "little") == 1 << SPAN_BITS
    assert opener.open(before) == (0, b"before")
    assert len(opener.open_all(memoryview(b"".join(burst)), 0, 99).plain) == 6
    assert opener.open(sealer.seal(0, b"after")) == (0, b"after")
