from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet.errors import BadPacket
from dms.subnet.packets import (
    ICMP,
    ICMPV6,
    UDP,
    checksum,
    echo_reply,
    ones_sum,
    parse_header,
    pseudo_sum,
    too_big,
    udp_packet,
    udp_ports,
    unreachable,
)

FAMILIES = [("10.1.2.3", "10.1.2.4"), ("fd00::3", "fd00::4")]


def packed(text: str) -> bytes:
    return ip_address(text).packed


def slow_sum(data: bytes) -> int:
    total = 0
    for high, low in zip(data[::2], data[1::2] + b"\0" * (len(data) % 2), strict=True):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=100), st.binary(max_size=50).map(lambda data: data[: len(data) // 2 * 2]))
def test_the_fast_sum_is_the_sum_by_the_book(data: bytes, before: bytes) -> None:
    assert ones_sum(data) == slow_sum(data)
    assert ones_sum(data, ones_sum(before)) == slow_sum(before + data)


def test_the_checksum_of_the_book() -> None:
    assert checksum(bytes.fromhex("4500003c1c4640004006b1e6ac100a63ac100a0c")) == 0


@given(st.sampled_from(FAMILIES), st.integers(1, 65535), st.integers(1, 65535), st.binary(max_size=300))
def test_a_udp_packet_reads_back_and_its_checksums_hold(
    pair: tuple[str, str], sport: int, dport: int, payload: bytes
) -> None:
    source, destination = packed(pair[0]), packed(pair[1])
    packet = udp_packet(source, sport, destination, dport, payload, ident=7)
    header = parse_header(packet)
    assert (header.source, header.destination, header.protocol) == (source, destination, UDP)
    assert udp_ports(packet, header) == (sport, dport, payload)
    assert checksum(packet[header.offset :], pseudo_sum(header, len(payload) + 8)) == 0
    if header.version == 4:
        assert checksum(packet[:20]) == 0


@given(st.binary(max_size=120))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    try:
        header = parse_header(data)
    except BadPacket:
        return
    assert len(header.source) == len(header.destination) == (4 if header.version == 4 else 16)
    assert header.offset <= len(data)
    for answer in (echo_reply(data, header), too_big(data, header, 1300, header.destination)):
        if answer is not None:
            assert parse_header(answer).destination == header.source


@given(st.sampled_from(FAMILIES), st.binary(max_size=60), st.integers(0, 90), st.integers(0, 255))
def test_a_packet_with_one_byte_changed_never_reads_past_its_end(
    pair: tuple[str, str], payload: bytes, at: int, value: int
) -> None:
    packet = bytearray(udp_packet(packed(pair[0]), 1, packed(pair[1]), 2, payload))
    packet[at % len(packet)] = value
    data = bytes(packet)
    try:
        header = parse_header(data)
        _, _, got = udp_ports(data, header)
    except BadPacket:
        return
    assert len(got) <= len(data) - header.offset - 8


@pytest.mark.parametrize("pair", FAMILIES)
def test_lengths_that_disagree_are_refused(pair: tuple[str, str]) -> None:
    packet = udp_packet(packed(pair[0]), 1, packed(pair[1]), 2, b"hello")
    for wrong in (packet[:-1], packet + b"\0", packet[:19], b"", b"\x00" * 40, bytes([packet[0] & 0xF0]) + packet[1:]):
        if pair[0].startswith("fd") and len(wrong) == len(packet):
            continue  # IPv6 has no header length
        with pytest.raises(BadPacket):
            parse_header(wrong)


def echo(pair: tuple[str, str], kind: int) -> bytes:
    base = udp_packet(packed(pair[0]), 0, packed(pair[1]), 0, b"payload!")
    header = parse_header(base)
    protocol = ICMP if header.version == 4 else ICMPV6
    head = bytearray(base[: header.offset])
    head[9 if header.version == 4 else 6] = protocol
    return bytes(head) + struct.pack(">BBHHH", kind, 0, 0, 5, 6) + b"payload!"


@pytest.mark.parametrize(("pair", "asks", "answers"), [(FAMILIES[0], 8, 0), (FAMILIES[1], 128, 129)])
def test_a_ping_is_answered_with_what_it_carried(pair: tuple[str, str], asks: int, answers: int) -> None:
    packet = echo(pair, asks)
    reply = echo_reply(packet, parse_header(packet))
    assert reply is not None
    header = parse_header(reply)
    assert (header.source, header.destination) == (packed(pair[1]), packed(pair[0]))
    assert reply[header.offset] == answers
    assert reply[header.offset + 4 :] == packet[header.offset + 4 :]
    start = 0 if header.version == 4 else pseudo_sum(header, len(reply) - header.offset)
    assert checksum(reply[header.offset :], start) == 0
    assert echo_reply(reply, header) is None


@pytest.mark.parametrize("pair", FAMILIES)
def test_the_sender_of_a_packet_that_is_too_big_is_told_the_size(pair: tuple[str, str]) -> None:
    packet = bytearray(udp_packet(packed(pair[0]), 1, packed(pair[1]), 2, b"x" * 1350))
    four = pair[0].startswith("10.")
    if four:
        assert too_big(bytes(packet), parse_header(bytes(packet)), 1300, packed(pair[1])) is None  # may be fragmented
        packet[6] |= 0x40
    data = bytes(packet)
    told = too_big(data, parse_header(data), 1300, packed(pair[1]))
    assert told is not None
    header = parse_header(told)
    at = header.offset
    assert header.destination == packed(pair[0])
    assert struct.unpack_from(">BBHL", told, at)[::3] == ((3, 1300) if four else (2, 1300))
    assert told[at + 8 : at + 8 + 28] == data[:28]
    assert len(told) <= 1280
    start = 0 if four else pseudo_sum(header, len(told) - at)
    assert checksum(told[at:], start) == 0
    assert too_big(told, header, 1300, packed(pair[1])) is None, "errors are not answered with errors"


@pytest.mark.parametrize("pair", FAMILIES)
def test_nobody_is_told_about_what_was_sent_to_many(pair: tuple[str, str]) -> None:
    many = "239.1.2.3" if pair[0].startswith("10.") else "ff02::1"
    packet = udp_packet(packed(pair[0]), 1, packed(many), 2, b"x")
    assert unreachable(packet, parse_header(packet), packed(pair[1])) is None
    single = udp_packet(packed(pair[0]), 1, packed(pair[1]), 2, b"x")
    told = unreachable(single, parse_header(single), packed(pair[1]))
    assert told is not None
    assert parse_header(told).destination == packed(pair[0])
