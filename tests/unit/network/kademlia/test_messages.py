"""Tests of :mod:`dms.network.kademlia.messages`; the library's generated code is an independent reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiaddr import Multiaddr

from dms.network import libp2p  # the library can only be imported behind it
from dms.network.errors import BadFrame
from dms.network.kademlia.keys import peer_bytes
from dms.network.kademlia.messages import Contact, Kind, Message, Record, decode_message, received_at
from dms.types.ids import PeerID

assert libp2p.__doc__
from libp2p.kad_dht.pb import kademlia_pb2  # noqa: E402

PEERS = [
    PeerID("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3"),
    PeerID("QmQ2irHa8aFTLRhkbkQCRrounE4MbttNp8ki7Nmys4F9NP"),
]
CONTACTS = st.builds(
    Contact,
    st.sampled_from(PEERS),
    st.lists(
        st.sampled_from(["/ip4/10.0.0.1/tcp/9000", "/ip6/::1/udp/1/quic-v1", "/dns4/example.org/tcp/443/wss"]).map(
            Multiaddr
        ),
        max_size=3,
    ).map(tuple),
    st.booleans(),
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(Kind),
    st.binary(max_size=40),
    st.none() | st.builds(Record, st.binary(max_size=40), st.binary(max_size=100), st.text(max_size=20)),
    st.lists(CONTACTS, max_size=4).map(tuple),
    st.lists(CONTACTS, max_size=4).map(tuple),
)


@settings(max_examples=80)
@given(MESSAGES)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode_message(message.encode()) == message


@settings(max_examples=60)
@given(MESSAGES)
def test_the_wire_format_is_that_of_the_reference(message: Message) -> None:
    theirs = kademlia_pb2.Message()
    theirs.ParseFromString(message.encode())
    assert (theirs.type, theirs.key) == (int(message.kind), message.key)
    if message.record is not None:
        assert theirs.record.key == message.record.key
        assert theirs.record.value == message.record.value
        assert theirs.record.timeReceived == message.record.received
    for ours, other in ((message.closer, theirs.closerPeers), (message.providers, theirs.providerPeers)):
        assert [one.id for one in other] == [peer_bytes(one.peer) for one in ours]
        assert [list(one.addrs) for one in other] == [[a.to_bytes() for a in one.addresses] for one in ours]
        assert [one.connection for one in other] == [int(one.is_connected) for one in ours]
    assert decode_message(theirs.SerializeToString()) == message


@settings(max_examples=100)
@given(st.binary(max_size=80), MESSAGES, st.integers(0, 200))
def test_no_bytes_are_fatal(junk: bytes, message: Message, cut: int) -> None:
    for data in (junk, message.encode()[:cut], message.encode()[:cut] + junk):
        try:
            decode_message(data)
        except BadFrame:
            continue


def test_peers_that_make_no_sense_are_left_out_and_bounded() -> None:
    theirs = kademlia_pb2.Message(type=kademlia_pb2.Message.FIND_NODE)
    for raw in (b"", b"junk", b"\x12\x20short", b"x" * 5000):
        theirs.closerPeers.add().id = raw
    good = theirs.closerPeers.add()
    good.id = peer_bytes(PEERS[0])
    good.addrs.extend([b"\xff\xff", b"\x99", b"\x04\x0a\x00\x00\x01\x06\x23\x28", b"\x04" * 9999])
    assert decode_message(theirs.SerializeToString()).closer == (
        Contact(PEERS[0], (Multiaddr("/ip4/10.0.0.1/tcp/9000"),)),
    )
    many = Message(Kind.FIND_NODE, closer=(Contact(PEERS[0]),) * 500)
    assert len(decode_message(many.encode()).closer) == 64


def test_kinds_that_do_not_exist_are_refused() -> None:
    with pytest.raises(BadFrame):
        decode_message(b"\x08\x09")


def test_times_are_written_as_the_original_writes_them() -> None:
    assert received_at(1_700_000_000.25) == "2023-11-14T22:13:20.250000000Z"
