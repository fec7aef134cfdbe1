"""Good inputs of every protocol that a node serves: what the search for bad ones starts from.

A protocol without an entry here fails the test: whoever adds a handler adds what an honest peer would send to it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from dms.network.framing import encode_frame
from dms.network.libp2p.messages import frames
from dms.subnet import frames as packets
from dms.subnet.segments import Parcel

# The library, for attackers: only after our package has put its placeholder in place.
from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.identity.identify.pb.identify_pb2 import Identify  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from libp2p.pubsub.pb import rpc_pb2  # isort: skip
from multiaddr import Multiaddr  # isort: skip


class Framing(Enum):
    """How a message is put on a stream."""

    NONE = "as it is"
    VARINT = "behind its length as a varint"
    LENGTH = "behind its length in eight bytes, little-endian"


@dataclass(frozen=True, slots=True)
class Corpus:
    """What an honest peer sends to a protocol."""

    framing: Framing
    messages: tuple[bytes, ...]

    def frame(self, message: bytes) -> bytes:
        """One message as it goes onto a stream."""
        if self.framing is Framing.VARINT:
            return varint(len(message)) + message
        if self.framing is Framing.LENGTH:
            return encode_frame(message) if message else bytes(8)
        return message


def varint(number: int) -> bytes:
    """An unsigned number, seven bits a byte."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def fields(*pairs: tuple[int, int | bytes]) -> bytes:
    """A protobuf message of numbers and bytes."""
    out = b""
    for number, value in pairs:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


KEYS: Final = create_new_key_pair(bytes(range(32)))
PEER: Final = ID.from_pubkey(KEYS.public_key).to_bytes()
PEER_TEXT: Final = ID(PEER).to_base58()
ADDRESS: Final = Multiaddr("/ip4/127.0.0.1/tcp/9").to_bytes()
TOPIC: Final = "/nunet/hello"
SUBNET: Final = "lab"
VICTIM_INBOX: Final = "actor/root/messages/0.0.1"


def corpus_of(protocol: str) -> Corpus | None:
    """The good inputs of a protocol; nothing where nobody wrote any."""
    for pattern, make in _BY_PROTOCOL:
        if re.fullmatch(pattern, protocol):
            return make()
    return None


def _identify() -> Corpus:
    message = Identify(
        protocol_version="/ipfs/0.1.0",
        agent_version="fuzz",
        public_key=KEYS.public_key.serialize(),
        listen_addrs=[ADDRESS],
        observed_addr=ADDRESS,
        protocols=["/ipfs/ping/1.0.0", "/meshsub/1.1.0"],
    )
    return Corpus(Framing.VARINT, (message.SerializeToString(), b""))


def _ping() -> Corpus:
    return Corpus(Framing.NONE, (bytes(range(32)), bytes(64)))


def _gossip() -> Corpus:
    message = rpc_pb2.Message(
        data=b"{}", topicIDs=[TOPIC], from_id=PEER, seqno=bytes(8), key=KEYS.public_key.serialize()
    )
    message.signature = KEYS.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    control = rpc_pb2.ControlMessage(
        ihave=[rpc_pb2.ControlIHave(topicID=TOPIC)],
        iwant=[rpc_pb2.ControlIWant()],
        graft=[rpc_pb2.ControlGraft(topicID=TOPIC)],
        prune=[rpc_pb2.ControlPrune(topicID=TOPIC, backoff=60, peers=[rpc_pb2.PeerInfo(peerID=PEER)])],
    )
    rpcs = (
        rpc_pb2.RPC(publish=[message]),
        rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)]),
        rpc_pb2.RPC(control=control),
        rpc_pb2.RPC(senderRecord=PEER, publish=[message, message], control=control),
    )
    ids = fields((3, fields((1, fields((1, TOPIC.encode()), (2, PEER + bytes(8)))), (2, fields((1, PEER + bytes(8)))))))
    return Corpus(Framing.VARINT, (*(rpc.SerializeToString() for rpc in rpcs), ids))


def _peers() -> Corpus:
    peer = PEER_TEXT.encode()
    answer = b'{"peers": [{"peer": "%s", "addresses": ["/ip4/127.0.0.1/tcp/9"]}]}' % peer
    return Corpus(Framing.LENGTH, (b'{"peer": "%s"}' % peer, b'{"sample": 3}', answer))


def _message() -> Corpus:
    envelope = (
        b'{"to":{"id":"","did":{"uri":""},"addr":{"HostID":"","InboxAddress":"root"}},"be":"/public/hello","nonce":1}'
    )
    return Corpus(Framing.LENGTH, (envelope, b"x", bytes(1000)))


def _kademlia() -> Corpus:
    peer = fields((1, PEER), (2, ADDRESS), (3, 1))
    record = fields((1, b"/nunet-dht-1/x"), (2, b"value"), (5, b"2026-01-01T00:00:00Z"))
    return Corpus(
        Framing.VARINT,
        (
            fields((1, 0), (2, b"/nunet-dht-1/x"), (3, record)),  # put
            fields((1, 1), (2, b"/nunet-dht-1/x"), (3, record), (8, peer)),  # get, and an answer
            fields((1, 2), (2, PEER), (9, peer)),  # add provider
            fields((1, 3), (2, PEER), (8, peer), (9, peer)),  # providers
            fields((1, 4), (2, PEER), (8, peer), (8, peer)),  # find node
            fields((1, 5)),  # ping
        ),
    )


def _autonat() -> Corpus:
    dial = fields((1, 0), (2, fields((1, fields((1, PEER), (2, ADDRESS))))))
    return Corpus(Framing.VARINT, (dial, fields((1, 1), (3, fields((1, 0), (2, b"OK"), (3, ADDRESS))))))


def _autonat_2() -> Corpus:
    return Corpus(Framing.VARINT, (fields((1, fields((1, ADDRESS), (2, 7)))), fields((1, 7))))


def _relay() -> Corpus:
    peer = fields((1, PEER), (2, ADDRESS))
    limit = fields((1, 120), (2, 1 << 17))
    return Corpus(
        Framing.VARINT,
        (
            fields((1, 0)),
            fields((1, 1), (2, peer)),
            fields((1, 0), (2, peer), (3, limit)),
            fields((1, 2), (3, fields((1, 1 << 31), (2, ADDRESS), (3, bytes(40)))), (4, limit), (5, 100)),
        ),
    )


def _hole_punch() -> Corpus:
    return Corpus(Framing.VARINT, (fields((1, 100), (2, ADDRESS)), fields((1, 300))))


def _coordinates() -> Corpus:
    point = (
        b'{"coordinate": {"vector": [0.1, 0.2], "height": 0.001, "error": 1.0}, "position": [0.1, 0.2], "error": 0.5}'
    )
    return Corpus(Framing.LENGTH, (point, b"{}"))


def _kept() -> Corpus:
    name = frames.encode(frames.Kind.NAME, 0, 0, 0, VICTIM_INBOX.encode())
    whole = frames.encode(frames.Kind.DATA, frames.FIRST | frames.LAST, 0, 1, b"{}")
    first = frames.encode(frames.Kind.DATA, frames.FIRST, 0, 2, frames.SIZE.pack(4) + b"{ ")
    last = frames.encode(frames.Kind.DATA, frames.LAST, 0, 2, b" }")
    answer = frames.encode(frames.Kind.ANSWER, frames.Status.ACCEPTED, 0, 1)
    cancel = frames.encode(frames.Kind.CANCEL, 0, 0, 2)
    closing = frames.encode(frames.Kind.CLOSING, 0, 0, 0)
    return Corpus(Framing.NONE, (name + whole, name + first + last, name + first + cancel, answer + closing))


def _files() -> Corpus:
    return Corpus(Framing.LENGTH, (b'{"ticket":"%s","size":10}' % (b"ab" * 32), b'{"OK":true,"offset":5}', bytes(40)))


def _packets() -> Corpus:
    packet = bytes.fromhex("450000200001000040110000 0a000001 0a000002 04d2162e000c0000") + b"data"
    hello = packets.encode_hello(packets.Hello(SUBNET))
    return Corpus(
        Framing.NONE,
        (
            hello + packets.encode_parcels([Parcel(packet)] * 3),
            hello + packets.encode(packets.PING, bytes(8)) + packets.encode(packets.OFFER, b"{}"),
        ),
    )


def _original_packets() -> Corpus:
    name = SUBNET.encode()
    head = struct.pack("<H", len(name)) + name
    packet = struct.pack("<H", 20) + bytes.fromhex("4500001400010000401100000a0000010a000002")
    return Corpus(Framing.NONE, (head + packet * 3, head + packet + head + packet))


_BY_PROTOCOL: Final[Sequence[tuple[str, Callable[[], Corpus]]]] = (
    (r"/ipfs/id(/push)?/1\.0\.0", _identify),
    (r"/ipfs/ping/1\.0\.0", _ping),
    (r"/meshsub/1\.[0-9]\.0|/floodsub/1\.0\.0", _gossip),
    (r"nunet/(.+/)?peers/0\.0\.1", _peers),
    (r"actor/[^/]+/messages/0\.0\.1", _message),
    (re.escape(frames.PROTOCOL), _kept),
    (r"/nunet/(.+/)?kad/1\.0\.0", _kademlia),
    (r"/libp2p/autonat/1\.0\.0", _autonat),
    (r"/libp2p/autonat/2/.+", _autonat_2),
    (r"/libp2p/circuit/relay/0\.2\.0/(hop|stop)", _relay),
    (r"/libp2p/dcutr", _hole_punch),
    (r"nunet/coordinates/0\.0\.1", _coordinates),
    (r"nunet/files/1\.0\.0", _files),
    (re.escape(packets.OWN), _packets),
    (re.escape(packets.ORIGINAL), _original_packets),
)
