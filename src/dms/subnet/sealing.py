"""Sealing datagrams, without I/O: keys agreed on an authenticated stream, a counter, a window against replays.

Both sides send an ephemeral X25519 key over their libp2p stream, which tells who the other one is. What follows from the
two, bound to the network, the peers and the ids of the session, are two keys, one for each direction. A datagram is::

    id of the session 8 | counter 8 | ChaCha20-Poly1305 of (kind 1 | body)     all little-endian

The ids are chosen by who receives, so that finding a session is one dictionary access; what is not sealed is not read.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dms.subnet.errors import BadPacket
from dms.types.ids import PeerID

PACKET, PROBE, ANSWER, PARTIAL, PIECE = range(5)
"""A packet, a question whether datagrams arrive, its answer, a packet whose TCP or UDP checksum is still to be done, a part of
a larger one (:mod:`~dms.subnet.pieces`)."""
WINDOW = 4096
"""How far out of order a datagram may come."""
MAX_ADDRESSES = 16
MAX_COUNTER = 1 << 60

_HEAD = struct.Struct("<QQ")
_TAG_BYTES = 16
_KINDS = tuple(bytes((kind,)) for kind in range(256))
_KEY_BYTES = 32
OVERHEAD_BYTES = _HEAD.size + 1 + _TAG_BYTES


class Offer(msgspec.Struct, frozen=True):
    """What each side says on the stream: its key, the id under which it receives, and where."""

    key: bytes
    id: int
    addresses: tuple[str, ...] = ()
    """``ip`` or ``ip port``, the port where it is not the one below."""
    port: int = 0
    takes_pieces: bool = False


class Keys(NamedTuple):
    """Of one session: for what its opener sends, and for the answers."""

    forward: bytes
    backward: bytes


def encode_offer(offer: Offer) -> bytes:
    """As it stands in a frame."""
    return msgspec.json.encode(offer)


def decode_offer(data: bytes) -> Offer:
    """What the other side said.

    :raises BadPacket: it is no offer.
    """
    try:
        offer = msgspec.json.decode(data, type=Offer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadPacket("not an offer") from None
    sound = len(offer.key) == _KEY_BYTES and 0 <= offer.id < 1 << 64 and 0 < offer.port < 1 << 16
    if not sound or len(offer.addresses) > MAX_ADDRESSES:
        raise BadPacket("not an offer")
    return offer


def public_bytes(private: X25519PrivateKey) -> bytes:
    """The key to offer."""
    return private.public_key().public_bytes_raw()


def agree(private: X25519PrivateKey, other: bytes, *, context: bytes) -> Keys:
    """The keys that follow from ours and theirs in a context that both know.

    :raises BadPacket: theirs is a key that gives everybody the same.
    """
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise BadPacket("a weak key") from None
    both = HKDF(SHA256(), 2 * _KEY_BYTES, salt=None, info=b"nunet subnet datagrams 1\n" + context).derive(secret)
    return Keys(both[:_KEY_BYTES], both[_KEY_BYTES:])


def context_of(subnet_id: str, opener: PeerID, accepter: PeerID, opener_offer: Offer, accepter_offer: Offer) -> bytes:
    """What a session is bound to: keys of one fit no other, whoever mixes the offers up."""
    said = (opener_offer.key, accepter_offer.key, _HEAD.pack(opener_offer.id, accepter_offer.id))
    parts = (subnet_id.encode(), opener.encode(), accepter.encode(), *said)
    return b"".join(struct.pack("<H", len(part)) + part for part in parts)


class Sealer:
    """Our sending direction."""

    def __init__(self, key: bytes, session_id: int) -> None:
        self._cipher, self._id, self._counter = ChaCha20Poly1305(key), session_id, 0

    def seal(self, kind: int, *body: bytes | memoryview) -> bytes:
        """One datagram; the body may be given in parts."""
        counter = self._counter
        self._counter += 1
        head = _HEAD.pack(self._id, counter)
        return head + self._cipher.encrypt(b"\0\0\0\0" + head[8:], b"".join((_KINDS[kind], *body)), head)

    @property
    def is_worn(self) -> bool:
        """Whether it is time for new keys."""
        return self._counter >= MAX_COUNTER


class Replayed(Exception):
    """A datagram that came before, or too late to tell."""


class Opener:
    """Our receiving direction."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._highest = -1
        self._seen = 0

    def open(self, datagram: bytes) -> tuple[int, bytes]:
        """Kind and body.

        :raises BadPacket: the other side did not seal it.
        :raises Replayed: it came before.
        """
        if len(datagram) < OVERHEAD_BYTES:
            raise BadPacket("shorter than its seal")
        head = datagram[: _HEAD.size]
        (counter,) = struct.unpack_from("<Q", head, 8)
        behind = self._highest - counter
        if behind >= WINDOW or (behind >= 0 and self._seen >> behind & 1):
            raise Replayed
        try:
            plain = self._cipher.decrypt(b"\0\0\0\0" + head[8:], datagram[_HEAD.size :], head)
        except InvalidTag:
            raise BadPacket("not sealed by the peer") from None
        if behind < 0:
            self._seen = (self._seen << min(-behind, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._highest = counter
        else:
            self._seen |= 1 << behind
        return plain[0], plain[1:]


def session_of(datagram: bytes) -> int | None:
    """Of which session it says that it is."""
    return int.from_bytes(datagram[:8], "little") if len(datagram) >= OVERHEAD_BYTES else None
