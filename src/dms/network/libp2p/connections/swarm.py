"""The library's connections, with limits that are given back, deadlines, and a dial that ends when it succeeded.

Replaces what is broken in the library's swarm: inbound slots and tasks that are never freed, dials without a deadline,
peers refused for a minute after one failure, a quarter of a second waited out on every connect.
"""

from __future__ import annotations

import ipaddress
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from weakref import WeakValueDictionary

import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream, IRawConnection
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from dms.network.addresses import IPAddress, host_and_port, ip_of
from dms.network.libp2p.connections.attention import AttentiveTCP, note_local_ip
from dms.network.libp2p.connections.gate import Gate
from dms.network.libp2p.connections.limits import CONNECTION_BYTES, Limits, Origins, Share
from dms.network.libp2p.connections.muxer import KeepaliveMuxers, KeepaliveYamux
from dms.network.libp2p.connections.names import name_of
from dms.network.libp2p.connections.peerstore import BoundedPeerStore
from dms.network.libp2p.connections.private import FencedUpgrader, OtherNetwork
from dms.network.libp2p.connections.sharing import SharingTCP, SourceOf
from dms.network.libp2p.connections.shedding import Shedding
from dms.network.swarm_key import SwarmKey

log = logging.getLogger(__name__)

DIAL_STAGGER_S = 0.25
"""The head start of each address before the next of the same peer is tried."""
MAX_DIALS = 32
MAX_DIALS_PER_PEER = 8
"""Addresses of one peer that one dial tries."""


AddressesOf = Callable[[ID], Sequence[Multiaddr]]


class GuardedSwarm(Swarm):
    """TCP, Noise and yamux; nothing else is offered or accepted."""

    def __init__(
        self,
        keys: KeyPair,
        *,
        limits: Limits,
        addresses_of: AddressesOf,
        counters: Counter[str],
        swarm_key: SwarmKey | None = None,
        gate: Gate | None = None,
    ) -> None:
        peer = ID.from_pubkey(keys.public_key)
        peerstore = BoundedPeerStore(lambda other: other == peer or other in self.connections)
        peerstore.add_key_pair(peer, keys)
        noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
        upgrader = FencedUpgrader(noise, swarm_key)

        self.gate = gate or Gate()
        self.shedding = Shedding(self, limits, counters)
        self._shares: WeakValueDictionary[ID, Share] = WeakValueDictionary()

        def make_muxer(conn: object, remote: ID) -> KeepaliveYamux:
            return KeepaliveYamux(
                conn,  # type: ignore[arg-type]  # an ISecureConn
                remote,
                keepalive_s=limits.keepalive_s,
                share=self._shares.setdefault(remote, Share(limits)),
                memory=self.shedding.memory,
                on_frozen=lambda: counters.update(("peers frozen",)),
                on_rtt=lambda rtt_s: self.on_rtt(remote, rtt_s),
            )

        upgrader.muxer_multistream = KeepaliveMuxers(math.ceil(limits.handshake_s), make_muxer, self._admit)
        super().__init__(
            peer,
            peerstore,
            upgrader,
            [SharingTCP(lambda address: self.source_of(address))],
            connection_config=ConnectionConfig(
                max_connections=limits.connections,
                min_connections=0,
                max_connections_per_peer=limits.connections_per_peer,
                low_watermark=min(limits.low_water, limits.high_water, limits.connections),
                high_watermark=min(limits.high_water, limits.connections),
                inbound_upgrade_timeout=limits.handshake_s,
                outbound_upgrade_timeout=limits.handshake_s,
                inbound_stream_protocol_negotiation_timeout=limits.negotiation_s,
                outbound_stream_protocol_negotiation_timeout=limits.negotiation_s,
            ),
        )
        self.auto_connector = _NoAutoConnector()  # type: ignore[assignment]  # whom to dial is decided elsewhere
        self.limits = limits
        self.counters = counters
        self.on_rtt: Callable[[ID, float], None] = lambda _peer, _rtt_s: None
        """Told of every round trip that was measured on a connection."""
        self.source_of: SourceOf = lambda _address: None
        """Which dials come from a port that we listen on."""
        self._addresses_of = addresses_of
        self._inbound = 0
        self._outbound = 0
        self._handshakes: Counter[str] = Counter()
        self._origins = Origins(limits)

    # inbound ---------------------------------------------------------------------------------------------------------

    @property
    def inbound_slots_taken(self) -> int:
        """Inbound connections, those still shaking hands included."""
        return self._inbound

    async def accept(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        """Serve one inbound connection until it ends; its slot is free again when this returns."""
        host = (read_write_closer.get_remote_address() or ("?", 0))[0]
        ip = _ip(host)
        if refused := self._refuses_inbound(ip, host):
            self.counters[f"connections refused: {refused}"] += 1
            await read_write_closer.close()
            return
        if isinstance(read_write_closer, TrioTCPStream):
            note_local_ip(read_write_closer.stream.socket)
        self._inbound += 1
        self._origins.change(ip, 1)
        try:
            muxed = await self._shake_hands(read_write_closer, maddr, host)
            if muxed is not None:
                await muxed.event_closed.wait()
        finally:
            self._inbound -= 1
            self._origins.change(ip, -1)

    def _refuses_inbound(self, ip: IPAddress | None, host: str) -> str:
        """Why a connection that came in is closed before a word is said; empty: it is not."""
        if self.gate.refuses_ip(ip):
            return "private address"
        if self._inbound >= self.limits.inbound_connections or self._is_full:
            return "too many"
        if self._handshakes[host] >= self.limits.handshakes_per_ip:
            return "too many handshakes"
        if not self._origins.has_room(ip):
            return "too many from there"
        if not self.shedding.memory.has_room(CONNECTION_BYTES):
            return "no memory"
        return ""

    @property
    def _is_full(self) -> bool:
        return self._inbound + self._outbound >= self.limits.connections

    def _admit(self, peer: ID) -> None:
        """Look at somebody who has just proved who it is.

        :raises SwarmException: it is not let in.
        """
        if reason := self.gate.refuses(name_of(peer)):
            self.counters["connections refused: peer"] += 1
            raise SwarmException(f"peer {peer} is refused: {reason}")

    async def _shake_hands(self, raw: ReadWriteCloser, maddr: Multiaddr, ip: str) -> KeepaliveYamux | None:
        self._handshakes[ip] += 1
        try:
            with trio.move_on_after(self.limits.handshake_s):
                muxed = await self.upgrade_inbound_raw_conn(RawConnection(raw, initiator=False), maddr)
                return muxed if isinstance(muxed, KeepaliveYamux) else None
        except Exception as error:  # noqa: BLE001  whatever garbage somebody sends to the port
            log.debug("handshake with %s failed: %s", ip, innermost(error))
            if isinstance(cause(error), OtherNetwork):
                self.counters["connections refused: other network key"] += 1
        finally:
            self._handshakes[ip] -= 1
            if not self._handshakes[ip]:
                del self._handshakes[ip]
        self.counters["handshakes failed"] += 1
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await raw.close()
        return None

    # outbound --------------------------------------------------------------------------------------------------------

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """A connection to the peer: the one there is, or a new one, within ``limits.dial_s``.

        :raises SwarmException: no address, or none that answered in time.
        """
        while True:
            alive = [conn for conn in self.get_connections(peer_id) if not conn.is_closed]
            if alive:
                return alive
            ongoing = self._ongoing_dials.get(peer_id)
            if ongoing is None:
                break
            await ongoing.wait()
        done = self._ongoing_dials[peer_id] = trio.Event()
        try:
            return [await self._dial_any(peer_id, self._addresses_of(peer_id)[:MAX_DIALS_PER_PEER])]
        finally:
            done.set()
            del self._ongoing_dials[peer_id]

    async def dial_at(self, peer_id: ID, addresses: Sequence[Multiaddr]) -> INetConn:
        """A new connection at one of these addresses.

        :raises SwarmException: none answered in time, or somebody else did.
        """
        return await self._dial_any(peer_id, addresses)

    async def knock(self, peer_id: ID, address: Multiaddr) -> None:
        """Connect, let the peer prove who it is, and leave: answers whether it can be reached there, and nothing more.

        :raises BaseLibp2pError: it cannot, or somebody else answered.
        """
        await self._permitted(peer_id, [address])
        raw = await AttentiveTCP().dial(address)
        try:
            await self.upgrader.upgrade_security(raw, True, peer_id)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await raw.close()

    async def _dial_any(self, peer: ID, known: Sequence[Multiaddr]) -> INetConn:
        if not known:
            raise SwarmException(f"no known address of peer {peer}")
        addresses = await self._permitted(peer, known)
        won: list[INetConn] = []
        problems: list[str] = []

        async def attempt(address: Multiaddr, failed: trio.Event) -> None:
            try:
                async with self._global_dial_limiter:
                    won.append(await self._dial_one(_ending_at(address, peer), peer))
                race.cancel()
            except Exception as error:  # noqa: BLE001  the next address may do
                problems.append(f"{address}: {innermost(error)}")
                failed.set()

        with trio.move_on_after(self.limits.dial_s) as deadline, trio.CancelScope() as race:
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    failed = trio.Event()
                    nursery.start_soon(attempt, address, failed)
                    with trio.move_on_after(DIAL_STAGGER_S):
                        await failed.wait()
        if won:
            return won[0]
        if deadline.cancelled_caught:
            problems.append(f"no answer within {self.limits.dial_s:g} s")
        raise SwarmException("; ".join(problems))

    async def _dial_one(self, address: Multiaddr, peer: ID) -> INetConn:
        return await self._counted(partial(self._dial_addr_single_attempt, address, peer))

    async def adopt(self, raw: IRawConnection, peer: ID, address: Multiaddr, *, is_initiator: bool) -> INetConn:
        """Make a connection of bytes that we opened one of ours; who speaks first was agreed upon.

        :raises SwarmException: it is somebody else, or there is no place for it.
        """
        await self._permitted(peer, [address])

        async def upgrade() -> INetConn:
            raw.is_initiator = is_initiator
            if is_initiator:
                return await self.upgrade_outbound_raw_conn(raw, peer)
            muxed = await self.upgrade_inbound_raw_conn(raw, address)
            found = [conn for conn in self.get_connections(peer) if conn.muxed_conn is muxed]
            if found:
                return found[0]
            await muxed.close()
            raise SwarmException(f"somebody else than {peer} answered at {address}")

        conn = None
        try:
            conn = await self._counted(upgrade)
            return conn
        finally:
            if conn is None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                    await raw.close()

    async def _counted(self, dial: Callable[[], Awaitable[INetConn]]) -> INetConn:
        """Dial, and hold a place for as long as the connection lasts."""
        if self._outbound >= self.limits.outbound_connections or self._is_full:
            raise SwarmException("this node has all the connections that it may have (p2p.fd)")
        self._outbound += 1
        conn = None
        try:
            conn = await dial()
            return conn
        finally:
            if conn is None:
                self._outbound -= 1
            else:
                self.manager.run_task(self._give_back_outbound, conn)

    async def _give_back_outbound(self, conn: INetConn) -> None:
        """Wait until the connection is over; its slot is free again then."""
        try:
            if isinstance(conn.muxed_conn, KeepaliveYamux):
                await conn.muxed_conn.event_closed.wait()
        finally:
            self._outbound -= 1

    async def _permitted(self, peer: ID, addresses: Sequence[Multiaddr]) -> list[Multiaddr]:
        """Those of the addresses that may be dialled.

        :raises SwarmException: the peer is refused, or none may.
        """
        if reason := self.gate.refuses(name_of(peer)):
            raise SwarmException(f"peer {peer} is refused: {reason}")
        permitted = self.gate.passing(addresses)
        if self.gate.server_mode:
            permitted = [address for address in permitted if not await self._leads_to_private(address)]
        if not permitted:
            raise SwarmException(f"peer {peer} has private addresses only, and p2p.server_mode is on")
        return permitted

    async def _leads_to_private(self, address: Multiaddr) -> bool:
        if ip_of(address) is not None:
            return False
        with trio.move_on_after(self.limits.dial_s):
            try:
                found = await trio.socket.getaddrinfo(host_and_port(address)[0], None)
            except OSError:
                return False  # the dial will say so
            return any(self.gate.refuses_ip(_ip(str(where[4][0]))) for where in found)
        return True

    # life ------------------------------------------------------------------------------------------------------------

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        """Take a connection in; one that comes up while we close is closed, too.

        :raises SwarmException: too many, or closing.
        """
        if not self._closing:
            conn = await super().add_conn(muxed_conn, direction)
            if not self._closing:
                return conn
        await muxed_conn.close()
        raise SwarmException("closing")

    async def close_connections(self, timeout_s: float) -> None:
        """Close all connections at once, for good; the library does it one by one, a tenth of a second each."""
        self._closing = True
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                for conn in self.get_connections():
                    nursery.start_soon(self._close_connection_async, conn)

    async def notify_opened_stream(self, stream: INetStream) -> None:
        """Nobody asks; the library would start a task per listener and stream."""

    async def notify_closed_stream(self, stream: INetStream) -> None:
        """The same at its end."""
        stream._resource_released = True  # type: ignore[attr-defined]  # noqa: SLF001  the library's own mark

    def _schedule_auto_connect(self) -> None:
        """Never: whom to dial is decided elsewhere."""

    def _trim_connections(self, peer_id: ID) -> None:
        """A peer has too many: the library's own choice looks at the wall clock, and spares all young ones."""
        self.shedding.trim_peer(peer_id)

    def _schedule_prune(self) -> None:
        """A connection was added."""
        self.shedding.trim()

    @property
    def open_streams(self) -> tuple[int, int]:
        """How many streams are open: opened by others, and by us."""
        theirs = ours = 0
        for conn in self.get_connections():
            if isinstance(conn.muxed_conn, KeepaliveYamux):
                parity = 1 if conn.muxed_conn.is_initiator else 0
                mine = sum(stream_id % 2 == parity for stream_id in conn.muxed_conn.streams)
                ours, theirs = ours + mine, theirs + len(conn.muxed_conn.streams) - mine
        return theirs, ours


class _NoAutoConnector:
    """Takes the place of the library's, which dials whomever it ever heard of and remembers all of them."""

    _is_connecting = False

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def run_background_task(self, nursery: trio.Nursery) -> None:
        """Nothing to run."""

    async def maybe_connect(self) -> None:
        """Never."""

    def record_disconnect(self, peer: ID) -> None:
        """Not needed."""


def _ending_at(address: Multiaddr, peer: ID) -> Multiaddr:
    """A relayed address must name the peer: the library would take the relay for it."""
    return Multiaddr(f"{address}/p2p/{peer}") if str(address).endswith("/p2p-circuit") else address


def innermost(error: BaseException) -> str:
    """What really happened: the library wraps ``Connection refused`` three times."""
    error = cause(error)
    return str(error) or type(error).__name__


def cause(error: BaseException) -> BaseException:
    """The first of a chain of errors."""
    while error.__cause__ is not None or isinstance(error, BaseExceptionGroup):
        error = error.__cause__ or error.exceptions[0]  # type: ignore[attr-defined]  # a group, having no cause
    return error


def _ip(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
