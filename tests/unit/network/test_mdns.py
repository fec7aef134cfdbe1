"""Tests of :mod:`dms.network.mdns`; the zeroconf library is an independent reference."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiaddr import Multiaddr
from zeroconf._dns import DNSAddress, DNSPointer, DNSQuestion, DNSService, DNSText
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing

from dms.network.errors import BadFrame
from dms.network.mdns import (
    MAX_PEERS,
    TTL_S,
    decode,
    encode_answer,
    encode_question,
    peers_in,
    random_name,
)
from dms.types.ids import PeerID

SERVICE = "_p2p._udp.local"
PEER = PeerID("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3")
OWN = PeerID("12D3KooWJMtMN1mTNRfgMqUygT7eSXamVzc9ihpSjeairm9PebmB")
ADDRESSES = [Multiaddr("/ip4/10.0.0.1/tcp/9000"), Multiaddr("/ip6/fe80::1/tcp/9000")]


def test_a_question_is_that_of_the_protocol() -> None:
    packet = DNSIncoming(encode_question(SERVICE))
    assert packet.valid
    assert packet.is_query()
    (question,) = packet.questions
    assert (question.name, question.type, question.class_) == (f"{SERVICE}.", 12, 1)
    assert decode(encode_question(SERVICE)).asks_for(SERVICE)
    assert decode(encode_question(SERVICE)).asks_for("_P2P._udp.local")
    assert not decode(encode_question(SERVICE)).asks_for("_other._udp.local")


def test_an_answer_is_that_of_the_protocol() -> None:
    """As go and js read it: a pointer to a name, whose texts are addresses that end with the peer."""
    name = random_name()
    packet = DNSIncoming(encode_answer(SERVICE, name, PEER, [*ADDRESSES, Multiaddr("/ip4/127.0.0.1/tcp/9000")]))
    assert packet.valid
    assert not packet.is_query()
    pointer, text, place, *addresses = packet.answers()
    assert isinstance(pointer, DNSPointer)
    assert (pointer.name, pointer.alias, pointer.ttl) == (f"{SERVICE}.", f"{name}.{SERVICE}.", TTL_S)
    assert isinstance(text, DNSText)
    expected = [f"dnsaddr={address}/p2p/{PEER}".encode() for address in ADDRESSES]
    assert (text.name, text.text) == (pointer.alias, b"".join(bytes([len(one)]) + one for one in expected))
    assert isinstance(place, DNSService)
    assert (place.name, place.server) == (pointer.alias, f"{name}.local.")
    assert all(isinstance(one, DNSAddress) and one.name == place.server for one in addresses)
    assert len(addresses) == 2


def test_what_is_announced_is_understood_but_for_ourselves_and_other_networks() -> None:
    packet = decode(encode_answer(SERVICE, "abc", PEER, ADDRESSES))
    assert peers_in(packet, SERVICE, own=OWN) == {PEER: tuple(ADDRESSES)}
    assert peers_in(packet, SERVICE, own=PEER) == {}
    assert peers_in(packet, "_p2p-0123456789._udp.local", own=OWN) == {}
    assert not packet.asks_for(SERVICE)


def test_packets_of_another_implementation_are_understood() -> None:
    question = DNSOutgoing(0)
    question.add_question(DNSQuestion("_p2p._udp.local.", 12, 1))
    assert decode(question.packets()[0]).asks_for(SERVICE)

    answer = DNSOutgoing(0x8400)
    answer.add_answer_at_time(DNSPointer("_p2p._udp.local.", 12, 1, 120, "x._p2p._udp.local."), 0)
    text = f"dnsaddr=/ip4/10.0.0.9/tcp/4001/p2p/{PEER}".encode()
    answer.add_additional_answer(DNSText("x._p2p._udp.local.", 16, 0x8001, 120, bytes([len(text)]) + text))
    packed = answer.packets()[0]
    assert b"\xc0" in packed  # names are abbreviated by pointers
    found = peers_in(decode(packed), SERVICE, own=OWN)
    assert found == {PEER: (Multiaddr("/ip4/10.0.0.9/tcp/4001"),)}


def test_names_are_random_and_tell_nothing() -> None:
    assert len({random_name() for _ in range(50)}) == 50
    assert len(random_name()) >= 32


def test_what_makes_no_sense_is_left_out_and_all_is_bounded() -> None:
    def answer(*texts: bytes) -> bytes:
        data = b"".join(bytes([len(text)]) + text for text in texts)
        name = b"\x01x\x04_p2p\x04_udp\x05local\x00"
        record = name + struct.pack(">2HIH", 16, 1, 120, len(data)) + data
        return struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + record

    good = f"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/{PEER}".encode()
    bad = [
        b"",
        b"x=y",
        b"dnsaddr=",
        b"dnsaddr=\xff",
        b"dnsaddr=/ip4/10.0.0.1/tcp/1",
        f"dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/{PEER}".encode(),
        f"dnsaddr=/ip4/10.0.0.1/udp/1/quic-v1/p2p/{PEER}".encode(),
    ]
    assert peers_in(decode(answer(*bad, good)), SERVICE, own=OWN) == {PEER: (Multiaddr("/ip4/10.0.0.1/tcp/1"),)}
    many = [f"dnsaddr=/ip4/10.0.0.1/tcp/{port}/p2p/{PEER}".encode() for port in range(1, 80)]
    assert len(peers_in(decode(answer(*many)), SERVICE, own=OWN)[PEER]) <= 16
    assert MAX_PEERS <= 16


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 11,
        b"x" * 9001,
        struct.pack(">6H", 0, 0, 65535, 0, 0, 0),
        struct.pack(">6H", 0, 0, 1, 0, 0, 0),
        struct.pack(">6H", 0, 0, 1, 0, 0, 0) + b"\xc0\x0c\x00\x0c\x00\x01",  # a name that points at itself
        struct.pack(">6H", 0, 0, 1, 0, 0, 0) + b"\x01a\xc0\x0c\x00\x0c\x00\x01",  # a circle
        struct.pack(">6H", 0, 0, 1, 0, 0, 0) + b"\xc0\x40\x00\x0c\x00\x01",  # forwards
        struct.pack(">6H", 0, 0, 1, 0, 0, 0) + b"\x80a",
        struct.pack(">6H", 0, 0, 1, 0, 0, 0) + b"\x01a" * 200 + b"\x00\x00\x0c\x00\x01",
        struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + b"\x00" + struct.pack(">2HIH", 16, 1, 0, 99),
        struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + b"\x00" + struct.pack(">2HIH", 16, 1, 0, 2) + b"\x09x",
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode(data)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 400), st.integers(0, 255))
def test_no_bytes_are_fatal(junk: bytes, cut: int, at: int, byte: int) -> None:
    whole = encode_answer(SERVICE, "abc", PEER, ADDRESSES)
    changed = bytearray(whole)
    changed[at % len(changed)] = byte
    for data in (
        junk,
        whole[:cut],
        whole[:cut] + junk,
        bytes(changed),
        struct.pack(">6H", 0, 0x8400, 1, 1, 1, 1) + junk,
    ):
        try:
            peers_in(decode(data), SERVICE, own=OWN)
        except BadFrame:
            continue
