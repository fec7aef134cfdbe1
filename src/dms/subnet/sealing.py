"""Sealing datagrams, without I/O: keys agreed on an authenticated stream, a counter, a window against replays.

Both sides send an ephemeral X25519 key over their libp2p stream, which tells who the other one is. What follows from the
two, bound to the network, the peers and the ids of the session, are two keys, one for each direction. A datagram is::

    id of the session 8 | counter 8 | kind 1 | body, both sealed     all little-endian

Several may be sealed as one (:mod:`~dms.subnet.bundles`). The seal is that of :mod:`~dms.subnet.ciphers`. The ids are
chosen by who receives, so that finding a session is one dictionary access; what is not sealed says nothing else.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from itertools import chain, repeat
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dms.subnet.bundles import MARK, Gathering, Run, bytes_of, is_slice, run_of, sliced, slices_of
from dms.subnet.ciphers import KEY_BYTES, SPAN_BITS, Ciphers, Suite
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
_SEEN = (1 << WINDOW) - 1
_NONCE = struct.Struct("<4xQ")
OVERHEAD_BYTES = _HEAD.size + 1 + _TAG_BYTES


class Offer(msgspec.Struct, frozen=True):
    """What each side says on the stream: its key, the id under which it receives, and where."""

    key: bytes
    id: int
    addresses: tuple[str, ...] = ()
    """``ip`` or ``ip port``, the port where it is not the one below."""
    port: int = 0
    takes_pieces: bool = False
    takes_aes: bool = False
    """Sealed with AES where both take that."""
    takes_bundles: bool = False


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
    sound = len(offer.key) == KEY_BYTES and 0 <= offer.id < 1 << 64 and 0 < offer.port < 1 << 16
    if not sound or len(offer.addresses) > MAX_ADDRESSES:
        raise BadPacket("not an offer")
    return offer


def public_bytes(private: X25519PrivateKey) -> bytes:
    """The key to offer."""
    return private.public_key().public_bytes_raw()


def suite_of(one: Offer, other: Offer) -> Suite:
    """What two that offer this seal with."""
    return Suite.AES if one.takes_aes and other.takes_aes else Suite.CHACHA20


def agree(private: X25519PrivateKey, other: bytes, *, context: bytes, suite: Suite = Suite.CHACHA20) -> Keys:
    """The keys that follow from ours and theirs in a context that both know, for one way to seal and no other.

    :raises BadPacket: theirs is a key that gives everybody the same.
    """
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise BadPacket("a weak key") from None
    purpose = b"nunet subnet datagrams 1\n" if suite is Suite.CHACHA20 else b"nunet subnet datagrams 1 AES-256-GCM\n"
    both = HKDF(SHA256(), 2 * KEY_BYTES, salt=None, info=purpose + context).derive(secret)
    return Keys(both[:KEY_BYTES], both[KEY_BYTES:])


def context_of(subnet_id: str, opener: PeerID, accepter: PeerID, opener_offer: Offer, accepter_offer: Offer) -> bytes:
    """What a session is bound to: keys of one fit no other, whoever mixes the offers up."""
    said = (opener_offer.key, accepter_offer.key, _HEAD.pack(opener_offer.id, accepter_offer.id))
    parts = (subnet_id.encode(), opener.encode(), accepter.encode(), *said)
    return b"".join(struct.pack("<H", len(part)) + part for part in parts)


class Sealer:
    """Our sending direction."""

    def __init__(self, key: bytes, session_id: int, suite: Suite = Suite.CHACHA20) -> None:
        self._ciphers, self._id, self._counter = Ciphers(key, suite), session_id, 0

    def seal(self, kind: int, body: bytes) -> bytes:
        """One datagram."""
        counter = self._counter
        self._counter += 1
        head = _HEAD.pack(self._id, counter)
        return head + self._ciphers.use(counter).encrypt(_NONCE.pack(counter), _KINDS[kind] + body, head)

    def seal_all(self, kind: int, fronts: Sequence[bytes], payloads: Sequence[memoryview]) -> bytes:
        """One datagram for each pair, one behind the other; fewer than :data:`WINDOW` of them."""
        counters = self._take(len(fronts))
        heads = list(map(_HEAD.pack, repeat(self._id), counters))
        plain = map(b"".join, zip(repeat(_KINDS[kind]), fronts, payloads, strict=False))
        sealed = map(self._ciphers.use(counters.start).encrypt, map(_NONCE.pack, counters), plain, heads)
        return b"".join(chain.from_iterable(zip(heads, sealed, strict=True)))

    def seal_bundle(self, body: bytes, size: int) -> bytes:
        """Datagrams of this size, one behind the other, that hold it together (:mod:`~dms.subnet.bundles`).

        As each slice takes a counter, no more is sealed with one key than without bundles.
        """
        first = self._take(slices_of(len(body) + _TAG_BYTES, size)).start
        head = _HEAD.pack(self._id, MARK | first)
        return sliced(self._ciphers.use(first).encrypt(_NONCE.pack(first), body, head), self._id, first, size)

    def _take(self, count: int) -> range:
        """So many counters in a row, all of one key."""
        if (self._counter + count) >> SPAN_BITS != self._counter >> SPAN_BITS:
            self._counter = (self._counter + count) >> SPAN_BITS << SPAN_BITS
        counters = range(self._counter, self._counter + count)
        self._counter += count
        return counters

    @property
    def is_worn(self) -> bool:
        """Whether it is time for new keys."""
        return self._counter >= MAX_COUNTER


class Replayed(Exception):
    """A datagram that came before, or too late to tell."""


class Opened(NamedTuple):
    """Of datagrams one behind the other: what was opened, each its kind and behind that its body."""

    plain: list[bytes]
    end: int
    """Where the first begins that is of another session."""
    not_authentic: int = 0
    replayed: int = 0


class Opener:
    """Our receiving direction."""

    def __init__(self, key: bytes, suite: Suite = Suite.CHACHA20) -> None:
        self._ciphers = Ciphers(key, suite)
        self._highest = -1
        self._seen = 0
        """One bit for each datagram up to the highest that came; the lowest bit is that."""
        self._gathering = Gathering()
        self.received = 0
        """Authentic datagrams, no two the same."""

    @property
    def expected(self) -> int:
        """So many the other side had sealed when it sealed the last that came."""
        return self._highest + 1

    def give_up(self) -> int:
        """See :meth:`~dms.subnet.bundles.Gathering.look`."""
        return self._gathering.look()

    def open(self, datagram: bytes) -> tuple[int, bytes]:
        """Kind and body.

        :raises BadPacket: the other side did not seal it.
        :raises Replayed: it came before.
        """
        opened = self.open_all(memoryview(datagram), 0, len(datagram))
        if opened.replayed:
            raise Replayed
        if not opened.plain:
            raise BadPacket("not sealed by the peer")
        return opened.plain[0][0], opened.plain[0][1:]

    def open_all(self, data: memoryview, at: int, size: int) -> Opened:
        """The datagram that begins there, of ``size`` bytes, and those of the same session right behind it; the last may be
        shorter."""
        plain: list[bytes] = []
        session, begun = None, at
        if len(data) - at >= 2 * size >= 2 * OVERHEAD_BYTES and (plain := self._open_in_order(data, at, size)):
            session = session_of(data[at : at + size])
            at += len(plain) * size
        not_authentic = replayed = fresh = 0  # fresh: came in order and is not in self._seen yet
        highest, total, unpack = self._highest, len(data), _HEAD.unpack_from
        decrypt, span = None, -1
        while at < total:
            end = min(at + size, total)
            if end - at < OVERHEAD_BYTES:
                not_authentic += 1
                at = end
                continue
            one, counter = unpack(data, at)
            if counter >= MARK:
                if at > begun:
                    break
                not_authentic += 1  # no slices are taken here
                at = end
                continue
            if one != session:
                if session is not None:
                    break
                session = one
            ahead = counter - highest
            if ahead != 1:
                if fresh:
                    self._seen, fresh = (self._seen << fresh | (1 << fresh) - 1) & _SEEN, 0
                if ahead <= -WINDOW or (ahead <= 0 and self._seen >> -ahead & 1):
                    replayed += 1
                    at = end
                    continue
            if decrypt is None or counter >> SPAN_BITS != span:
                span, decrypt = counter >> SPAN_BITS, self._ciphers.at(counter).decrypt
            body = at + 16
            try:
                found = decrypt(_NONCE.pack(counter), data[body:end], data[at:body])
            except InvalidTag:
                not_authentic += 1
                at = end
                continue
            plain.append(found)
            at = end
            if ahead == 1:
                highest = counter
                fresh += 1
            elif ahead > 0:
                self._seen = (self._seen << min(ahead, WINDOW) | 1) & _SEEN
                highest = counter
            else:
                self._seen |= 1 << -ahead
        if highest > self._highest:
            self._highest = highest
            self._ciphers.use(highest)
        if fresh:
            self._seen = (self._seen << fresh | (1 << fresh) - 1) & _SEEN
        self.received += len(plain)
        return Opened(plain, at, not_authentic, replayed)

    def open_slices(self, data: memoryview, at: int, size: int) -> Opened:
        """The slice that begins there, of ``size`` bytes, and those of the same session right behind it; ``plain`` has the
        bodies of the bundles that are whole now."""
        plain: list[bytes] = []
        not_authentic = replayed = 0
        session = session_of(data[at : at + size])
        while at < len(data) and is_slice(data, at) and session_of(data[at : at + size]) == session:
            run = run_of(data, at, size)
            if run is None or not self._is_new(run.first):
                not_authentic += run is None
                replayed += 0 if run is None else run.slices
                at = min(at + size, len(data)) if run is None else run.end
                continue
            sealed = self._gathering.add(run, bytes_of(data, at, size, run))
            at = run.end
            if sealed is not None:
                try:
                    plain.append(self._open_bundle(run, sealed))
                except InvalidTag:
                    not_authentic += 1
        return Opened(plain, at, not_authentic, replayed)

    def _is_new(self, counter: int) -> bool:
        behind = self._highest - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def _open_bundle(self, run: Run, sealed: bytes) -> bytes:
        aad = _HEAD.pack(run.session_id, MARK | run.first)
        body = self._ciphers.at(run.first).decrypt(_NONCE.pack(run.first), sealed, aad)
        last = run.first + run.total - 1
        ahead, bits = max(0, last - self._highest), (1 << run.total) - 1
        self._seen = (self._seen << min(ahead, WINDOW) | bits << max(0, self._highest - last)) & _SEEN
        self._highest = max(self._highest, last)
        self._ciphers.use(self._highest)
        self.received += run.total
        return body

    def _open_in_order(self, data: memoryview, at: int, size: int) -> list[bytes]:
        """The usual case, with few steps for each: all that are of full length are the next ones of this session. Otherwise
        none, and nothing has happened."""
        count = (len(data) - at) // size
        says, parts = _layouts(size)
        whole = data[at : at + count * size]
        sessions, counters = zip(*says.iter_unpack(whole), strict=True)
        first = self._highest + 1
        if counters != tuple(range(first, first + count)) or sessions.count(sessions[0]) != count:
            return []
        if first >> SPAN_BITS != counters[-1] >> SPAN_BITS:
            return []
        heads, sealed = zip(*parts.iter_unpack(whole), strict=True)
        try:
            plain = list(map(self._ciphers.at(first).decrypt, map(_NONCE.pack, counters), sealed, heads))
        except InvalidTag:
            return []
        self._ciphers.use(first)
        self._highest = counters[-1]
        self._seen = (self._seen << count | (1 << count) - 1) & _SEEN
        return plain


@functools.lru_cache(maxsize=64)
def _layouts(size: int) -> tuple[struct.Struct, struct.Struct]:
    """Of datagrams so long: the numbers in the head; head and what is sealed."""
    sealed = size - _HEAD.size
    return struct.Struct(f"<QQ{sealed}x"), struct.Struct(f"<{_HEAD.size}s{sealed}s")


def session_of(datagram: bytes | memoryview) -> int | None:
    """Of which session it says that it is."""
    return int.from_bytes(datagram[:8], "little") if len(datagram) >= OVERHEAD_BYTES else None
