"""What the network reads of peers outside of streams' framing: messages and records of the hash table, multicast DNS, and
the file of known peers, which lies on a disk that anything may have written to."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from multiaddr import Multiaddr

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.network import mdns
from dms.network.addresses import is_dialable, is_loopback
from dms.network.kademlia.advertisements import AdvertisementValidator, record_key, seal, unseal
from dms.network.kademlia.keys import peer_bytes
from dms.network.kademlia.messages import MAX_PEERS, Contact, Kind, Message, Record, decode_message
from dms.network.known_good import MAX_ADDRESSES, GoodPeers
from dms.network.protobuf import encode

SERVICE = "_p2p._udp.local"
NOW_S = 1_800_000_000.0
_KEY = PrivateKey(KeyType.ED25519, bytes(range(32)))
_PEER = peer_id_of(_KEY.public)
_ADDRESSES = (
    Multiaddr("/ip4/10.0.0.1/tcp/9000"),
    Multiaddr("/ip6/fd00::1/tcp/9000"),
    Multiaddr("/dns4/node.example/tcp/9000"),
)


def messages() -> Sequence[bytes]:
    """One of every kind, with everything that it may hold."""
    contact = Contact(_PEER, _ADDRESSES, is_connected=True)
    record = Record(b"/nunet-dht-1/x", b"value", "2026-01-01T00:00:00Z")
    made = [
        Message(Kind.FIND_NODE, peer_bytes(_PEER), closer=(contact, contact)),
        Message(Kind.GET_VALUE, b"/pk/\xff\x00", record, (contact,)),
        Message(Kind.PUT_VALUE, record.key, record),
        Message(Kind.GET_PROVIDERS, b"\x12\x20" + bytes(32), closer=(contact,), providers=(contact,)),
        Message(Kind.PING),
    ]
    return [message.encode() for message in made]


def check_message(data: bytes) -> str:
    """What was read and written again reads as the same; nothing is larger than it may be."""
    message = decode_message(data)
    assert decode_message(message.encode()) == message
    assert max(len(message.closer), len(message.providers)) <= MAX_PEERS
    addresses = sum(len(one.addresses) for one in message.closer + message.providers)
    return f"{message.kind.name} {message.record is not None} {min(len(message.closer), 3)} {min(addresses, 3)}"


@functools.cache
def _signed() -> dict[tuple[bytes, int], bytes]:
    """What the key has signed: data, and what of the time the signature covers, by record."""
    records = [
        seal(_KEY, "gpu", b"data", sequence=7, wall_s=NOW_S),
        seal(_KEY, "gpu", b"", sequence=8, wall_s=NOW_S + 1, is_withdrawn=True),
    ]
    public = _KEY.public.to_protobuf()
    original = _KEY.sign(_PEER.encode() + bytes([int(NOW_S) & 0xFF]) + b"legacy" + public)
    records.append(encode([(1, _PEER.encode()), (2, int(NOW_S)), (3, b"legacy"), (4, public), (5, original)]))
    return {(unseal(one).data, unseal(one).sequence): one for one in records}


def records() -> Sequence[bytes]:
    """Ours, one that was taken back, and one of the original."""
    return list(_signed().values())


def check_record(data: bytes) -> str:
    """Nothing verifies that was not signed in just this meaning; of the original's records only the time may differ."""
    record = unseal(data)
    assert record.peer == _PEER
    if record.is_legacy:
        assert record.data == b"legacy"
    else:
        genuine = unseal(_signed()[record.data, record.sequence])
        assert record == genuine
    AdvertisementValidator().validate(record_key("gpu", _PEER), data, NOW_S)
    return f"legacy {record.is_legacy}, withdrawn {record.is_withdrawn}"


def packets() -> Sequence[bytes]:
    """A question, an answer, and an answer with abbreviated names."""
    answer = mdns.encode_answer(SERVICE, "name", _PEER, _ADDRESSES)
    suffix = b"\x04_p2p\x04_udp\x05local\x00"
    at = answer.index(suffix)
    later = answer.rindex(suffix)
    short = answer[:later] + bytes([0xC0, at]) + answer[later + len(suffix) :]
    return [mdns.encode_question(SERVICE), answer, short]


def check_packet(data: bytes) -> str:
    """What is found can be dialled, is nobody's loopback, and is bounded."""
    packet = mdns.decode(data)
    found = mdns.peers_in(packet, SERVICE, own=peer_id_of(PrivateKey(KeyType.ED25519, bytes(32)).public))
    assert len(found) <= mdns.MAX_PEERS
    for addresses in found.values():
        assert all(is_dialable(one) and not is_loopback(one) for one in addresses)
    return f"{packet.is_response} {packet.asks_for(SERVICE)} {len(found)} {min(len(packet.texts), 3)}"


def peers_files() -> Sequence[bytes]:
    """Two peers, one of which failed."""
    peers = GoodPeers()
    other = peer_id_of(PrivateKey(KeyType.ED25519, bytes(32)).public)
    for address in _ADDRESSES:
        peers.confirmed(_PEER, address, NOW_S)
    peers.confirmed(other, _ADDRESSES[0], NOW_S - 5)
    peers.failed(other)
    peers.seen(_PEER, NOW_S, is_server=True)
    return [peers.encode(NOW_S)]


def check_peers_file(data: bytes) -> str:
    """What was read and written again reads as the same."""
    peers, again = GoodPeers(), GoodPeers()
    peers.decode(data, NOW_S)
    again.decode(peers.encode(NOW_S), NOW_S)
    best = peers.best(9999, NOW_S)
    assert again.best(9999, NOW_S) == best
    assert all(0 < len(one.addresses) <= MAX_ADDRESSES for one in best)
    return f"{len(best)} {sum(one.is_server for one in best)}"
