"""The real network: TCP, Noise and yamux through the libp2p library, behind :class:`dms.network.protocol.Network`."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio
from libp2p.abc import INetConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError

from dms.network.addresses import AddressBook, IPAddress, split_address
from dms.network.byte_streams import ByteStreams
from dms.network.directory import DHTMode, Directory
from dms.network.errors import InvalidAddress, MessageTooLarge, NotRunning, PeerUnreachable
from dms.network.framing import HEADER_BYTES, MAX_GOSSIP_BYTES, is_large
from dms.network.handlers import Handlers
from dms.network.libp2p.connections.dialler import Dialler, is_nearby
from dms.network.libp2p.connections.gate import Gate
from dms.network.libp2p.connections.interfaces import watch_addresses
from dms.network.libp2p.connections.limits import Limits
from dms.network.libp2p.connections.listeners import Listeners
from dms.network.libp2p.connections.listing import describe
from dms.network.libp2p.connections.names import id_of, name_of
from dms.network.libp2p.connections.ports import Port, open_ports
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.discovery import peer_exchange
from dms.network.libp2p.discovery.finding import Finding, FindingOptions
from dms.network.libp2p.gossip.pubsub import Gossip
from dms.network.libp2p.latency import exchange as coordinates
from dms.network.libp2p.latency.exchange import PeerLatency
from dms.network.libp2p.messages.keeper import Keeper
from dms.network.libp2p.messages.messenger import Messenger
from dms.network.libp2p.messages.streams import Inbox, Outbox
from dms.network.libp2p.reach.options import ReachOptions
from dms.network.libp2p.reach.service import ReachService
from dms.network.libp2p.services import persist
from dms.network.libp2p.streams.opening import Lingering
from dms.network.libp2p.streams.service import Libp2pByteStreams
from dms.network.names import NetworkNames, check_network_id
from dms.network.protocol import (
    MAX_LARGE_MESSAGE_BYTES,
    MAX_MESSAGE_BYTES,
    MessageHandler,
    PeerChange,
    PeerInfo,
    PeerListener,
    PeerScore,
    SizeLimit,
    TopicValidator,
    Verdict,
)
from dms.network.reachability import Reachability
from dms.network.subscriptions import Subscriptions
from dms.network.swarm_key import SwarmKey
from dms.types.errors import BadInput
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

CLOSE_S = 2.0
"""How long saying goodbye may take."""


@dataclass(frozen=True, slots=True)
class _Live:
    """What exists only while the network runs."""

    host: GuardedHost
    swarm: GuardedSwarm
    gossip: Gossip
    outbox: Outbox
    messenger: Messenger


class Libp2pNetwork:
    """A node of the network.

    :param seed: the 32 bytes of the node's Ed25519 key; the peer id follows from it.
    :param listen: multiaddresses; those that are not plain TCP are skipped with a line in the log. Port 0 takes any.
    :param bootstrap: addresses of peers to stay connected to; ``/dnsaddr/…`` is resolved.
    :param app_score: what the node thinks of a peer, for gossip: 5, 1 or 0 (``spec/orchestration.md`` 1.1).
    :param keep_streams: whether nodes of this program use one stream for all their messages; off, each message gets its own,
        as between nodes of the original.
    :param reach: what the owner decides about reachability.
    :param explore: whether to ask connected peers for more; off, only those dialled or dialling are met.
    :param gate: who is let in; change it with :meth:`regate`.
    :param swarm_key: of a private network; who lacks it cannot connect, and we to nobody else.
    :param network_id: of a network of one's own, whose nodes never look for those of others; empty: the public one.
    :param dht_mode: whether to serve the hash table.
    :param mdns: whether to meet peers on the local network.
    :param peers_file: where peers that were good are kept, to find the network again after a restart.
    :raises BadInput: the seed has another length, or the network id may be none.
    """

    def __init__(
        self,
        *,
        seed: bytes,
        listen: Sequence[str],
        bootstrap: Sequence[str] = (),
        app_score: Callable[[PeerID], float] = lambda _: 0.0,
        explore: bool = True,
        keep_streams: bool = True,
        swarm_key: SwarmKey | None = None,
        gate: Gate | None = None,
        network_id: str = "",
        dht_mode: DHTMode = DHTMode.AUTO,
        peers_file: Path | None = None,
        mdns: bool = False,
        limits: Limits | None = None,
        reach: ReachOptions | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if len(seed) != 32:
            raise BadInput("the seed of a key has 32 bytes")
        self._keys = create_new_key_pair(seed)
        self._id = ID.from_pubkey(self._keys.public_key)
        self._peer_id = name_of(self._id)
        self._listen = tuple(listen)
        self._bootstrap = tuple(bootstrap)
        self._app_score = app_score
        self._keep_streams = keep_streams
        self._swarm_key = swarm_key
        self._gate = gate or Gate()
        self._limits = limits or Limits()
        self._rng = rng or random.SystemRandom()
        self._counters: Counter[str] = Counter()
        self._listeners = Listeners(self._counters)
        self._book = AddressBook(self._peer_id)
        self._dialler = Dialler(self._peer_id, self._book, peer_exchange.resolve)
        self._handlers = Handlers(self._counters, total=self._limits.handlers, per_peer=self._limits.handlers_per_peer)
        self._inbox = Inbox(self._handlers, self._counters, read_s=self._limits.read_s)
        self._streams = Libp2pByteStreams(self._peer_id, self._counters)
        self._topics = Subscriptions(self._counters)
        self._reach = ReachService(reach or ReachOptions(), self._counters, self._rng)
        self.listen(self._reach.heard)
        self._live: _Live | None = None
        self._names = NetworkNames(check_network_id(network_id))
        self._finding = Finding(
            self._peer_id,
            seed,
            self._book,
            FindingOptions(self._names, dht_mode, explore, peers_file, mdns, self._gate),
            counters=self._counters,
            rng=self._rng,
        )
        self.latency = PeerLatency(
            self._peer_id,
            self._rng,
            self._counters,
            connected=lambda: [info.peer for info in self.peers()],
            speaking=self._coordinate_speakers,
            ask=self._ask_coordinate,
        )
        """How long the way to other peers takes."""

    @property
    def peer_id(self) -> PeerID:
        """Our own id."""
        return self._peer_id

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        """Where others can dial us; unspecified addresses are expanded to those of the interfaces."""
        if self._live is None:
            return ()
        return tuple(f"{address}/p2p/{self._peer_id}" for address in self._live.host.get_transport_addrs())

    def regate(self, *, deny: Sequence[PeerID], allow: Sequence[PeerID]) -> None:
        """Let in others from now on; connections of those who are refused now are closed."""
        self._gate.change(deny=deny, allow=allow)
        if self._live is not None:
            self._live.swarm.shedding.expel()

    @property
    def streams(self) -> ByteStreams:
        """Streams of bytes to and from peers."""
        return self._streams

    @property
    def reachability(self) -> Reachability:
        """How others reach us."""
        return self._reach

    @property
    def directory(self) -> Directory:
        """Advertisements, and where peers are."""
        return self._finding.directory

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Listen, and connect to the bootstrap peers in the background; everything ends with the context.

        :raises AddressInUse: a listen address is taken.
        """
        ports = open_ports(self._listen)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            ready, stop = trio.Event(), trio.Event()
            nursery.start_soon(self._serve, ports, ready, stop)
            await ready.wait()
            try:
                yield
            except Exception as error:  # noqa: BLE001  raised again below, without the groups of our nurseries around it
                failure = error
            finally:
                stop.set()
        if failure is not None:
            raise failure

    async def _serve(self, ports: Sequence[Port], ready: trio.Event, stop: trio.Event) -> None:
        """Everything that runs while the network does."""
        swarm = GuardedSwarm(
            self._keys,
            limits=self._limits,
            addresses_of=self._dialler.known_addresses,
            counters=self._counters,
            swarm_key=self._swarm_key,
            gate=self._gate,
        )
        swarm.shedding.protected = frozenset(self._bootstrap_peers())
        swarm.listeners = {str(port.bound): port for port in ports}
        host = GuardedHost(swarm, counters=self._counters)
        gossip = Gossip(
            host,
            judge=self._judge,
            deliver=self._deliver,
            app_score=self._app_score,
            rng=self._rng,
            counters=self._counters,
        )
        swarm.shedding.score_of = gossip.score_of
        lingering = Lingering()
        outbox = Outbox(host, self._counters, lingering)
        host.on_connected = self._on_connected
        host.on_disconnected = self._on_disconnected
        host.on_identified = self._on_identified
        host.set_stream_handler(TProtocol(coordinates.PROTOCOL), self.latency.answer)
        swarm.on_rtt = lambda peer, rtt_s: self.latency.measured(name_of(peer), rtt_s)
        self._reach.open(host)

        async with host.serving(), gossip.running(), trio.open_nursery() as nursery:
            keeper = Keeper(host, self._handlers, self._counters, nursery)
            messenger = Messenger(outbox, keeper if self._keep_streams else None)
            self._live = _Live(host, swarm, gossip, outbox, messenger)
            try:
                self._handlers.open(nursery)
                self._inbox.open(host)
                self._streams.open_host(host, partial(self._dialler.reach, swarm), lingering)
                self._finding.open_host(host, self._dialler, outbox, lingering)
                await self._topics.open(
                    nursery,
                    join=lambda topic: gossip.join(self._names.topic(topic)),
                    leave=lambda topic: gossip.leave(self._names.topic(topic)),
                )
                for port in ports:
                    nursery.start_soon(port.serve, swarm.accept, nursery)
                keep = partial(persist, on_failure=self._count_failure)
                nursery.start_soon(keep, lingering.sweep)
                nursery.start_soon(keep, self.latency.exchange)
                if self._keep_streams:
                    keeper.speak()
                    nursery.start_soon(keep, keeper.sweep)
                nursery.start_soon(keep, self._reach.run)
                nursery.start_soon(keep, watch_addresses, partial(self._on_moved, nursery))
                nursery.start_soon(keep, self._finding.run, self._bootstrap, lambda: self._reach.report().status)
                ready.set()
                await stop.wait()
            finally:
                self._live = None
                self._reach.close()
                self._inbox.close()
                self._streams.close_host()
                self._finding.close_host()
                self._handlers.close()
                self._topics.close()
                with trio.CancelScope(shield=True):
                    for port in ports:
                        await port.close()
                    await swarm.close_connections(CLOSE_S)
                nursery.cancel_scope.cancel()

    # point to point --------------------------------------------------------------------------------------------------

    def handle(self, protocol: str, handler: MessageHandler, *, max_bytes: SizeLimit | None = None) -> None:
        """Receive the messages of one protocol id, of a mebibyte, or of as many bytes as ``max_bytes`` says.

        :raises AlreadyHandled: somebody does already.
        """
        self._inbox.add(protocol, handler, max_bytes)

    def unhandle(self, protocol: str) -> None:
        """Stop receiving; unknown protocols are ignored."""
        self._inbox.remove(protocol)

    async def send(self, peer: PeerID, protocol: str, data: bytes, *, timeout_s: float = 30.0) -> None:
        """Send one message; to our own id it is delivered locally, in a new task once there is room.

        :raises MessageTooLarge: longer than the peer takes, see :meth:`message_limit_bytes`.
        :raises PeerUnreachable: no connection, no address, no such protocol there, or no progress in time.
        """
        is_large(data)
        live = self._running()
        if peer == self._peer_id:
            await self._handlers.deliver_own(peer, protocol, data, timeout_s)
            return
        deadline_s = trio.current_time() + timeout_s
        if not live.messenger.has_stream(peer):
            await self._dialler.reach(live.swarm, peer, timeout_s)
        if self._reach.is_used_up(peer, len(data)):
            await self.disconnect(peer)
            await self._dialler.reach(live.swarm, peer, deadline_s - trio.current_time())
        await live.messenger.send(peer, protocol, data, max(0.0, deadline_s - trio.current_time()))

    def message_limit_bytes(self, peer: PeerID) -> int:
        """How long a message to this peer may be, as far as is known of it now."""
        if peer == self._peer_id or (self._live is not None and self._live.messenger.takes_large(peer)):
            return MAX_LARGE_MESSAGE_BYTES
        return MAX_MESSAGE_BYTES - HEADER_BYTES

    # broadcast -------------------------------------------------------------------------------------------------------

    async def subscribe(self, topic: str, handler: MessageHandler, validator: TopicValidator | None = None) -> int:
        """Receive the messages of a topic, our own included; returns a number for :meth:`unsubscribe`."""
        return await self._topics.subscribe(topic, handler, validator)

    async def unsubscribe(self, subscription: int) -> None:
        """Stop receiving; with the last subscription the topic is left."""
        await self._topics.unsubscribe(subscription)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody who subscribed to the topic; paced so that bursts are not lost.

        :raises MessageTooLarge: longer than :data:`dms.network.framing.MAX_GOSSIP_BYTES`.
        """
        if len(data) > MAX_GOSSIP_BYTES:
            raise MessageTooLarge(f"message too large: {len(data)} bytes, a broadcast has at most {MAX_GOSSIP_BYTES}")
        await self._running().gossip.publish(self._names.topic(topic), data)
        self._counters["gossip out"] += 1

    # peers -----------------------------------------------------------------------------------------------------------

    async def connect(self, address: str, *, timeout_s: float = 10.0) -> PeerID:
        """Dial a multiaddress that ends in ``/p2p/<id>``, or a bare peer id whose address is known or can be asked for.

        :raises InvalidAddress: it cannot be parsed.
        :raises PeerUnreachable: no answer before the deadline, or somebody else answered.
        """
        return await self._dialler.connect(self._running().swarm, address, timeout_s)

    async def disconnect(self, peer: PeerID) -> None:
        """Close all connections to a peer; a peer that is not connected is ignored."""
        live = self._running()
        async with trio.open_nursery() as nursery:
            for conn in live.swarm.get_connections(id_of(peer)):
                nursery.start_soon(conn.close)

    async def ping(self, peer: PeerID, *, timeout_s: float = 1.0) -> float:
        """One round trip in seconds, measured by ourselves.

        :raises PeerUnreachable: no answer in time. Own id: ``can't ping self``.
        """
        if peer == self._peer_id:
            raise PeerUnreachable("can't ping self")
        live = self._running()
        deadline_s = trio.current_time() + timeout_s
        await self._dialler.reach(live.swarm, peer, timeout_s)
        return await live.outbox.ping(id_of(peer), max(0.0, deadline_s - trio.current_time()))

    def peers(self) -> tuple[PeerInfo, ...]:
        """Live connections only."""
        if self._live is None:
            return ()
        host, swarm = self._live.host, self._live.swarm
        return tuple(
            describe(conns, self._book, host.protocols_of(peer))
            for peer, conns in swarm.get_connections_map().items()
            if conns
        )

    def known_peers(self) -> dict[PeerID, tuple[str, ...]]:
        """Everybody of whom an address is known, connected or not."""
        return self._book.all()

    def scores(self) -> dict[PeerID, PeerScore]:
        """What gossip thinks of the connected peers."""
        if self._live is None:
            return {}
        here = self._names.topic_here
        return {
            peer: replace(score, topics={here(topic) or topic: value for topic, value in score.topics.items()})
            for peer, score in self._live.gossip.scores().items()
        }

    def is_connected(self, peer: PeerID) -> bool:
        """Whether a live connection exists."""
        return self._live is not None and bool(self._live.swarm.get_connections(id_of(peer)))

    def listen(self, listener: PeerListener) -> Callable[[], None]:
        """Be told of changes; returns the function that ends it."""
        return self._listeners.add(listener)

    def counters(self) -> dict[str, int]:
        """How often things happened since the start, by name."""
        return dict(self._counters)

    # events ----------------------------------------------------------------------------------------------------------

    def _on_connected(self, conn: INetConn) -> None:
        peer = conn.muxed_conn.peer_id
        if self._live is None or len(self._live.swarm.get_connections(peer)) > 1:
            return
        self._listeners.tell(PeerChange.CONNECTED, name_of(peer))

    def _on_disconnected(self, conn: INetConn) -> None:
        peer = conn.muxed_conn.peer_id
        if self._live is None or self._live.swarm.get_connections(peer):
            return
        self.latency.gone(name_of(peer))
        self._finding.disconnected()
        self._listeners.tell(PeerChange.DISCONNECTED, name_of(peer))

    def _on_identified(self, peer: ID) -> None:
        if self._live is None or not self._live.swarm.get_connections(peer):
            return
        name = name_of(peer)
        try:
            listens_at = self._live.swarm.peerstore.addrs(peer)
        except PeerStoreError:
            listens_at = []
        self._book.replace(name, listens_at, nearby=is_nearby(self._live.swarm, name))
        self._listeners.tell(PeerChange.IDENTIFIED, name)
        self._finding.identified(name, self._live.host.protocols_of(peer))
        self.latency.met(name)

    def _on_moved(self, nursery: trio.Nursery, gone: Collection[IPAddress]) -> None:
        """This machine has other addresses than before: connections may be dead, and nobody knows where we are."""
        if self._live is None:
            return
        log.info("the addresses of this machine changed: now %s", ", ".join(self.listen_addresses))
        self._counters["addresses changed"] += 1
        self._live.swarm.shedding.probe(gone)
        self._finding.hurry()
        self._reach.moved()
        nursery.start_soon(self._live.host.announce)

    def _bootstrap_peers(self) -> Iterator[ID]:
        for address in self._bootstrap:
            with suppress(InvalidAddress):
                yield id_of(split_address(address)[1])

    # the rest --------------------------------------------------------------------------------------------------------

    async def _ask_coordinate(self, peer: PeerID, question: bytes, limit_bytes: int, timeout_s: float) -> bytes:
        outbox = self._running().outbox
        return await outbox.ask(
            id_of(peer), coordinates.PROTOCOL, question, limit_bytes=limit_bytes, timeout_s=timeout_s
        )

    def _coordinate_speakers(self) -> list[PeerID]:
        """The connected peers that know the protocol by which coordinates are told."""
        return [info.peer for info in self.peers() if coordinates.PROTOCOL in info.protocols and not info.is_relayed]

    def _judge(self, relay: PeerID, topic: str, data: bytes) -> Verdict:
        here = self._names.topic_here(topic)
        return self._topics.judge(relay, here, data) if here is not None else Verdict.IGNORE

    def _deliver(self, topic: str, publisher: PeerID, data: bytes) -> None:
        here = self._names.topic_here(topic)
        if here is not None:
            self._topics.deliver(here, publisher, data)

    def _count_failure(self) -> None:
        self._counters["tasks failed"] += 1

    def _running(self) -> _Live:
        if self._live is None:
            raise NotRunning
        return self._live
