from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.subnet.tcp_packets import FAMILIES, tcp

from dms.subnet.errors import BadPacket
from dms.subnet.packets import TCP, UDP, checksum, parse_header, pseudo_sum, udp_packet
from dms.subnet.segments import VNET_BYTES, Parcel, check, from_device, offloads_of, packets_of

VNET = struct.Struct("<BBHHHH")


options = st.integers(0, 10).map(lambda words: b"\x01" * 4 * words)


@given(st.sampled_from(FAMILIES), st.binary(max_size=3000), st.integers(48, 1400), st.integers(0, 2**32 - 1), options)
def test_cut_packets_carry_the_whole_stream_and_every_checksum_holds(
    pair: tuple[str, str], payload: bytes, size: int, sequence: int, extra: bytes
) -> None:
    parcel = Parcel(tcp(pair, payload, sequence=sequence, flags=0x99, options=extra), size, is_partial=True)
    header = parse_header(parcel.data)
    check(parcel, header)
    pieces = packets_of(parcel, header)
    got = b""
    for index, piece in enumerate(pieces):
        own = parse_header(piece)
        assert own[:4] == header[:4]
        assert checksum(piece[own.offset :], pseudo_sum(own, len(piece) - own.offset)) == 0
        assert own.version == 6 or checksum(piece[: own.offset]) == 0
        (number,) = struct.unpack_from(">L", piece, own.offset + 4)
        assert number == (sequence + len(got)) % 2**32
        body = piece[own.offset + 20 + len(extra) :]
        assert len(body) <= size
        is_last = index == len(pieces) - 1
        assert bool(piece[own.offset + 13] & 0x09) is is_last, "only the last ends or pushes"
        assert bool(piece[own.offset + 13] & 0x80) is (index == 0), "only the first tells of congestion"
        got += body
    assert got == payload


@given(st.sampled_from(FAMILIES), st.binary(min_size=1, max_size=500))
def test_a_checksum_that_was_left_is_done(pair: tuple[str, str], payload: bytes) -> None:
    source, destination = (ip_address(text).packed for text in pair)
    whole = udp_packet(source, 1, destination, 2, payload)
    header = parse_header(whole)
    at = header.offset + 6
    left = whole[:at] + struct.pack(">H", pseudo_sum(header, len(payload) + 8)) + whole[at + 2 :]
    assert packets_of(Parcel(left, is_partial=True), header) == [whole]
    assert packets_of(Parcel(whole), header) == [whole]


@given(st.sampled_from(FAMILIES), st.binary(max_size=3000), st.integers(48, 1400), options)
def test_what_a_device_gave_another_one_takes_as_it_was(
    pair: tuple[str, str], payload: bytes, size: int, extra: bytes
) -> None:
    data = tcp(pair, payload, options=extra)
    offset = parse_header(data).offset
    kind = 1 if offset == 20 else 4
    raw = VNET.pack(1, kind, offset + 20 + len(extra), size, offset, 16) + data
    parcel, header = from_device(raw)
    assert parcel == Parcel(data, size, is_partial=True)
    assert offloads_of(parcel, header) + parcel.data == raw
    plain, header = from_device(bytes(VNET_BYTES) + data)
    assert plain == Parcel(data)
    assert offloads_of(plain, header) + plain.data == bytes(VNET_BYTES) + data


def test_a_checksum_behind_headers_that_are_not_known_is_done_at_once() -> None:
    data = tcp(FAMILIES[1], b"payload")
    shifted = data[:6] + b"\0" + data[7:40] + bytes([TCP, 0, 1, 4, 0, 0, 0, 0]) + data[40:]
    shifted = shifted[:4] + struct.pack(">H", len(shifted) - 40) + shifted[6:]
    parcel, _ = from_device(VNET.pack(1, 0, 0, 0, 48, 16) + shifted)
    assert not parcel.is_partial
    assert checksum(parcel.data[48:], pseudo_sum(parse_header(data), len(data) - 40)) == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(VNET_BYTES),
        VNET.pack(0, 5, 0, 100, 0, 0) + tcp(FAMILIES[0], b"x"),  # UDP segmentation was not asked for
        VNET.pack(1, 1, 0, 100, 30, 16) + tcp(FAMILIES[0], b"x"),
        VNET.pack(1, 0, 0, 0, 60000, 16) + tcp(FAMILIES[0], b"x"),
        VNET.pack(1, 0, 0, 0, 8, 6) + tcp(FAMILIES[0], b"x"),  # a checksum over the addresses
    ],
)
def test_what_cannot_be_used_is_refused(raw: bytes) -> None:
    with pytest.raises(BadPacket):
        from_device(raw)


@pytest.mark.parametrize(
    "parcel",
    [
        Parcel(tcp(FAMILIES[0], b"x" * 100), 50),  # segments whose checksums are done
        Parcel(tcp(FAMILIES[0], b"x" * 100), 1, is_partial=True),  # a flood of small ones
        Parcel(udp_packet(b"\x0a\1\2\3", 1, b"\x0a\1\2\4", 2, b"x" * 100), 50, is_partial=True),
        Parcel(tcp(FAMILIES[0], b"")[:2] + b"\0\x14" + tcp(FAMILIES[0], b"")[4:20], 0, is_partial=True),
        Parcel(tcp(FAMILIES[0], b"")[:32] + b"\xf0" + tcp(FAMILIES[0], b"")[33:], 50, is_partial=True),
        Parcel(tcp(FAMILIES[0], b"")[:32] + b"\x10" + tcp(FAMILIES[0], b"")[33:], 50, is_partial=True),
        Parcel(tcp(FAMILIES[0], b"")[:6] + b"\x20\0" + tcp(FAMILIES[0], b"")[8:], 0, is_partial=True),
    ],
)
def test_a_peer_cannot_describe_a_packet_as_what_it_is_not(parcel: Parcel) -> None:
    with pytest.raises(BadPacket):
        check(parcel, parse_header(parcel.data))


@given(
    st.sampled_from(FAMILIES),
    st.binary(max_size=80),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4),
    st.integers(0, 65535),
    st.booleans(),
)
def test_whatever_passes_the_check_can_be_cut_and_handed_over(
    pair: tuple[str, str], payload: bytes, changes: list[tuple[int, int]], size: int, partial: bool
) -> None:
    data = bytearray(tcp(pair, payload))
    for at, value in changes:
        data[at % len(data)] = value
    parcel = Parcel(bytes(data), size, partial)
    try:
        header = parse_header(parcel.data)
        check(parcel, header)
    except BadPacket:
        return
    raw = offloads_of(parcel, header) + parcel.data
    flags, kind, head_bytes, segment_bytes, start, at = VNET.unpack_from(raw)
    if flags:
        assert start == header.offset
        assert start + at + 2 <= len(parcel.data)
        assert header.protocol in (TCP, UDP)
        assert not kind or (start + 20 <= head_bytes <= len(parcel.data) and segment_bytes >= 48)
    for piece in packets_of(parcel, header):
        parse_header(piece)
