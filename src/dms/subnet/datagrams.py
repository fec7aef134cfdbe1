"""Packets as UDP datagrams between two nodes that reach each other so, sealed for their network and peer.

One pair of sockets for all networks of a node. Whoever sends begins: it offers a key on its stream, gets the other's and
where to send, probes these addresses, and sends there once a probe was answered. Everything runs from one port, so the
way that an address translator opened for one direction serves the other; where an authentic probe came from is tried as
an address of its sender.

Nothing here waits but for the sockets: a packet that may go now goes within the step that brought it.
"""

from __future__ import annotations

import errno
import secrets
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Protocol

import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dms.subnet import frames
from dms.subnet.bundles import Losses, is_slice
from dms.subnet.ciphers import has_aes
from dms.subnet.errors import BadPacket
from dms.subnet.packets import MAX_PACKET_BYTES, parse_header
from dms.subnet.pieces import FRONT_BYTES, Cut, cut, join
from dms.subnet.probing import TOKEN_BYTES, Address, Prober, Way
from dms.subnet.sealing import (
    ANSWER,
    MAX_ADDRESSES,
    OVERHEAD_BYTES,
    PACKET,
    PARTIAL,
    PIECE,
    PROBE,
    Offer,
    Opened,
    Opener,
    Sealer,
    agree,
    context_of,
    public_bytes,
    session_of,
    suite_of,
)
from dms.subnet.segments import Parcel, packets_of
from dms.subnet.tally import Drop, Tally
from dms.subnet.udp import Burst, Endpoint, bursts_of, open_endpoints
from dms.types.ids import PeerID

READS_AT_ONCE = 32
BYTES_AT_ONCE = 256 * 1024
_HEARD = struct.Struct("<QQ")
"""Behind the token of an answer: how many datagrams there were so far, and how many of them came."""


class Taker(Protocol):
    """A network on this node, for what arrives."""

    async def receive(self, sender: PeerID, parcels: list[Parcel]) -> None:
        """Packets of a member."""
        ...

    def tally_of(self, peer: PeerID) -> Tally:
        """Where what it sends is counted."""
        ...


class Datagrams:
    """Of one node. ``own_ips`` are where it may be reached, ``known_ips`` where a peer is known to be."""

    def __init__(
        self,
        own: PeerID,
        *,
        port: int,
        own_ips: Callable[[], Sequence[str]],
        known_ips: Callable[[PeerID], Sequence[str]],
    ) -> None:
        self.own, self.port = own, port
        self.own_ips, self.known_ips = own_ips, known_ips
        self.refused: Counter[str] = Counter()
        """Datagrams of nobody, by reason."""
        self._endpoints: dict[int, Endpoint] = {}
        self._sessions: dict[int, Incoming | Outgoing] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, until cancelled. A port that is taken is replaced by a free one."""
        self._endpoints = open_endpoints(self.port)
        self.port = next((one.port for one in self._endpoints.values()), self.port)
        try:
            async with trio.open_nursery() as nursery:
                for endpoint in self._endpoints.values():
                    nursery.start_soon(self._receive, endpoint)
                task_status.started()
        finally:
            for endpoint in self._endpoints.values():
                endpoint.close()
            self._endpoints.clear()

    @contextmanager
    def begin(self, subnet_id: str, peer: PeerID, tally: Tally) -> Iterator[Outgoing]:
        """A way to a peer, to be offered to it."""
        made = Outgoing(self, subnet_id, peer, tally)
        self._sessions[made.offer.id] = made
        try:
            yield made
        finally:
            self._sessions.pop(made.offer.id, None)

    def accept(self, subnet_id: str, peer: PeerID, offer: Offer, taker: Taker) -> tuple[Incoming, Offer]:
        """What a peer offered; what to answer it.

        :raises BadPacket: its key is none.
        """
        private = X25519PrivateKey.generate()
        answer = self.new_offer(private)
        context = context_of(subnet_id, peer, self.own, offer, answer)
        suite = suite_of(offer, answer)
        keys = agree(private, offer.key, context=context, suite=suite)
        opener, sealer = Opener(keys.forward, suite), Sealer(keys.backward, offer.id, suite)
        made = Incoming(self, answer.id, peer, opener, sealer, taker)
        self._sessions[answer.id] = made
        return made, answer

    def new_offer(self, private: X25519PrivateKey) -> Offer:
        """With an id of its own and our addresses."""
        return Offer(
            public_bytes(private),
            secrets.randbits(64),
            tuple(self.own_ips())[:MAX_ADDRESSES],
            port=self.port or 1,
            takes_pieces=True,
            takes_aes=has_aes(),
            takes_bundles=True,
        )

    def forget(self, session_id: int) -> None:
        """It is over."""
        self._sessions.pop(session_id, None)

    def seen(self, peer: PeerID, address: Address) -> None:
        """An authentic probe of a peer came from here: perhaps it can be reached there, too."""
        for session in self._sessions.values():
            if isinstance(session, Outgoing) and session.peer == peer and session.prober is not None:
                session.prober.add(address)

    def transmit(self, address: Address, bursts: Sequence[Burst]) -> tuple[int, list[Burst]]:
        """Send them; returns an ``errno`` of the last failure, or 0, and those for which there is no room now.

        What else cannot be sent is lost, as on any network.
        """
        endpoint = self._endpoint(address)
        return endpoint.send(address, bursts) if endpoint is not None else (errno.ENETUNREACH, [])

    async def wait_for_room(self, address: Address) -> None:
        """Until the kernel takes more for there."""
        endpoint = self._endpoint(address)
        if endpoint is not None:
            await trio.lowlevel.wait_writable(endpoint.sock)

    def _endpoint(self, address: Address) -> Endpoint | None:
        return self._endpoints.get(6 if ":" in address[0] else 4)

    async def _receive(self, endpoint: Endpoint) -> None:
        while True:
            await trio.lowlevel.wait_readable(endpoint.sock)
            touched: dict[int, Incoming] = {}
            left = BYTES_AT_ONCE
            for _ in range(READS_AT_ONCE):
                received = endpoint.receive()
                if received is None:
                    break
                self._take(*received, touched)
                left -= len(received[0])
                if left <= 0:
                    break
            for session in touched.values():
                await session.flush()

    def _take(self, data: memoryview, size: int, source: Address, touched: dict[int, Incoming]) -> None:
        at = 0
        while at < len(data):
            session = self._sessions.get(session_of(data[at : at + size]) or 0)
            if session is None:
                self.refused["no session"] += 1
                at += size
                continue
            opened = session.take(data, at, size, source)
            at = opened.end
            if opened.not_authentic or opened.replayed:
                session.tally.drop(Drop.NOT_AUTHENTIC, opened.not_authentic)
                session.tally.drop(Drop.REPLAYED, opened.replayed)
            if isinstance(session, Incoming) and session.has_something:
                touched[session.id] = session


class Outgoing:
    """Our way to one peer."""

    def __init__(self, datagrams: Datagrams, subnet_id: str, peer: PeerID, tally: Tally) -> None:
        self.peer = peer
        self.prober: Prober | None = None
        self.tally = tally
        self._datagrams, self._subnet_id = datagrams, subnet_id
        self._private = X25519PrivateKey.generate()
        self._agreed = trio.Event()
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._takes_pieces = self._takes_bundles = False
        self._losses = Losses()
        self._number = self._probes = 0
        self._unsent: list[Burst] = []
        self.offer = datagrams.new_offer(self._private)

    def agree(self, answer: Offer) -> None:
        """The peer accepted.

        :raises BadPacket: its key is none.
        """
        if self._sealer is not None:
            return
        context = context_of(self._subnet_id, self._datagrams.own, self.peer, self.offer, answer)
        suite = suite_of(self.offer, answer)
        keys = agree(self._private, answer.key, context=context, suite=suite)
        self._sealer, self._opener = Sealer(keys.forward, answer.id, suite), Opener(keys.backward, suite)
        self._takes_pieces, self._takes_bundles = answer.takes_pieces, answer.takes_bundles
        self.prober = Prober(_candidates(answer, self._datagrams.known_ips(self.peer)))
        self._agreed.set()

    @property
    def rtt_s(self) -> float | None:
        """The smoothed round trip of probes."""
        return self.prober.rtt_s if self.prober is not None else None

    def way(self) -> Way | None:
        """Where datagrams reach the peer now, if they do."""
        if self.prober is None or self._sealer is None or self._sealer.is_worn:
            return None
        return self.prober.way(trio.current_time())

    async def probe(self) -> None:
        """Find a way and keep it, until cancelled."""
        await self._agreed.wait()
        assert self.prober is not None
        assert self._sealer is not None
        while True:
            now_s = trio.current_time()
            for one in self.prober.due(now_s):
                self._probes += 1
                body = one.token + bytes(one.size_bytes + FRONT_BYTES - TOKEN_BYTES)
                self._datagrams.transmit(one.address, bursts_of([self._sealer.seal(PROBE, body)]))
            pause_s = self.prober.next_s(now_s) - now_s
            await trio.sleep(min(max(pause_s, 0.05), 1.0))

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for room in the kernel; what comes next has to wait behind it."""
        return bool(self._unsent)

    async def unblock(self) -> None:
        """Send what waits."""
        while self._unsent and (way := self.way()) is not None:
            await self._datagrams.wait_for_room(way.address)
            _, self._unsent = self._datagrams.transmit(way.address, self._unsent)
        self._unsent = []

    def send(self, batch: list[Parcel]) -> list[Parcel]:
        """Send what fits; returns what has to take the stream."""
        way = self.way()
        if way is None or self._sealer is None:
            return batch
        rest: list[Parcel] = []
        if self._takes_bundles and self._losses.are_rare:
            bursts = self._bundled(self._sealer, batch, way.size_bytes)
        else:
            bursts = self._each_sealed(self._sealer, batch, way.size_bytes, rest)
        failure, self._unsent = self._datagrams.transmit(way.address, bursts)
        if failure == errno.EMSGSIZE and self.prober is not None:
            self.prober.too_large(way.size_bytes)
        return rest

    def _bundled(self, sealer: Sealer, batch: list[Parcel], max_bytes: int) -> list[Burst]:
        """Sealed together, as far as one packet goes into a bundle."""
        bursts: list[Burst] = []
        size = OVERHEAD_BYTES + FRONT_BYTES + max_bytes
        for some in _bundles(batch):
            if len(some) == 1 and not some[0].segment_bytes and len(some[0].data) <= max_bytes:
                sealed = sealer.seal(PARTIAL if some[0].is_partial else PACKET, some[0].data)
                bursts.append(Burst(sealed, len(sealed)))
            else:
                bursts.append(Burst(sealer.seal_bundle(frames.encode_parcels(some), size), size))
        return bursts

    def _each_sealed(self, sealer: Sealer, batch: list[Parcel], max_bytes: int, rest: list[Parcel]) -> list[Burst]:
        """Each datagram on its own; ``rest`` gets what does not fit."""
        bursts: list[Burst] = []
        small: list[bytes] = []  # behind the bursts
        for parcel in batch:
            pieces = self._cut(parcel, max_bytes)
            if pieces is not None:
                if small:
                    bursts += bursts_of(small)
                    small.clear()
                sealed = sealer.seal_all(PIECE, *pieces)
                bursts.append(Burst(sealed, OVERHEAD_BYTES + len(pieces.fronts[0]) + len(pieces.payloads[0])))
            elif not self._seal(sealer, parcel, max_bytes, small):
                rest.append(parcel)
        return bursts + bursts_of(small)

    def _cut(self, parcel: Parcel, max_bytes: int) -> Cut | None:
        """In pieces, if it is to be."""
        if not parcel.segment_bytes or not self._takes_pieces:
            return None
        self._number += 1
        return cut(parcel, parse_header(parcel.data), self._number, max_bytes)

    def _seal(self, sealer: Sealer, parcel: Parcel, max_bytes: int, sealed: list[bytes]) -> bool:
        """Whether it could be made to fit."""
        kind = PARTIAL if parcel.is_partial else PACKET
        if len(parcel.data) <= max_bytes and not parcel.segment_bytes:
            sealed.append(sealer.seal(kind, parcel.data))
            return True
        packets = packets_of(parcel, parse_header(parcel.data), max_bytes, leaves_checksums=True)
        if max(map(len, packets)) > max_bytes:
            return False
        sealed += [sealer.seal(kind, packet) for packet in packets]
        return True

    def take(self, data: memoryview, at: int, size: int, source: Address) -> Opened:
        """Answers to probes."""
        if self._opener is None or self.prober is None:
            return Opened([], at + size)
        opened = self._opener.open_all(data, at, size)
        for plain in opened.plain:
            if plain[0] == ANSWER:
                self.prober.answered(plain[1 : 1 + TOKEN_BYTES], trio.current_time())
                if len(plain) >= 1 + TOKEN_BYTES + _HEARD.size:
                    expected, received = _HEARD.unpack_from(plain, 1 + TOKEN_BYTES)
                    self._losses.told(expected, received, probes=self._probes)
        return opened


class Incoming:
    """What one peer sends us."""

    def __init__(
        self, datagrams: Datagrams, session_id: int, peer: PeerID, opener: Opener, sealer: Sealer, taker: Taker
    ) -> None:
        self.id, self.tally = session_id, taker.tally_of(peer)
        self._datagrams, self._peer, self._opener, self._sealer, self._taker = datagrams, peer, opener, sealer, taker
        self._waiting: list[Parcel] = []
        self._pieces: list[bytes] = []

    def close(self) -> None:
        """Take no more."""
        self._datagrams.forget(self.id)

    def take(self, data: memoryview, at: int, size: int, source: Address) -> Opened:
        """The datagrams of this session from there on."""
        if is_slice(data, at):
            opened = self._opener.open_slices(data, at, size)
            self._unpack(opened.plain)
            return opened
        opened = self._opener.open_all(data, at, size)
        for plain in opened.plain:
            kind = plain[0]
            if kind == PIECE:
                self._pieces.append(plain)
            elif kind in (PACKET, PARTIAL):
                self._join()
                self._waiting.append(Parcel(plain[1:], is_partial=kind == PARTIAL))
            elif kind == PROBE and len(plain) > TOKEN_BYTES:
                heard = _HEARD.pack(self._opener.expected, self._opener.received)
                answer = self._sealer.seal(ANSWER, plain[1 : 1 + TOKEN_BYTES] + heard)
                self._datagrams.transmit(source, bursts_of([answer]))
                self._datagrams.seen(self._peer, source)
                self.tally.drop(Drop.INCOMPLETE, self._opener.give_up())
        return opened

    def _unpack(self, bundles: list[bytes]) -> None:
        for body in bundles:
            self._join()
            try:
                self._waiting += frames.decode_parcels(body)
            except BadPacket:
                self.tally.drop(Drop.MALFORMED)

    @property
    def has_something(self) -> bool:
        """Whether there is something to flush."""
        return bool(self._pieces or self._waiting)

    async def flush(self) -> None:
        """Hand over what came."""
        self._join()
        waiting, self._waiting = self._waiting, []
        await self._taker.receive(self._peer, waiting)

    def _join(self) -> None:
        """The pieces that came in a row."""
        if not self._pieces:
            return
        pieces, self._pieces = self._pieces, []
        for parcel in join(pieces, at=1):  # behind their kind
            if parcel is None:
                self.tally.drop(Drop.MALFORMED)
            else:
                self._waiting.append(parcel)


def _bundles(batch: list[Parcel]) -> Iterator[list[Parcel]]:
    """In their order, several together as long as they are no more than the largest packet."""
    some: list[Parcel] = []
    size = 0
    for parcel in batch:
        more = frames.HEAD_BYTES + len(parcel.data)
        if some and size + more > MAX_PACKET_BYTES:
            yield some
            some, size = [], 0
        some.append(parcel)
        size += more
    if some:
        yield some


def ips_of(addresses: Iterable[str]) -> tuple[str, ...]:
    """The IP addresses that begin multiaddresses, those of relays left out."""
    found: dict[str, None] = {}
    for address in addresses:
        parts = address.split("/")
        if len(parts) > 2 and parts[1] in ("ip4", "ip6") and "p2p-circuit" not in parts:
            found[parts[2]] = None
    return tuple(found)


def _candidates(answer: Offer, known_ips: Sequence[str]) -> tuple[Address, ...]:
    """Where a peer may be. What it says of loopback and the like holds only where it is known to be there."""
    found: dict[Address, None] = {}
    for ip in (*known_ips, *answer.addresses):
        try:
            parsed = ip_address(ip)
        except ValueError:
            continue
        local = parsed.is_loopback or parsed.is_link_local
        if parsed.is_multicast or parsed.is_unspecified or (local and ip not in known_ips):
            continue
        found[str(parsed), answer.port] = None
    return tuple(found)
