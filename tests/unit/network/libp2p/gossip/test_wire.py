from __future__ import annotations

import dms.network.libp2p  # isort: skip  # noqa: F401  before anything of the library

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2

from dms.network.errors import BadFrame
from dms.network.gossip import Message, Offer, Packet, Prune
from dms.network.libp2p.gossip.wire import MAX_FRAME_BYTES, FrameReader, decode, encode, peer_name, varint
from dms.types.ids import PeerID

NOBODY = PeerID("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")
RAW_IDS = st.binary(min_size=1, max_size=40)
TOPICS = st.text(max_size=10)


def made(origin: bytes, seqno: bytes, topic: str, data: bytes) -> Message:
    one = rpc_pb2.Message(from_id=origin, seqno=seqno, topicIDs=[topic], data=data)
    return Message(origin + seqno, peer_name(origin), topic, data, one.SerializeToString())


MESSAGES = st.builds(made, RAW_IDS, st.binary(max_size=8), TOPICS, st.binary(max_size=50))
PACKETS = st.builds(
    Packet,
    subscriptions=st.lists(st.tuples(TOPICS, st.booleans()), max_size=4),
    messages=st.lists(MESSAGES, max_size=4),
    ihave=st.dictionaries(TOPICS, st.lists(RAW_IDS, max_size=3), max_size=3),
    iwant=st.lists(RAW_IDS, max_size=3),
    idontwant=st.lists(RAW_IDS, max_size=3),
    graft=st.lists(TOPICS, max_size=3),
    prune=st.lists(
        st.builds(
            Prune,
            TOPICS,
            st.integers(0, 3600).map(float),
            st.lists(st.builds(Offer, RAW_IDS.map(peer_name), st.binary(max_size=9)), max_size=2).map(tuple),
        ),
        max_size=2,
    ),
)


class Pieces:
    """A stream that arrives in pieces of some size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size

    async def read(self, limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        count = min(limit, self._size)
        piece, self._data = self._data[:count], self._data[count:]
        return piece


def unframe(frames: list[bytes], size: int = 7) -> list[bytes]:
    async def main() -> list[bytes]:
        reader, found = FrameReader(Pieces(b"".join(frames), size).read), []
        while True:
            try:
                found.append(await reader.next())
            except EOFError:
                return found

    return trio.run(main)


@settings(max_examples=80, deadline=None)
@given(packet=PACKETS, size=st.integers(1, 100))
def test_what_is_written_is_read(packet: Packet, size: int) -> None:
    records = {offer.peer: offer.record for prune in packet.prune for offer in prune.offers}
    frames = encode(packet, lambda peer: records[peer])
    assert len(frames) <= 1
    found = [decode(frame) for frame in unframe(frames, size)]
    expected = Packet(
        packet.subscriptions,
        packet.messages,
        packet.ihave,
        packet.iwant,
        packet.idontwant,
        packet.graft,
        [Prune(p.topic, p.backoff_s, tuple(Offer(o.peer, records[o.peer]) for o in p.offers)) for p in packet.prune],
    )
    assert found == ([expected] if frames else [])


def test_much_at_once_goes_in_several_frames_each_within_the_limit() -> None:
    messages = [made(b"me", b"%d" % number, "t", bytes(100_000)) for number in range(20)]
    frames = encode(Packet(messages=messages, graft=["t"]), lambda _: b"")
    assert len(frames) > 5
    assert max(map(len, frames)) <= MAX_FRAME_BYTES
    assert [one for frame in unframe(frames, 65536) for one in decode(frame).messages] == messages


def test_ids_that_are_no_text_survive() -> None:
    ids = [bytes(range(256)), b"\xff\xfe"]
    (frame,) = encode(Packet(ihave={"t": ids}, iwant=ids), lambda _: b"")
    (body,) = unframe([frame])
    assert decode(body).ihave == {"t": ids}
    assert decode(body).iwant == ids


def test_messages_of_no_topic_or_of_several_are_left_out() -> None:
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"x"), rpc_pb2.Message(data=b"x", topicIDs=["a", "b"])])
    assert decode(rpc.SerializeToString()).messages == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_is_a_bad_frame_or_a_packet_and_nothing_else(data: bytes) -> None:
    try:
        decode(data)
    except BadFrame:
        return


@pytest.mark.parametrize(
    "frame",
    [
        rpc_pb2.RPC(publish=[rpc_pb2.Message()] * 257),
        rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t")] * 257),
    ],
)
def test_too_many_entries_are_refused(frame: rpc_pb2.RPC) -> None:
    with pytest.raises(BadFrame, match="too many"):
        decode(frame.SerializeToString())


@pytest.mark.parametrize("data", [varint(MAX_FRAME_BYTES + 1), b"\xff" * 10, b"\x05abc", b"\x80"])
def test_lengths_beyond_the_limit_and_broken_ends_are_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        unframe([data])


def test_a_peer_id_of_any_length_is_a_text_or_nothing() -> None:
    assert peer_name(b"") == peer_name(bytes(65)) == ""
    assert (
        peer_name(bytes.fromhex("0024080112203b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"))
        == NOBODY
    )
