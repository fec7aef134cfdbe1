"""Broadcast over streams: carries what :mod:`dms.network.gossip` decides (``spec/network.md`` 4).

One stream to each peer and one from it, with the protocol ids and the wire format of go and js. Frames that cannot be
parsed end their stream and nothing else; a peer's packets are taken one by one, so a flood slows its sender instead of
filling our memory.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
from libp2p.abc import INetConn, INetStream, INetwork
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction

from dms.network.addresses import ip_of
from dms.network.errors import BadFrame
from dms.network.gossip import Mesh, MeshParameters, Packet, ScoreParameters, Scores
from dms.network.libp2p.connections.limits import Bucket
from dms.network.libp2p.connections.notifee import ConnectionNotifee
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.gossip.neighbours import DONT_WANT_PROTOCOL, PROTOCOLS, QUEUE_MESSAGES, Neighbour
from dms.network.libp2p.gossip.offers import Introductions
from dms.network.libp2p.gossip.signing import Signer, is_genuine
from dms.network.libp2p.gossip.wire import FrameReader, decode, peer_name
from dms.network.libp2p.resetting import reset
from dms.network.protocol import PeerScore, Verdict
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

PACE_WAIT_S = 0.5
"""How long one publish waits for slow peers before they may lose the message."""
PACE_POLL_S = 0.005

Judge = Callable[[PeerID, str, bytes], Verdict]
Deliver = Callable[[str, PeerID, bytes], None]


class Gossip:
    """The broadcasts of one host.

    :param judge: what the subscribers of a topic think of a message that a peer relayed.
    :param deliver: takes a message for this node, our own included: topic, publisher, data.
    """

    def __init__(
        self,
        host: GuardedHost,
        *,
        judge: Judge,
        deliver: Deliver,
        app_score: Callable[[PeerID], float],
        rng: random.Random,
        counters: Counter[str],
        mesh: MeshParameters | None = None,
        scores: ScoreParameters | None = None,
    ) -> None:
        self._host = host
        self._deliver = deliver
        self._counters = counters
        own = host.get_id()
        self._own = peer_name(own.to_bytes())
        self._signer = Signer(own.to_bytes(), host.get_private_key(), time.time_ns())
        self._scores = Scores(scores or ScoreParameters(), app_score, trio.current_time)
        self._mesh = Mesh(
            self._own,
            parameters=mesh or MeshParameters(),
            scores=self._scores,
            is_genuine=is_genuine,
            judge=lambda relay, message: judge(relay, message.topic, message.data),
            clock=trio.current_time,
            rng=rng,
            counters=counters,
        )
        self._introductions = Introductions(host)
        self._neighbours: dict[PeerID, Neighbour] = {}
        self._inbound: dict[PeerID, INetStream] = {}
        self._shares: dict[PeerID, Bucket] = {}
        self._nursery: trio.Nursery | None = None
        for protocol in PROTOCOLS:
            host.set_stream_handler(protocol, self._serve)
        host.swarm.register_notifee(_Notifee(self))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take part for the length of the context."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._beat)
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    @property
    def meshes(self) -> dict[str, frozenset[PeerID]]:
        """Our mesh of each topic that we joined."""
        return {topic: frozenset(members) for topic, members in self._mesh.members.items()}

    async def join(self, topic: str) -> None:
        """Take part in a topic."""
        self._mesh.join(topic)
        self._send_out()
        await trio.lowlevel.checkpoint()

    async def leave(self, topic: str) -> None:
        """Take part no more."""
        self._mesh.leave(topic)
        self._send_out()
        await trio.lowlevel.checkpoint()

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody who listens to a topic, ourselves included, once the peers took what was sent before."""
        deadline_s = trio.current_time() + PACE_WAIT_S
        while self._is_congested() and trio.current_time() < deadline_s:  # noqa: ASYNC110  the queues tell nobody
            await trio.sleep(PACE_POLL_S)
        message = self._signer.make(topic, data)
        self._mesh.publish(message)
        self._deliver(topic, self._own, data)
        self._send_out()
        await trio.lowlevel.checkpoint()

    def scores(self) -> dict[PeerID, PeerScore]:
        """What is thought of the connected peers."""
        return self._scores.all()

    def score_of(self, peer: ID) -> float:
        """What is thought of a peer; 0 for strangers."""
        return self._scores.of(peer_name(peer.to_bytes()))

    # peers -----------------------------------------------------------------------------------------------------------

    def connected(self, conn: INetConn) -> None:
        """A connection is there; of several to one peer the first counts."""
        peer = conn.muxed_conn.peer_id
        name = peer_name(peer.to_bytes())
        if self._nursery is None or name in self._neighbours:
            return
        self._mesh.add_peer(name, is_outbound=_is_outbound(conn), ip=_ip_of(conn))
        neighbour = self._neighbours[name] = Neighbour(
            self._host,
            peer,
            hello=lambda: Packet(subscriptions=[(topic, True) for topic in self._mesh.members]),
            on_open=lambda protocol: self._on_open(name, protocol),
            record_of=self._introductions.record_of,
            counters=self._counters,
        )
        self._nursery.start_soon(self._guarded, neighbour.run)

    def disconnected(self, peer: ID) -> None:
        """The last connection is gone."""
        name = peer_name(peer.to_bytes())
        neighbour = self._neighbours.pop(name, None)
        self._shares.pop(name, None)
        if neighbour is not None:
            neighbour.scope.cancel()
        self._mesh.remove_peer(name)
        self._send_out()

    def _on_open(self, peer: PeerID, protocol: TProtocol) -> None:
        if protocol == DONT_WANT_PROTOCOL:
            self._mesh.speaks_dont_want(peer)

    # in --------------------------------------------------------------------------------------------------------------

    async def _serve(self, stream: INetStream) -> None:
        """Take the packets of one peer until its stream ends or one cannot be parsed; a newer stream replaces this one."""
        peer = peer_name(stream.muxed_conn.peer_id.to_bytes())
        before, self._inbound[peer] = self._inbound.get(peer), stream
        if before is not None:
            await reset(before)
        reader = FrameReader(stream.read)
        try:
            while self._nursery is not None:
                packet = decode(await reader.next())
                self._take(peer, packet)
                await self._pause(peer, 1 + len(packet.messages))
        except BadFrame as error:
            self._counters["gossip frames malformed"] += 1
            log.debug("malformed gossip frame of %s: %s", peer, error)
            await reset(stream)
        except Exception as error:  # noqa: BLE001  whatever ends a stream in the library, and its end
            log.debug("the gossip stream of %s ended: %r", peer, error)
            await reset(stream)
        finally:
            if self._inbound.get(peer) is stream:
                del self._inbound[peer]

    async def _pause(self, peer: PeerID, taken: int) -> None:
        """Read no faster than the peer may send; nobody else waits for that."""
        limits = self._host.swarm.limits
        share = self._shares.get(peer)
        if share is None:
            share = self._shares[peer] = Bucket(limits.gossip_per_s, limits.gossip_burst)
        wait_s = share.charge(taken, trio.current_time())
        if wait_s:
            self._counters["gossip slowed down"] += 1
        await trio.sleep(wait_s)

    def _take(self, peer: PeerID, packet: Packet) -> None:
        for message in self._mesh.receive(peer, packet):
            self._deliver(message.topic, message.origin, message.data)
        offers = self._mesh.take_offers()
        if offers and self._nursery is not None:
            self._nursery.start_soon(self._guarded, partial(self._introductions.follow, offers))
        self._send_out()

    # out -------------------------------------------------------------------------------------------------------------

    def _send_out(self) -> None:
        for peer, packet in self._mesh.drain():
            neighbour = self._neighbours.get(peer)
            if neighbour is not None:
                neighbour.push(packet)

    def _is_congested(self) -> bool:
        return any(neighbour.waiting >= QUEUE_MESSAGES // 2 for neighbour in self._neighbours.values())

    async def _beat(self) -> None:
        """One heartbeat a second; a failing one is not the last."""
        while True:
            await trio.sleep(self._mesh.parameters.heartbeat_s)
            await self._guarded(self._beat_once)

    async def _beat_once(self) -> None:
        await trio.lowlevel.checkpoint()
        self._mesh.beat()
        self._send_out()

    async def _guarded(self, task: Callable[[], Awaitable[None]]) -> None:
        """Whatever fails here must not end the host."""
        try:
            await task()
        except Exception:
            self._counters["tasks failed"] += 1
            log.exception("a task of gossip failed")


class _Notifee(ConnectionNotifee):
    """What the swarm tells."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip

    async def connected(self, _network: INetwork, conn: INetConn) -> None:
        self._gossip.connected(conn)

    async def disconnected(self, _network: INetwork, conn: INetConn) -> None:
        peer = conn.muxed_conn.peer_id
        if not self._gossip._host.swarm.get_connections(peer):  # noqa: SLF001  two halves of one thing
            self._gossip.disconnected(peer)


def _is_outbound(conn: INetConn) -> bool:
    return getattr(conn, "direction", None) == Direction.OUTBOUND


def _ip_of(conn: INetConn) -> str:
    """Where the peer is; empty behind a relay, whose address it would share with everybody there."""
    for address in conn.get_transport_addresses():
        if "/p2p-circuit" in str(address):
            return ""
        ip = ip_of(address)
        if ip is not None:
            return str(ip)
    return ""
