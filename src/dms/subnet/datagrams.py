"""Packets as UDP datagrams between two nodes that reach each other so, each sealed for its network and peer.

One pair of sockets for all networks of a node. Whoever sends begins: it offers a key on its stream, gets the other's and
where to send, probes these addresses, and sends there once a probe was answered. Everything runs from one port, so the
way that an address translator opened for one direction serves the other; where an authentic probe came from is tried as
an address of its sender.

Many datagrams go to the kernel at once (``UDP_SEGMENT``) and come from it at once (``UDP_GRO``), where it knows these.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from itertools import groupby
from typing import Protocol

import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dms.subnet.errors import BadPacket
from dms.subnet.packets import parse_header
from dms.subnet.probing import TOKEN_BYTES, Address, Prober, Way
from dms.subnet.sealing import (
    ANSWER,
    MAX_ADDRESSES,
    PACKET,
    PARTIAL,
    PROBE,
    Offer,
    Opener,
    Replayed,
    Sealer,
    agree,
    context_of,
    public_bytes,
    session_of,
)
from dms.subnet.segments import Parcel, packets_of
from dms.subnet.tally import Drop, Tally
from dms.types.ids import PeerID

SOCKET_BYTES = 8 << 20
READS_AT_ONCE = 32
MAX_DATAGRAM_BYTES = 65535

_UDP_SEGMENT, _UDP_GRO = 103, 104
_MAX_SEGMENTS, _MAX_BURST_BYTES = 64, 65000
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _DO_NOT_FRAGMENT = 10, 23, 3
_SIZE = struct.Struct("=H")


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
        self._sockets: dict[int, trio.socket.SocketType] = {}
        self._sessions: dict[int, Incoming | Outgoing] = {}
        self._can_segment = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, until cancelled. A port that is taken is replaced by a free one."""
        try:
            self._bind()
            async with trio.open_nursery() as nursery:
                for sock in self._sockets.values():
                    nursery.start_soon(self._receive, sock)
                task_status.started()
        finally:
            for sock in self._sockets.values():
                sock.close()
            self._sockets.clear()

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
        keys = agree(private, offer.key, context=context)
        made = Incoming(self, answer.id, peer, Opener(keys.forward), Sealer(keys.backward, offer.id), taker)
        self._sessions[answer.id] = made
        return made, answer

    def new_offer(self, private: X25519PrivateKey) -> Offer:
        """With an id of its own and our addresses."""
        return Offer(
            public_bytes(private), secrets.randbits(64), tuple(self.own_ips())[:MAX_ADDRESSES], port=self.port or 1
        )

    def forget(self, session_id: int) -> None:
        """It is over."""
        self._sessions.pop(session_id, None)

    def seen(self, peer: PeerID, address: Address) -> None:
        """An authentic probe of a peer came from here: perhaps it can be reached there, too."""
        for session in self._sessions.values():
            if isinstance(session, Outgoing) and session.peer == peer and session.prober is not None:
                session.prober.add(address)

    async def transmit(self, address: Address, datagrams: list[bytes]) -> int:
        """Send them; returns an ``errno`` of the last failure, or 0. What cannot be sent is lost, as on any network."""
        sock = self._sockets.get(6 if ":" in address[0] else 4)
        if sock is None:
            return errno.ENETUNREACH
        failure = 0
        for burst in _bursts(datagrams) if self._can_segment else ([each] for each in datagrams):
            try:
                await _send(sock, address, burst)
            except OSError as error:
                failure = error.errno or errno.EIO
                if failure in (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP) and len(burst) > 1:
                    self._can_segment = False
                    failure = await self.transmit(address, burst)
        return failure

    async def _receive(self, sock: trio.socket.SocketType) -> None:
        raw = sock.fileno()
        listening = socket.socket(fileno=socket.dup(raw))
        listening.setblocking(False)
        with listening:
            while True:
                await trio.lowlevel.wait_readable(listening)
                touched: dict[int, Incoming] = {}
                for _ in range(READS_AT_ONCE):
                    try:
                        data, extra, _, source = listening.recvmsg(MAX_DATAGRAM_BYTES, 64)
                    except BlockingIOError:
                        break
                    except OSError:
                        continue  # an ICMP error about what we sent
                    for datagram in _split(data, extra):
                        session = await self._take(datagram, (source[0], source[1]))
                        if session is not None:
                            touched[session.id] = session
                for session in touched.values():
                    await session.flush()

    async def _take(self, datagram: bytes, source: Address) -> Incoming | None:
        session = self._sessions.get(session_of(datagram) or 0)
        if session is None:
            self.refused["no session"] += 1
            return None
        try:
            return await session.take(datagram, source)
        except BadPacket:
            session.tally.drop(Drop.NOT_AUTHENTIC)
        except Replayed:
            session.tally.drop(Drop.REPLAYED)
        return None

    def _bind(self) -> None:
        for version, family, any_ip in ((4, socket.AF_INET, "0.0.0.0"), (6, socket.AF_INET6, "::")):
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM)
            except OSError:
                continue  # no such family here
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((any_ip, self.port))
            except OSError:
                try:
                    sock.bind((any_ip, 0))
                except OSError:
                    sock.close()
                    continue
            _tune(sock, version)
            self._sockets[version] = trio.socket.from_stdlib_socket(sock)
            self.port = self.port or sock.getsockname()[1]
        if 4 in self._sockets:
            self.port = self._sockets[4].getsockname()[1]


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
        self.offer = datagrams.new_offer(self._private)

    def agree(self, answer: Offer) -> None:
        """The peer accepted.

        :raises BadPacket: its key is none.
        """
        if self._sealer is not None:
            return
        context = context_of(self._subnet_id, self._datagrams.own, self.peer, self.offer, answer)
        keys = agree(self._private, answer.key, context=context)
        self._sealer, self._opener = Sealer(keys.forward, answer.id), Opener(keys.backward)
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
                body = one.token + bytes(one.size_bytes - TOKEN_BYTES)
                await self._datagrams.transmit(one.address, [self._sealer.seal(PROBE, body)])
            pause_s = self.prober.next_s(now_s) - now_s
            await trio.sleep(min(max(pause_s, 0.05), 1.0))

    async def send(self, batch: list[Parcel]) -> list[Parcel]:
        """Send what fits; returns what has to take the stream."""
        way = self.way()
        if way is None or self._sealer is None:
            return batch
        rest: list[Parcel] = []
        sealed: list[bytes] = []
        for parcel in batch:
            packets = packets_of(parcel, parse_header(parcel.data), way.size_bytes, leaves_checksums=True)
            if max(map(len, packets)) > way.size_bytes:
                rest.append(parcel)
            else:
                kind = PARTIAL if parcel.is_partial else PACKET
                sealed += [self._sealer.seal(kind, packet) for packet in packets]
        failure = await self._datagrams.transmit(way.address, sealed)
        if failure == errno.EMSGSIZE and self.prober is not None:
            self.prober.too_large(way.size_bytes)
        return rest

    async def take(self, datagram: bytes, source: Address) -> None:
        """The answer to a probe.

        :raises BadPacket: the peer did not seal it.
        :raises Replayed: it came before.
        """
        if self._opener is None or self.prober is None:
            return
        kind, body = self._opener.open(datagram)
        if kind == ANSWER:
            self.prober.answered(body[:TOKEN_BYTES], trio.current_time())


class Incoming:
    """What one peer sends us."""

    def __init__(
        self, datagrams: Datagrams, session_id: int, peer: PeerID, opener: Opener, sealer: Sealer, taker: Taker
    ) -> None:
        self.id, self.tally = session_id, taker.tally_of(peer)
        self._datagrams, self._peer, self._opener, self._sealer, self._taker = datagrams, peer, opener, sealer, taker
        self._waiting: list[Parcel] = []

    def close(self) -> None:
        """Take no more."""
        self._datagrams.forget(self.id)

    async def take(self, datagram: bytes, source: Address) -> Incoming | None:
        """One datagram; itself, if there is something to flush.

        :raises BadPacket: the peer did not seal it.
        :raises Replayed: it came before.
        """
        kind, body = self._opener.open(datagram)
        if kind in (PACKET, PARTIAL):
            self._waiting.append(Parcel(body, is_partial=kind == PARTIAL))
            return self
        if kind == PROBE and len(body) >= TOKEN_BYTES:
            await self._datagrams.transmit(source, [self._sealer.seal(ANSWER, body[:TOKEN_BYTES])])
            self._datagrams.seen(self._peer, source)
        return None

    async def flush(self) -> None:
        """Hand over what came."""
        waiting, self._waiting = self._waiting, []
        await self._taker.receive(self._peer, waiting)


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


def _bursts(datagrams: list[bytes]) -> Iterator[list[bytes]]:
    """Runs of one size, the last of each perhaps shorter, as many as the kernel takes at once."""
    for size, run in groupby(datagrams, key=len):
        same = list(run)
        step = max(1, min(_MAX_SEGMENTS, _MAX_BURST_BYTES // size))
        for at in range(0, len(same), step):
            yield same[at : at + step]


async def _send(sock: trio.socket.SocketType, address: Address, burst: list[bytes]) -> None:
    if len(burst) == 1:
        await sock.sendto(burst[0], address)
        return
    extra = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(len(burst[0])))]
    await sock.sendmsg(burst, extra, 0, address)


def _split(data: bytes, extra: list[tuple[int, int, bytes]]) -> Iterator[bytes]:
    """The datagrams of one read."""
    size = next((int.from_bytes(v[:2], "little") for level, kind, v in extra if (level, kind) == (17, _UDP_GRO)), 0)
    if not size or size >= len(data):
        yield data
        return
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _tune(sock: socket.socket, version: int) -> None:
    """Large buffers, datagrams many at a time, none fragmented; what the kernel does not know is left."""
    level, option = (socket.IPPROTO_IP, _IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
    wanted = [(level, option, _DO_NOT_FRAGMENT), (socket.IPPROTO_UDP, _UDP_GRO, 1)]
    for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        wanted += [(socket.SOL_SOCKET, plain, SOCKET_BYTES), (socket.SOL_SOCKET, forced, SOCKET_BYTES)]
    for where, what, value in wanted:
        with suppress(OSError):
            sock.setsockopt(where, what, value)
