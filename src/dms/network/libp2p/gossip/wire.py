"""Packets on the wire: length-prefixed protobuf as go and js have it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import base58
from google.protobuf.message import DecodeError
from libp2p.pubsub.pb import rpc_pb2

from dms.network.errors import BadFrame
from dms.network.gossip import Message, Offer, Packet, Prune
from dms.types.ids import PeerID

MAX_FRAME_BYTES = 1 << 20
MAX_ENTRIES = 256
"""Subscriptions and messages that one frame may carry."""

_CHUNK_BYTES = 1 << 16
_MAX_ID_BYTES = 64
_PUBLISH_TAG = b"\x12"
_ROOM_BYTES = 1 << 18
"""What is sent together, unless it is one large message."""

RecordOf = Callable[[PeerID], bytes]


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self, read: Callable[[int], Awaitable[bytes]]) -> None:
        self._read = read
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """The next frame.

        :raises EOFError: the stream ended between two frames.
        :raises BadFrame: it is too long, or the stream ended inside.
        """
        length, start = await self._length()
        while len(self._buffer) < start + length:
            await self._fill()
        frame = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return frame

    async def _length(self) -> tuple[int, int]:
        value = position = 0
        while True:
            if position == len(self._buffer):
                await self._fill()
            byte = self._buffer[position]
            value |= (byte & 0x7F) << 7 * position
            position += 1
            if value > MAX_FRAME_BYTES or position > 5:
                raise BadFrame(f"a frame of gossip has at most {MAX_FRAME_BYTES} bytes")
            if byte < 0x80:
                return value, position

    async def _fill(self) -> None:
        piece = await self._read(_CHUNK_BYTES)
        if not piece and not self._buffer:
            raise EOFError
        if not piece:
            raise BadFrame("the stream ended inside a frame")
        self._buffer += piece


def decode(frame: bytes) -> Packet:
    """Read a packet.

    :raises BadFrame: it cannot be parsed, or carries too many entries.
    """
    rpc = rpc_pb2.RPC()
    try:
        rpc.ParseFromString(frame)
        return _packet(rpc)
    except (DecodeError, ValueError) as error:
        raise BadFrame(f"a frame of gossip cannot be parsed: {error}") from error


def _packet(rpc: rpc_pb2.RPC) -> Packet:
    if max(len(rpc.publish), len(rpc.subscriptions)) > MAX_ENTRIES:
        raise BadFrame("too many entries in one frame of gossip")
    packet = Packet(
        subscriptions=[(one.topicid, one.subscribe) for one in rpc.subscriptions],
        messages=[message_of(one) for one in rpc.publish if len(one.topicIDs) == 1],
    )
    if rpc.HasField("control"):
        control = rpc.control
        for ihave in control.ihave[:MAX_ENTRIES]:
            packet.ihave.setdefault(ihave.topicID, []).extend(ihave.messageIDs)
        packet.iwant = [id_ for one in control.iwant[:MAX_ENTRIES] for id_ in one.messageIDs]
        packet.idontwant = [id_ for one in control.idontwant[:MAX_ENTRIES] for id_ in one.messageIDs]
        packet.graft = [one.topicID for one in control.graft[:MAX_ENTRIES]]
        packet.prune = [_prune(one) for one in control.prune[:MAX_ENTRIES]]
    return packet


def message_of(one: rpc_pb2.Message) -> Message:
    """A message as it came; whether it is genuine is another question."""
    return Message(
        id=one.from_id + one.seqno,
        origin=peer_name(one.from_id),
        topic=one.topicIDs[0],
        data=one.data,
        raw=one.SerializeToString(),
    )


def _prune(one: rpc_pb2.ControlPrune) -> Prune:
    offers = tuple(Offer(peer_name(peer.peerID), peer.signedPeerRecord) for peer in one.peers[:MAX_ENTRIES])
    return Prune(one.topicID, float(one.backoff), tuple(offer for offer in offers if offer.peer))


@functools.lru_cache(maxsize=4096)
def peer_name(raw: bytes) -> PeerID:
    """The text of a peer id; empty when it cannot be one."""
    return PeerID(base58.b58encode(raw).decode() if 0 < len(raw) <= _MAX_ID_BYTES else "")


def encode(packet: Packet, record_of: RecordOf) -> list[bytes]:
    """The frames of a packet, each with its length: one, if everything fits.

    :param record_of: the signed record of a peer that is offered to others, or nothing.
    """
    rpc = rpc_pb2.RPC(
        subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=wanted, topicid=topic) for topic, wanted in packet.subscriptions]
    )
    if packet.iwant or packet.idontwant or packet.graft or packet.prune or packet.ihave:
        rpc.control.CopyFrom(_control(packet, record_of))
    frames = []
    body = rpc.SerializeToString()
    for message in packet.messages:
        if body and len(body) + len(message.raw) > _ROOM_BYTES:
            frames.append(body)
            body = b""
        # Messages are passed on as they came: the signature holds, and nothing is encoded twice.
        body += _PUBLISH_TAG + varint(len(message.raw)) + message.raw
    if body:
        frames.append(body)
    return [varint(len(frame)) + frame for frame in frames]


def _control(packet: Packet, record_of: RecordOf) -> rpc_pb2.ControlMessage:
    control = rpc_pb2.ControlMessage(
        ihave=[rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids) for topic, ids in packet.ihave.items()],
        graft=[rpc_pb2.ControlGraft(topicID=topic) for topic in packet.graft],
    )
    if packet.iwant:
        control.iwant.add(messageIDs=packet.iwant)
    if packet.idontwant:
        control.idontwant.add(messageIDs=packet.idontwant)
    for prune in packet.prune:
        peers = [
            rpc_pb2.PeerInfo(peerID=base58.b58decode(offer.peer), signedPeerRecord=record_of(offer.peer) or None)
            for offer in prune.offers
        ]
        control.prune.add(topicID=prune.topic, backoff=int(prune.backoff_s), peers=peers)
    return control


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
