"""Just enough of TCP for questions for names: spoken to by a counterpart that checks every word."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.subnet.name_streams import MAX_ANSWER_BYTES, MAX_CONVERSATIONS, MAX_QUERY_BYTES, Asker, NameStreams, Taken
from dms.subnet.packets import TCP, Header, ones_sum, parse_header, pseudo_sum, tcp_packet
from dms.subnet.segments import Parcel, check, packets_of

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MTU = 1420
HERE = {4: ip_address("10.1.2.2"), 6: ip_address("fd00::2")}
GATEWAY = {4: ip_address("10.1.2.1"), 6: ip_address("fd00::1")}


class Client:
    """One side of a connection, as a kernel would have it."""

    def __init__(self, streams: NameStreams, family: int = 4, port: int = 40000, first: int = 0xFFFFFFFE) -> None:
        self.streams, self.port = streams, port
        self.own: IPv4Address | IPv6Address = HERE[family]
        self.other: IPv4Address | IPv6Address = GATEWAY[family]
        self.sent, self.got = first, 0
        self.data = b""
        self.flags = 0
        self.asker: Asker | None = None

    def send(self, flags: int, payload: bytes = b"", *, sequence: int | None = None) -> Taken:
        at = self.sent if sequence is None else sequence
        segment = struct.pack(">HHLLBBHHH", self.port, 53, at, self.got, 5 << 4, flags, 64000, 0, 0) + payload
        packet = tcp_packet(self.own.packed, self.other.packed, segment)
        taken = self.streams.take(packet, parse_header(packet))
        assert taken is not None
        self.asker = taken.asker
        self.hear(taken.replies)
        return taken

    def hear(self, parcels: list[Parcel]) -> None:
        for parcel in parcels:
            header = parse_header(parcel.data)
            check(parcel, header)
            for packet in packets_of(parcel, header, MTU):
                self._hear_one(packet, parse_header(packet))

    def _hear_one(self, packet: bytes, header: Header) -> None:
        assert len(packet) <= MTU
        assert (header.source, header.destination, header.protocol) == (self.other.packed, self.own.packed, TCP)
        segment = packet[header.offset :]
        assert ones_sum(segment, pseudo_sum(header, len(segment))) == 0xFFFF
        source, to, sequence, acknowledged, words, self.flags, *_ = struct.unpack_from(">HHLLBBHHH", segment)
        assert (source, to) == (53, self.port)
        if self.flags & RST:
            return
        if self.flags & SYN:
            self.got = sequence
        assert sequence == self.got, "in order, without a gap"
        payload = segment[(words >> 4) * 4 :]
        self.data += payload
        self.got = self.got + len(payload) + bool(self.flags & (SYN | FIN)) & 0xFFFFFFFF
        self.acknowledged = acknowledged

    def open(self) -> Client:
        self.send(SYN)
        assert self.flags == SYN | ACK
        self.sent = self.sent + 1 & 0xFFFFFFFF
        assert self.acknowledged == self.sent
        self.send(ACK)
        return self

    def say(self, payload: bytes) -> list[bytes]:
        taken = self.send(PSH | ACK, payload)
        self.sent = self.sent + len(payload) & 0xFFFFFFFF
        assert self.acknowledged == self.sent
        return taken.queries


def framed(query: bytes) -> bytes:
    return len(query).to_bytes(2) + query


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", [1, 1000, 5000, MAX_ANSWER_BYTES])
def test_a_question_is_answered_and_the_end_is_the_end(family: int, size: int) -> None:
    streams = NameStreams(MTU)
    client = Client(streams, family).open()
    assert client.say(framed(b"question")) == [b"question"]
    assert client.asker is not None
    client.hear(streams.answer(client.asker, b"x" * size))
    assert client.data == framed(b"x" * size)
    client.send(FIN | ACK)
    assert client.flags == FIN | ACK
    client.sent = client.sent + 1 & 0xFFFFFFFF
    assert client.acknowledged == client.sent
    assert len(streams) == 0
    assert client.send(ACK).replies == []
    assert streams.answer(client.asker, b"late") == []


@settings(max_examples=50, deadline=None)
@given(queries=st.lists(st.binary(min_size=1, max_size=300), max_size=5), cut=st.integers(min_value=1, max_value=700))
def test_questions_come_in_pieces_and_several_at_once(queries: list[bytes], cut: int) -> None:
    client = Client(NameStreams(MTU)).open()
    text = b"".join(framed(query) for query in queries)
    found = [query for at in range(0, len(text), cut) for query in client.say(text[at : at + cut])]
    assert found == queries


def test_what_was_said_already_counts_once() -> None:
    client = Client(NameStreams(MTU)).open()
    before = client.sent
    client.say(framed(b"question"))
    assert client.send(PSH | ACK, framed(b"question"), sequence=before).queries == []
    assert client.acknowledged == client.sent


def test_strangers_and_floods_are_refused() -> None:
    streams = NameStreams(MTU)
    assert Client(streams).send(PSH | ACK, b"nonsense").queries == []
    stranger = Client(streams)
    stranger.send(PSH | ACK, b"nonsense")
    assert stranger.flags & RST
    first = Client(streams, port=1).open()
    for port in range(2, MAX_CONVERSATIONS + 2):
        Client(streams, port=port).open()
    assert len(streams) == MAX_CONVERSATIONS
    first.send(PSH | ACK, framed(b"question"))
    assert first.flags & RST
    flood = Client(streams, port=9).open()
    flood.say((60000).to_bytes(2) + bytes(1000))
    flood.send(PSH | ACK, bytes(MAX_QUERY_BYTES))
    assert flood.flags & RST
    Client(streams, port=2).send(RST)
    assert len(streams) == MAX_CONVERSATIONS - 2
    assert streams.answer(Asker(HERE[4].packed, 3, GATEWAY[4].packed), bytes(MAX_ANSWER_BYTES + 1)) == []


@given(st.binary(max_size=60))
def test_nonsense_is_nothing(data: bytes) -> None:
    packet = tcp_packet(HERE[4].packed, GATEWAY[4].packed, data.ljust(20, b"\0"))
    NameStreams(MTU).take(packet, parse_header(packet))
    header = Header(4, HERE[4].packed, GATEWAY[4].packed, TCP, 20)
    NameStreams(MTU).take(packet[:30], header)
