from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.subnet.tcp_packets import FAMILIES, tcp

from dms.subnet.errors import BadPacket
from dms.subnet.packets import parse_header, udp_packet
from dms.subnet.pieces import FRONT_BYTES, cut, join
from dms.subnet.segments import Parcel, check, packets_of

options = st.integers(0, 5).map(lambda words: b"\x01" * 4 * words)
flags = st.sampled_from([0x10, 0x18, 0x11, 0x90, 0x99])


def pieces_of(parcel: Parcel, max_bytes: int, number: int = 7) -> list[bytes]:
    found = cut(parcel, parse_header(parcel.data), number, max_bytes)
    assert found is not None
    return [front + bytes(payload) for front, payload in zip(*found, strict=True)]


def kernel_sees(parcels: list[Parcel | None]) -> list[bytes]:
    """The packets that a receiver's kernel makes of them."""
    found = []
    for parcel in parcels:
        assert parcel is not None
        header = parse_header(parcel.data)
        check(parcel, header)
        found += packets_of(parcel, header)
    return found


@given(
    st.sampled_from(FAMILIES),
    st.binary(min_size=1, max_size=9000),
    st.integers(48, 1400),
    st.integers(600, 1420),
    options,
    flags,
    st.data(),
)
def test_pieces_stand_for_the_packets_that_a_kernel_would_have_cut_whatever_is_lost(
    pair: tuple[str, str], payload: bytes, size: int, max_bytes: int, extra: bytes, flag: int, data: st.DataObject
) -> None:
    parcel = Parcel(tcp(pair, payload, flags=flag, options=extra), size, is_partial=True)
    pieces = pieces_of(parcel, max_bytes)
    wanted = packets_of(parcel._replace(segment_bytes=size), parse_header(parcel.data), max_bytes)
    assert len(pieces) == len(wanted)
    assert max(map(len, pieces)) <= max_bytes + FRONT_BYTES
    arrived = data.draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)))
    got = join([piece for piece, has_come in zip(pieces, arrived, strict=True) if has_come])
    assert kernel_sees(got) == [packet for packet, has_come in zip(wanted, arrived, strict=True) if has_come]
    if all(arrived):
        assert len(got) == 1
        assert got[0] is not None
        assert got[0].data == parcel.data, "and is the packet that was sent"


def test_pieces_of_two_packets_are_not_mixed() -> None:
    first = Parcel(tcp(FAMILIES[0], b"a" * 300), 100, is_partial=True)
    second = Parcel(tcp(FAMILIES[0], b"b" * 300), 100, is_partial=True)
    one, other = pieces_of(first, 1420, 1), pieces_of(second, 1420, 2)
    mixed = [one[0], other[0], other[1], one[1], one[2], other[2]]
    got = kernel_sees(join(mixed))
    assert sorted(got) == sorted(kernel_sees([first, second]))
    assert len(join(mixed)) == 4


def test_a_whole_packet_never_becomes_larger_than_packets_can_be() -> None:
    parcel = Parcel(tcp(FAMILIES[0], bytes(60_000)), 1000, is_partial=True)
    pieces = pieces_of(parcel, 1420)
    again = [*pieces[:50], *pieces]  # what a peer might send
    for found in join(again):
        assert found is not None
        check(found, parse_header(found.data))


def test_only_packets_of_several_segments_are_cut() -> None:
    data = udp_packet(bytes(4), 1, bytes(4), 2, b"x" * 3000)
    assert cut(Parcel(data), parse_header(data), 1, 1420) is None


@given(st.lists(st.binary(max_size=120), max_size=8))
def test_whatever_comes_is_joined_checked_or_refused(pieces: list[bytes]) -> None:
    good = pieces_of(Parcel(tcp(FAMILIES[1], b"c" * 200), 60, is_partial=True), 1420)
    for found in join([*pieces, *good, *(good[0][:8] + piece for piece in pieces)]):
        if found is None:
            continue
        try:
            check(found, parse_header(found.data))
        except BadPacket:
            pytest.fail("what was joined is no packet")
