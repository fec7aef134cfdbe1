from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.subnet.tcp_packets import FAMILIES, tcp

from dms.subnet.joining import joined
from dms.subnet.packets import Header, parse_header, udp_packet
from dms.subnet.segments import Parcel, check, packets_of


def cut(data: bytes, size: int, *, partial: bool = False) -> list[tuple[Parcel, Header]]:
    """As packets with their checksums, or without."""
    parcel = Parcel(data, size, is_partial=True)
    pieces = packets_of(parcel, parse_header(data), leaves_checksums=partial)
    return [(Parcel(piece, is_partial=partial), parse_header(piece)) for piece in pieces]


def stream(packets: list[tuple[Parcel, Header]]) -> list[bytes]:
    """What the packets are once they are cut again: all that a receiver sees."""
    found = []
    for parcel, header in packets:
        check(parcel, header)
        found += packets_of(parcel, header)
    return found


options = st.integers(0, 5).map(lambda words: b"\x01" * 4 * words)


@given(st.sampled_from(FAMILIES), st.binary(min_size=1, max_size=4000), st.integers(48, 1400), options, st.booleans())
def test_what_was_cut_is_one_packet_again(
    pair: tuple[str, str], payload: bytes, size: int, extra: bytes, partial: bool
) -> None:
    data = tcp(pair, payload, flags=0x18, options=extra)
    pieces = cut(data, size, partial=partial)
    ((whole, header),) = joined(pieces)
    if len(pieces) == 1:
        assert (whole, header) == pieces[0]
        return
    assert whole.data[header.offset + 20 + len(extra) :] == payload
    assert whole.segment_bytes == size
    assert whole.is_partial
    assert stream([(whole, header)]) == [parcel.data for parcel, _ in cut(data, size)]
    if partial:
        assert whole.data == data


segments = st.lists(
    st.tuples(
        st.sampled_from(FAMILIES),
        st.integers(0, 200),  # payload
        st.sampled_from([0, 0, 0, 1, -1]),  # a gap or an overlap before it
        st.sampled_from([0x10, 0x10, 0x10, 0x18, 0x11, 0x12, 0x14, 0x90]),
        st.sampled_from([b"", b"", b"\x01" * 4, b"\x01\x01\x01\x00"]),
    ),
    max_size=20,
)


@given(segments)
def test_whatever_comes_leaves_as_the_same_packets_in_the_same_order(
    made: list[tuple[tuple[str, str], int, int, int, bytes]],
) -> None:
    sequence, packets = 2**32 - 500, []
    for pair, size, gap, flags, extra in made:
        sequence = (sequence + gap) % 2**32
        packets += cut(
            tcp(pair, bytes(size), sequence=sequence, flags=flags, options=extra), 1000, partial=bool(size % 3)
        )
        sequence = (sequence + size) % 2**32

    def seen(data: bytes) -> bytes:
        """Without what cutting numbers anew."""
        return data[:4] + data[6:10] + data[12:] if data[0] >> 4 == 4 else data

    assert [seen(one) for one in stream(joined(packets))] == [seen(one) for one in stream(packets)]


def test_packets_of_other_kinds_pass_as_they_are() -> None:
    udp = udp_packet(b"\x0a\1\2\3", 1, b"\x0a\1\2\4", 2, b"x" * 100)
    partial = Parcel(tcp(FAMILIES[0], b"x" * 100), 0, is_partial=True)
    large = Parcel(tcp(FAMILIES[0], b"x" * 100), 60, is_partial=True)
    given = [(each, parse_header(each.data)) for each in (Parcel(udp), partial, large, Parcel(udp), large, large)]
    assert joined(given) == given
    assert joined([]) == []


@pytest.mark.parametrize(("at", "value"), [(1, 4), (8, 9), (6, 0), (20, 9), (22, 9), (28, 9), (34, 9)])
def test_packets_whose_headers_differ_stay_apart(at: int, value: int) -> None:
    """Traffic class, hops, fragmentation, ports, what is acknowledged, window."""
    first, second = cut(tcp(FAMILIES[0], b"x" * 200), 100)
    data = bytearray(second[0].data)
    if at == 6:
        data[6] ^= 0x40
    else:
        data[at] = value
    changed = (Parcel(bytes(data)), parse_header(bytes(data)))
    assert joined([first, changed]) == [first, changed]


def test_no_packet_grows_beyond_what_one_can_be() -> None:
    packets = []
    for number in range(100):
        packets += cut(tcp(FAMILIES[0], bytes(1000), sequence=number * 1000, flags=0x10), 1000)
    out = joined(packets)
    assert len(out) == 2
    assert all(len(parcel.data) <= 65535 for parcel, _ in out)
    assert struct.unpack_from(">H", out[0][0].data, 2)[0] == len(out[0][0].data)
