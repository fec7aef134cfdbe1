"""Relay, hole punch and dial-back messages, against the code that the library generated from the specifications."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.errors import BadFrame
from dms.network.libp2p.reach.messages import (
    MAX_ADDRESSES,
    DialRequest,
    DialResponse,
    DialStatus,
    HolePunch,
    HopMessage,
    HopType,
    Limit,
    PunchType,
    Reservation,
    Status,
    StopMessage,
    StopType,
    decode_addresses,
)
from dms.network.libp2p.reach.protobuf import decode

ADDRESS = Multiaddr("/ip4/1.2.3.4/tcp/9000")
NUMBERS = st.integers(0, (1 << 32) - 1)
PEERS = st.one_of(st.none(), st.binary(min_size=2, max_size=40))
LIMITS = st.one_of(st.none(), st.builds(Limit, NUMBERS, NUMBERS))
STATUSES = st.one_of(st.none(), st.sampled_from([int(one) for one in Status]))
RESERVATIONS = st.builds(
    Reservation, NUMBERS, st.lists(st.just(ADDRESS), max_size=3).map(tuple), st.one_of(st.none(), st.binary(min_size=1))
)


@given(
    st.builds(
        HopMessage,
        st.sampled_from([int(one) for one in HopType]),
        PEERS,
        st.one_of(st.none(), RESERVATIONS),
        LIMITS,
        STATUSES,
    )
)
def test_what_is_asked_of_a_relay_reads_as_elsewhere(message: HopMessage) -> None:
    from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage as Generated

    theirs = Generated()
    theirs.ParseFromString(message.encode())
    assert theirs.type == message.type
    assert (theirs.peer.id if theirs.HasField("peer") else None) == message.peer
    assert (theirs.status if theirs.HasField("status") else None) == message.status
    if message.limit is not None:
        assert (theirs.limit.duration, theirs.limit.data) == (message.limit.duration_s, message.limit.data_bytes)
    if message.reservation is not None:
        assert theirs.reservation.expire == message.reservation.expire
        assert list(theirs.reservation.addrs) == [one.to_bytes() for one in message.reservation.addresses]
        assert theirs.reservation.voucher == (message.reservation.voucher or b"")
    assert HopMessage.decode(decode(message.encode())) == message
    assert HopMessage.decode(decode(theirs.SerializeToString())) == message


@given(st.builds(StopMessage, st.sampled_from([int(one) for one in StopType]), PEERS, LIMITS, STATUSES))
def test_what_a_relay_says_reads_as_elsewhere(message: StopMessage) -> None:
    from libp2p.relay.circuit_v2.pb.circuit_pb2 import StopMessage as Generated

    theirs = Generated()
    theirs.ParseFromString(message.encode())
    assert theirs.type == message.type
    assert (theirs.status if theirs.HasField("status") else None) == message.status
    assert StopMessage.decode(decode(theirs.SerializeToString())) == message


@given(st.builds(HolePunch, st.sampled_from([int(one) for one in PunchType]), st.just((ADDRESS,))))
def test_a_hole_punch_reads_as_elsewhere(message: HolePunch) -> None:
    from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch as Generated

    theirs = Generated()
    theirs.ParseFromString(message.encode())
    assert theirs.type == message.type
    assert list(theirs.ObsAddrs) == [one.to_bytes() for one in message.addresses]
    assert HolePunch.decode(decode(theirs.SerializeToString())) == message


def test_a_request_to_dial_reads_as_elsewhere() -> None:
    from libp2p.host.autonat.pb.autonat_pb2 import Message as Generated

    message = DialRequest(b"\x00\x24peer", (ADDRESS,))
    theirs = Generated()
    theirs.ParseFromString(message.encode())
    assert theirs.type == Generated.DIAL
    assert (theirs.dial.peer.id, list(theirs.dial.peer.addrs)) == (b"\x00\x24peer", [ADDRESS.to_bytes()])
    assert DialRequest.decode(decode(theirs.SerializeToString())) == message


@pytest.mark.parametrize("status", list(DialStatus))
def test_an_answer_to_a_request_to_dial_reads_as_elsewhere(status: DialStatus) -> None:
    from libp2p.host.autonat.pb.autonat_pb2 import Message as Generated

    message = DialResponse(status, "why", ADDRESS)
    theirs = Generated()
    theirs.ParseFromString(message.encode())
    assert theirs.type == Generated.DIAL_RESPONSE
    assert int(theirs.dialResponse.status) == status.value
    assert theirs.dialResponse.statusText == "why"
    assert theirs.dialResponse.addr == ADDRESS.to_bytes()
    assert DialResponse.decode(decode(theirs.SerializeToString())) == message


@given(st.binary(max_size=120))
def test_garbage_is_a_bad_frame_or_a_message(data: bytes) -> None:
    for kind in (HopMessage, StopMessage, HolePunch, DialRequest, DialResponse):
        try:
            kind.decode(decode(data))
        except BadFrame:
            continue


def test_addresses_that_cannot_be_read_are_left_out_and_their_number_is_bounded() -> None:
    raw = [b"\xff\xff", b"", ADDRESS.to_bytes(), bytes(600)]
    assert decode_addresses(tuple(raw)) == (ADDRESS,)
    assert len(decode_addresses((ADDRESS.to_bytes(),) * 100)) == MAX_ADDRESSES
