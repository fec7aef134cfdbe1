"""The library's host with every stream handler guarded, its own included.

A handler that raises must end its stream, never the host; and no peer may hold more streams than its share.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio
from libp2p.abc import INetConn, INetStream, INetwork
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.host.defaults import get_default_protocols
from libp2p.host.ping import ID as PING
from libp2p.identity.identify_push.identify_push import ID_PUSH, push_identify_to_peer
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStoreError
from multiaddr import Multiaddr

from dms.network.libp2p.connections.notifee import ConnectionNotifee
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.negotiation import EagerClient
from dms.network.libp2p.resetting import reset
from dms.network.libp2p.services import running

log = logging.getLogger(__name__)

NEGOTIATION_S = 10
PUSHES_AT_ONCE = 10
PING_BYTES = 32
PING_IDLE_S = 60.0

OnIdentified = Callable[[ID], None]


class GuardedHost(BasicHost):
    """Negotiates protocols on streams and identifies peers."""

    swarm: GuardedSwarm

    def __init__(self, swarm: GuardedSwarm, *, counters: Counter[str]) -> None:
        self.swarm = swarm
        self.counters = counters
        self.on_connected: Callable[[INetConn], None] = lambda _: None
        self.on_disconnected: Callable[[INetConn], None] = lambda _: None
        self.on_identified: OnIdentified = lambda _: None
        self.announced: Callable[[list[Multiaddr]], list[Multiaddr]] = list
        """From the addresses that we listen on to those that others are told."""
        self._nursery: trio.Nursery | None = None
        self._streams: Counter[ID] = Counter()
        super().__init__(
            swarm,
            negotiate_timeout=swarm.limits.negotiation_s,
            default_protocols=OrderedDict(),
            disable_identify_address_discovery=True,
            addrs_factory=swarm.gate.passing,
        )
        self.multiselect_client = EagerClient()
        swarm.notifees = [one for one in swarm.notifees if type(one).__name__ != "_IdentifyNotifee"]
        swarm.register_notifee(_Notifee(self))
        for protocol, handler in get_default_protocols(self).items():
            self.set_stream_handler(protocol, handler)
        self.set_stream_handler(PING, self._answer_pings)
        self.set_stream_handler(ID_PUSH, self._take_pushed_identity(self.multiselect.handlers[ID_PUSH]))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run for the length of the context; whoever listens is not our concern."""
        async with running(self.swarm, lambda: self.counters.update(("tasks failed",))):
            await self.swarm.event_background_nursery_created.wait()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    yield
                finally:
                    self._nursery = None
                    nursery.cancel_scope.cancel()

    async def connect(self, peer_info: PeerInfo) -> None:
        """Dial, for the parts of the library that do so; nothing is remembered that the peer did not say itself."""
        if self.swarm.get_connections(peer_info.peer_id):
            return
        await self.swarm.dial_at(peer_info.peer_id, peer_info.addrs[:8])

    async def new_stream(self, peer_id: ID, protocol_ids: Sequence[TProtocol]) -> INetStream:
        """Open a stream on a connection that exists.

        The library would dial anew. Its own tasks (identify, gossip) would so bring back peers just disconnected.

        :raises SwarmException: not connected.
        :raises StreamFailure: the peer speaks none of the protocols.
        """
        if not self.swarm.get_connections(peer_id):
            raise SwarmException(f"not connected to {peer_id}")
        theirs, ours = self.swarm.open_streams
        limits = self.swarm.limits
        if ours >= limits.outbound_streams or ours + theirs >= limits.streams:
            self.counters["streams not opened: too many"] += 1
            raise SwarmException("this node has all the streams open that it may have")
        return await super().new_stream(peer_id, protocol_ids)

    def get_addrs(self) -> list[Multiaddr]:
        """What others are told, each ending in our id; the library would cut a relayed address at the relay."""
        us = Multiaddr(f"/p2p/{self.get_id()}")
        told = self.announced(self.get_transport_addrs())
        return [address.encapsulate(us) for address in self.swarm.gate.passing(told)]

    def is_identified(self, peer: ID) -> bool:
        """Whether the peer told us its protocols since it connected."""
        return peer in self._identified_peers

    def protocols_of(self, peer: ID) -> tuple[str, ...]:
        """What the peer said that it speaks; nothing before it did."""
        if not self.is_identified(peer):
            return ()
        try:
            said: list[object] = list(self.swarm.peerstore.get_protocols(peer))
            return tuple(one for one in said if isinstance(one, str))  # what is no UTF-8 comes as bytes
        except PeerStoreError:
            return ()  # it named none

    async def announce(self) -> None:
        """Tell all connected peers again who and where we are (identify push); those who do not want to hear it may."""
        at_once = trio.CapacityLimiter(PUSHES_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for peer in list(self.swarm.connections):
                nursery.start_soon(self._push_identity, peer, at_once)

    async def _push_identity(self, peer: ID, at_once: trio.CapacityLimiter) -> None:
        with trio.move_on_after(2 * NEGOTIATION_S):
            await push_identify_to_peer(self, peer, limit=at_once)

    # streams ---------------------------------------------------------------------------------------------------------

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        """Serve one inbound stream; never raises, and always ends the stream."""
        peer = net_stream.muxed_conn.peer_id
        limits = self.swarm.limits
        theirs, ours = self.swarm.open_streams
        is_full = theirs > limits.inbound_streams or ours + theirs > limits.streams  # this one is counted already
        if self._streams[peer] >= limits.streams_per_peer or is_full:
            self.counters["streams refused"] += 1
            await reset(net_stream)
            return
        self._streams[peer] += 1
        try:
            await super()._swarm_stream_handler(net_stream)
        except StreamError:  # the other side reset it or is gone, which is no defect of a handler
            self.counters["streams broken off"] += 1
            await reset(net_stream)
        except Exception as error:  # noqa: BLE001  a handler must not end the host
            self.counters["stream handlers failed"] += 1
            log.debug("handler of %s for %s failed: %r", net_stream.get_protocol(), peer, error)
            await reset(net_stream)
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]

    async def _answer_pings(self, stream: INetStream) -> None:
        """Echo pings until the other side ends; the library's own keeps two streams per peer and forgets none."""
        pending = bytearray()
        while True:
            with trio.move_on_after(PING_IDLE_S) as scope:
                piece = await stream.read(PING_BYTES)
            if scope.cancelled_caught or not piece:
                break
            pending += piece
            while len(pending) >= PING_BYTES:
                await stream.write(bytes(pending[:PING_BYTES]))
                del pending[:PING_BYTES]
        await stream.close()

    def _take_pushed_identity(self, handler: StreamHandlerFn | None) -> StreamHandlerFn:
        async def take(stream: INetStream) -> None:
            if handler is not None:
                await handler(stream)
            self._tell_identified(stream.muxed_conn.peer_id)

        return take

    # identify --------------------------------------------------------------------------------------------------------

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        """Ask who it is, in our own nursery: the library uses system tasks, whose failure ends the process."""
        if self._nursery is None or peer_id in self._identify_inflight or peer_id in self._identified_peers:
            return
        if peer_id == self.get_id() or not self._should_identify_peer(peer_id):
            return
        self._identify_inflight.add(peer_id)
        self._nursery.start_soon(self._identify, peer_id, reason)

    async def _identify(self, peer: ID, reason: str) -> None:
        try:
            with trio.move_on_after(2 * NEGOTIATION_S):
                await self._identify_peer(peer, reason=reason)
        except Exception as error:  # noqa: BLE001  whatever the peer answered
            log.debug("identify of %s failed: %r", peer, error)
        finally:
            self._identify_inflight.discard(peer)
        if peer in self._identified_peers:
            self._tell_identified(peer)
        else:
            self.counters["identifications failed"] += 1

    def _tell_identified(self, peer: ID) -> None:
        try:
            self.on_identified(peer)
        except Exception:  # what a peer says of itself must not end the host
            self.counters["tasks failed"] += 1
            log.exception("what %s says of itself could not be taken up", peer)


class _Notifee(ConnectionNotifee):
    """What the swarm tells."""

    def __init__(self, host: GuardedHost) -> None:
        self._host = host

    async def connected(self, _network: INetwork, conn: INetConn) -> None:
        self._host.on_connected(conn)
        await self._host._on_notifee_connected(conn)  # noqa: SLF001

    async def disconnected(self, _network: INetwork, conn: INetConn) -> None:
        if not self._host.swarm.get_connections(conn.muxed_conn.peer_id):
            self._host._on_notifee_disconnected(conn)  # noqa: SLF001
        self._host.on_disconnected(conn)
