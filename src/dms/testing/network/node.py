"""One node of a virtual network."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from dms.network.errors import AddressInUse, MessageTooLarge, NotRunning, PeerUnreachable
from dms.network.framing import HEADER_BYTES, is_large, refuse_large
from dms.network.handlers import Handlers
from dms.network.protocol import (
    MAX_LARGE_MESSAGE_BYTES,
    MAX_MESSAGE_BYTES,
    MessageHandler,
    PeerInfo,
    PeerListener,
    PeerScore,
    SizeLimit,
    TopicValidator,
)
from dms.testing.network.agenda import Agenda
from dms.testing.network.broadcast import Broadcast
from dms.testing.network.byte_streams import MemoryByteStreams
from dms.testing.network.connections import Connections
from dms.testing.network.directory import MemoryDirectory
from dms.testing.network.latency import VirtualLatency
from dms.testing.network.links import Path
from dms.testing.network.meshed import MeshBroadcast
from dms.testing.network.reachability import MemoryReachability
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork

_JITTER_S = 1e-6
"""Makes the instant of every delivery its own; without it trio would shuffle those that fall together."""


OVERTAKEN_S = 0.1
"""How long a message is held up that those after it overtake."""


class MemoryNetwork:
    """One node of a :class:`.VirtualNetwork`; implements :class:`dms.network.protocol.Network`."""

    def __init__(
        self,
        network: VirtualNetwork,
        peer: PeerID,
        listen: tuple[str, ...],
        bootstrap: tuple[str, ...],
        *,
        nat: str = "",
        is_relay: bool = False,
    ) -> None:
        self.is_crashed = False
        self.is_original = False
        """Whether it takes no message beyond a mebibyte, as the original does."""
        self.nat = nat
        """Behind which NAT it is; empty where everybody can dial it."""
        self.is_relay = is_relay
        self.app_score: Callable[[PeerID], float] = lambda _: 0.0
        """What the node thinks of a peer; matters where broadcasts go through meshes."""
        self._network = network
        self._peer_id = peer
        # One generator for each node: what one draws does not depend on when others do.
        self._rng = random.Random(f"{network.seed}/{peer}")  # noqa: S311  a simulation, not a secret
        self._addresses = tuple(f"{address}/p2p/{peer}" for address in listen)
        self._counters: Counter[str] = Counter()
        self._handlers = Handlers(self._counters)
        self._rtt_s: dict[PeerID, float] = {}
        self._agenda = Agenda()
        self._nursery: trio.Nursery | None = None
        self.connections = Connections(network, self, bootstrap)
        self.broadcast: Broadcast | MeshBroadcast = (
            MeshBroadcast(network, self, self._counters)
            if network.has_meshes
            else Broadcast(network, self, self._counters)
        )
        self.streams = MemoryByteStreams(network, self)
        self.latency = VirtualLatency(network, self)
        self.reachability = MemoryReachability(network, self)
        self.directory = MemoryDirectory(network, self)

    @property
    def peer_id(self) -> PeerID:
        """Our own id."""
        return self._peer_id

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        """Where others can connect; empty until running."""
        return self._addresses if self.is_running else ()

    @property
    def is_running(self) -> bool:
        """Whether inside :meth:`run`, crashed or not."""
        return self._nursery is not None

    @property
    def is_up(self) -> bool:
        """Whether it runs and did not crash."""
        return self.is_running and not self.is_crashed

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Listen and connect; everything ends with the context.

        :raises AddressInUse: another running node listens there.
        """
        taken = {address.partition("/p2p/")[0] for node in self._network.running() for address in node.listen_addresses}
        for address in self._addresses:
            if address.partition("/p2p/")[0] in taken:
                raise AddressInUse(f"another program listens on {address.partition('/p2p/')[0]}")
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.latency.begin()
            self._handlers.open(nursery)
            self.streams.nursery = nursery
            await self.broadcast.open(nursery)
            nursery.start_soon(self._agenda.run)
            self.connections.reconnect()
            try:
                yield
            except Exception as error:  # noqa: BLE001  raised again below, without our nursery's group around it
                failure = error
            finally:
                self.lose_all()
                self._handlers.close()
                self.broadcast.close()
                self.streams.nursery = None
                self._nursery = None
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    # point to point --------------------------------------------------------------------------------------------------

    def handle(self, protocol: str, handler: MessageHandler, *, max_bytes: SizeLimit | None = None) -> None:
        """Receive the messages of one protocol id, of a mebibyte, or of as many bytes as ``max_bytes`` says.

        :raises AlreadyHandled: somebody does already.
        """
        self._handlers.add(protocol, handler, max_bytes)

    def unhandle(self, protocol: str) -> None:
        """Stop receiving."""
        self._handlers.remove(protocol)

    async def send(self, peer: PeerID, protocol: str, data: bytes, *, timeout_s: float = 30.0) -> None:
        """Send one message; to our own id it is delivered locally, in a new task once there is room.

        :raises MessageTooLarge: longer than the peer takes, see :meth:`message_limit_bytes`.
        :raises PeerUnreachable: no way to the peer in time, or no such protocol there.
        """
        large = is_large(data)
        self.require_running()
        if peer == self._peer_id:
            await self._handlers.deliver_own(peer, protocol, data, timeout_s)
            return
        try:
            with trio.fail_after(timeout_s):
                link = await self.connections.reach(peer)
                await self.connections.cross(link)
                target = self._network.find(peer)
                if target is None or protocol not in target.protocols():
                    raise PeerUnreachable(f"peer {peer} opens no stream for {protocol}")
                if large and self.message_limit_bytes(peer) < len(data):
                    raise refuse_large(peer, data)
                if large and not target._handlers.takes(protocol, self._peer_id, len(data)):  # noqa: SLF001  both sides of one wire
                    raise MessageTooLarge(f"message too large: peer {peer} takes none of {len(data)} bytes")
                await self.connections.cross(link)
        except trio.TooSlowError:
            raise PeerUnreachable(f"peer {peer} takes no message within {timeout_s:g} s") from None
        self._counters["messages out"] += 1
        if self.loses(link):
            self._counters["messages lost"] += 1
            return
        for _ in range(self._copies(link)):
            delay_s = link.crossing_s(len(data), self._peer_id) + self.jitter_s(link) + self._hold_up_s(link)
            if not self.is_connected(peer):  # a relay passes on no more
                self._counters["messages lost"] += 1
                return
            target.after(delay_s, partial(target.arrive, self._peer_id, protocol, data))

    def message_limit_bytes(self, peer: PeerID) -> int:
        """How long a message to this peer may be, as far as is known of it now."""
        other = self._network.find(peer)
        if peer == self._peer_id or (
            not self.is_original and self.is_connected(peer) and other is not None and not other.is_original
        ):
            return MAX_LARGE_MESSAGE_BYTES
        return MAX_MESSAGE_BYTES - HEADER_BYTES

    # broadcast -------------------------------------------------------------------------------------------------------

    async def subscribe(self, topic: str, handler: MessageHandler, validator: TopicValidator | None = None) -> int:
        """Receive the messages of a topic, our own included."""
        await trio.lowlevel.checkpoint()
        return await self.broadcast.subscriptions.subscribe(topic, handler, validator)

    async def unsubscribe(self, subscription: int) -> None:
        """Stop receiving."""
        await trio.lowlevel.checkpoint()
        await self.broadcast.subscriptions.unsubscribe(subscription)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody who subscribed to the topic and is reached through others who did.

        :raises MessageTooLarge: longer than :data:`dms.network.framing.MAX_GOSSIP_BYTES`.
        """
        await self.broadcast.publish(topic, data)

    # peers -----------------------------------------------------------------------------------------------------------

    async def connect(self, address: str, *, timeout_s: float = 10.0) -> PeerID:
        """Connect to an address that ends in ``/p2p/<id>``, or to a bare peer id whose address is known.

        :raises InvalidAddress: it cannot be parsed.
        :raises PeerUnreachable: nobody answers in time, or somebody else does.
        """
        return await self.connections.connect(address, timeout_s)

    async def disconnect(self, peer: PeerID) -> None:
        """Close the connection to a peer."""
        self.require_running()
        await trio.lowlevel.checkpoint()
        self.connections.part(peer)

    async def ping(self, peer: PeerID, *, timeout_s: float = 1.0) -> float:
        """One round trip in seconds.

        :raises PeerUnreachable: no answer in time. Own id: ``can't ping self``.
        """
        if peer == self._peer_id:
            raise PeerUnreachable("can't ping self")
        self.require_running()
        try:
            with trio.fail_after(timeout_s):
                link = await self.connections.reach(peer)
                await self.connections.cross(link)
                await self.connections.cross(link)
        except trio.TooSlowError:
            raise PeerUnreachable(f"peer {peer} does not answer a ping: too slow") from None
        if self._network.find(peer) is None:
            raise PeerUnreachable(f"peer {peer} does not answer a ping")
        self._rtt_s[peer] = 2 * link.delay_s
        return 2 * link.delay_s

    def peers(self) -> tuple[PeerInfo, ...]:
        """Live connections only."""
        return tuple(
            PeerInfo(
                peer=peer,
                addresses=self.connections.addresses_of(node),
                inbound=inbound,
                protocols=node.protocols() + node.streams.protocols(),
                rtt_s=self._rtt_s.get(peer),
                since_s=trio.current_time() - self.connections.since_s[peer],
                is_relayed=peer in self.connections.relayed,
            )
            for peer, inbound in sorted(self.connections.inbound.items())
            if (node := self._network.find(peer)) is not None
        )

    def known_peers(self) -> dict[PeerID, tuple[str, ...]]:
        """Everybody of whom an address is known: the connected peers."""
        return {info.peer: info.addresses for info in self.peers()}

    def scores(self) -> dict[PeerID, PeerScore]:
        """What is thought of the connected peers; in a flood all are equal."""
        return self.broadcast.scores()

    def is_connected(self, peer: PeerID) -> bool:
        """Whether a connection exists."""
        return peer in self.connections.inbound

    def listen(self, listener: PeerListener) -> Callable[[], None]:
        """Be told of changes; returns the function that ends it."""
        return self.connections.listen(listener)

    def counters(self) -> dict[str, int]:
        """How often things happened since the start, by name."""
        return dict(self._counters)

    # for the parts of this node, and for the others ------------------------------------------------------------------

    def arrive(self, sender: PeerID, protocol: str, data: bytes) -> None:
        """A message of another node is here; for floods, of which only the arrival matters."""
        self._counters["messages in"] += 1
        self._network.tell(sender, self._peer_id, protocol, data)
        self._handlers.deliver(sender, protocol, data)

    def protocols(self) -> tuple[str, ...]:
        """What messages can be sent to us."""
        return self._handlers.protocols()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later, in this node's own order; forgotten when it stops or crashes."""
        if self.is_running:
            self._agenda.after(delay_s, action)

    def lose_all(self) -> None:
        """Lose all connections, and everything under way to us."""
        self.connections.lose_all()
        self._agenda.clear()

    def count(self, what: str) -> None:
        """Count something that happened."""
        self._counters[what] += 1

    def loses(self, link: Path) -> bool:
        """Whether what we send now is lost on the way."""
        return link.loss > 0 and self._rng.random() < link.loss

    def jitter_s(self, link: Path | None = None) -> float:
        """How much later than it should something happens now."""
        jitter_s = self._rng.random() * max(_JITTER_S, self._network.jitter_s)
        return jitter_s + (self._rng.random() * link.jitter_s if link is not None and link.jitter_s else 0.0)

    def choose(self, peers: Sequence[PeerID]) -> PeerID:
        """One of them, by chance."""
        return self._rng.choice(peers)

    def sample(self, peers: Sequence[PeerID], count: int) -> list[PeerID]:
        """Some of them, by chance."""
        return self._rng.sample(peers, min(count, len(peers)))

    def require_running(self) -> None:
        """Refuse to do anything unless up.

        :raises NotRunning: outside of :meth:`run`.
        :raises PeerUnreachable: crashed.
        """
        if not self.is_running:
            raise NotRunning
        if self.is_crashed:
            raise PeerUnreachable("this node crashed")

    def _copies(self, link: Path) -> int:
        rate = max(self._network.duplication, link.duplication)
        return 2 if rate > 0 and self._rng.random() < rate else 1

    def _hold_up_s(self, link: Path) -> float:
        rate = max(self._network.reordering, link.reordering)
        return OVERTAKEN_S + 2 * link.delay_s if rate > 0 and self._rng.random() < rate else 0.0
