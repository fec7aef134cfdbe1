"""The library's connections, with limits that are given back, deadlines, and a dial that ends when it succeeded.

Replaces what is broken in the library's swarm: inbound slots and tasks that are never freed, dials without a deadline,
peers refused for a minute after one failure, a quarter of a second waited out on every connect.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from dms.network.libp2p.connections.attention import AttentiveTCP
from dms.network.libp2p.connections.muxer import KeepaliveMuxers, KeepaliveYamux
from dms.network.libp2p.connections.private import FencedUpgrader, OtherNetwork
from dms.network.swarm_key import SwarmKey

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S = 10.0
DIAL_STAGGER_S = 0.25
"""The head start of each address before the next of the same peer is tried."""
MAX_DIALS = 32
MAX_DIALS_PER_PEER = 8
"""Addresses of one peer that one dial tries."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much others may take of us (``spec/network.md`` 2.2)."""

    inbound_connections: int = 512
    connections: int = 1024
    handshakes_per_ip: int = 32
    """Connections of one address that have not yet said who they are."""
    handshake_s: float = 10.0
    streams_per_peer: int = 256
    handlers_per_peer: int = 128
    handlers: int = 4096
    read_s: float = 30.0
    """How long one message may take to arrive."""
    keepalive_s: float = 5.0
    """Pings go out that often; a peer that leaves two in a row unanswered is frozen."""


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
    ) -> None:
        peer = ID.from_pubkey(keys.public_key)
        peerstore = PeerStore()
        peerstore.add_key_pair(peer, keys)
        noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
        upgrader = FencedUpgrader(noise, swarm_key)

        def make_muxer(conn: object, remote: ID) -> KeepaliveYamux:
            return KeepaliveYamux(
                conn,  # type: ignore[arg-type]  # an ISecureConn
                remote,
                keepalive_s=limits.keepalive_s,
                on_frozen=lambda: counters.update(("peers frozen",)),
                on_rtt=lambda rtt_s: self.on_rtt(remote, rtt_s),
            )

        upgrader.muxer_multistream = KeepaliveMuxers(math.ceil(limits.handshake_s), make_muxer)
        super().__init__(
            peer,
            peerstore,
            upgrader,
            [AttentiveTCP()],
            connection_config=ConnectionConfig(
                max_connections=limits.connections,
                min_connections=0,
                low_watermark=min(100, limits.connections),
                high_watermark=min(400, limits.connections),
                inbound_upgrade_timeout=limits.handshake_s,
                outbound_upgrade_timeout=limits.handshake_s,
            ),
        )
        self.auto_connector = _NoAutoConnector()  # type: ignore[assignment]  # whom to dial is decided elsewhere
        self.limits = limits
        self.counters = counters
        self.on_rtt: Callable[[ID, float], None] = lambda _peer, _rtt_s: None
        """Told of every round trip that was measured on a connection."""
        self._addresses_of = addresses_of
        self._inbound = 0
        self._handshakes: Counter[str] = Counter()

    # inbound ---------------------------------------------------------------------------------------------------------

    @property
    def inbound_slots_taken(self) -> int:
        """Inbound connections, those still shaking hands included."""
        return self._inbound

    async def accept(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        """Serve one inbound connection until it ends; its slot is free again when this returns."""
        ip = (read_write_closer.get_remote_address() or ("?", 0))[0]
        if self._inbound >= self.limits.inbound_connections:
            self.counters["connections refused: too many"] += 1
            await read_write_closer.close()
            return
        if self._handshakes[ip] >= self.limits.handshakes_per_ip:
            self.counters["connections refused: too many handshakes"] += 1
            await read_write_closer.close()
            return
        self._inbound += 1
        try:
            muxed = await self._shake_hands(read_write_closer, maddr, ip)
            if muxed is not None:
                await muxed.event_closed.wait()
        finally:
            self._inbound -= 1

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
        """A connection to the peer: the one there is, or a new one, within :data:`DIAL_TIMEOUT_S`.

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

    async def _dial_any(self, peer: ID, addresses: Sequence[Multiaddr]) -> INetConn:
        if not addresses:
            raise SwarmException(f"no known address of peer {peer}")
        won: list[INetConn] = []
        problems: list[str] = []

        async def attempt(address: Multiaddr, failed: trio.Event) -> None:
            try:
                async with self._global_dial_limiter:
                    won.append(await self._dial_addr_single_attempt(address, peer))
                race.cancel()
            except Exception as error:  # noqa: BLE001  the next address may do
                problems.append(f"{address}: {innermost(error)}")
                failed.set()

        with trio.move_on_after(DIAL_TIMEOUT_S) as deadline, trio.CancelScope() as race:
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    failed = trio.Event()
                    nursery.start_soon(attempt, address, failed)
                    with trio.move_on_after(DIAL_STAGGER_S):
                        await failed.wait()
        if won:
            return won[0]
        if deadline.cancelled_caught:
            problems.append(f"no answer within {DIAL_TIMEOUT_S:g} s")
        raise SwarmException("; ".join(problems))

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


def innermost(error: BaseException) -> str:
    """What really happened: the library wraps ``Connection refused`` three times."""
    error = cause(error)
    return str(error) or type(error).__name__


def cause(error: BaseException) -> BaseException:
    """The first of a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
