"""A network in memory, on trio's clock: the twin of :mod:`dms.network.libp2p`.

Use it with ``autojump_clock``: hours of a deployment pass in milliseconds, and the same seed gives the same run, because
no two deliveries happen at the same instant and all chance comes from generators seeded with it. (What a test does by
itself in several tasks at the same instant, trio still shuffles.)

A :class:`VirtualNetwork` holds nodes and the links between them. By default every running node is connected to every
other; with ``mesh=False`` connections come from ``bootstrap`` and ``connect`` only. Links have a delay and a loss
probability and can be cut; nodes can crash and come back. What a cut link does is what a pulled cable does: messages
wait, and after :data:`DETECT_S` the connection is gone; a crash is noticed at once.
"""

# ruff: noqa: SLF001  the nodes of one network reach into each other, as the wire between them would

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.network.addresses import parse_peer_id, split_address
from dms.network.errors import AddressInUse, MessageTooLarge, NotRunning, PeerUnreachable
from dms.network.framing import MAX_GOSSIP_BYTES, encode_frame
from dms.network.handlers import Handlers
from dms.network.protocol import (
    MessageHandler,
    PeerChange,
    PeerEvent,
    PeerInfo,
    PeerListener,
    PeerScore,
    TopicValidator,
    Verdict,
)
from dms.network.subscriptions import Subscriptions
from dms.testing.links import Due, Link, call, nothing
from dms.types.errors import BadInput
from dms.types.ids import PeerID

DETECT_S = 5.0
"""How long a dead link stays unnoticed."""
RECONNECT_S = 1.0
"""How long nodes take to connect again once they can."""

_JITTER_S = 1e-6
"""Makes the instant of every delivery its own; without it trio would shuffle those that fall together."""

Delay = float | Callable[[PeerID, PeerID], float]


class VirtualNetwork:
    """Nodes, and the links between them.

    :param seed: of all chance in the network.
    :param delay_s: one way, of every link; or a function of the two peers.
    :param loss: the probability that a message, or a copy of a broadcast, vanishes.
    :param mesh: whether running nodes connect to each other by themselves.

    ``duplication`` (the probability that a message comes twice) and ``jitter_s`` (up to so much later) may be changed.
    """

    def __init__(self, seed: int = 0, *, delay_s: Delay = 0.005, loss: float = 0.0, mesh: bool = True) -> None:
        self.seed = seed
        self.duplication = 0.0
        self.jitter_s = 0.0
        self.watchers: list[Callable[[PeerID, PeerID, str, bytes], None]] = []
        """Told of everything that arrives somewhere: from whom, where, protocol or topic, and what."""
        self.is_mesh = mesh
        self._delay_s = delay_s
        self._loss = loss
        self._nodes: dict[PeerID, MemoryNetwork] = {}
        self._links: dict[frozenset[PeerID], Link] = {}

    # nodes -----------------------------------------------------------------------------------------------------------

    def node(
        self, key: bytes | str | int, *, bootstrap: Sequence[str] = (), listen: Sequence[str] = ()
    ) -> MemoryNetwork:
        """A node; 32 bytes are the seed of its key, anything else is hashed to one.

        :raises BadInput: this key has a node already.
        """
        seed = key if isinstance(key, bytes) and len(key) == 32 else hashlib.sha256(repr(key).encode()).digest()
        peer = peer_id_of(PrivateKey(KeyType.ED25519, seed).public)
        if peer in self._nodes:
            raise BadInput(f"this network has a node with the key {key!r} already")
        number = len(self._nodes) + 1
        address = f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/9000"
        node = MemoryNetwork(self, peer, tuple(listen) or (address,), tuple(bootstrap))
        self._nodes[peer] = node
        return node

    @property
    def nodes(self) -> tuple[MemoryNetwork, ...]:
        """All nodes, running or not, in the order they were made."""
        return tuple(self._nodes.values())

    def crash(self, node: MemoryNetwork | PeerID) -> None:
        """Stop a node dead: what it sends and what is under way to it is lost; its peers notice at once."""
        crashed = self._nodes[_peer(node)]
        crashed.is_crashed = True
        crashed._lose_all()

    def restart(self, node: MemoryNetwork | PeerID) -> None:
        """Bring a crashed node back."""
        back = self._nodes[_peer(node)]
        back.is_crashed = False
        if back.is_running:
            back._reconnect()

    # links -----------------------------------------------------------------------------------------------------------

    def set_link(
        self,
        a: MemoryNetwork | PeerID,
        b: MemoryNetwork | PeerID,
        *,
        delay_s: float | None = None,
        loss: float | None = None,
    ) -> None:
        """Change the delay or the loss of one link, in both directions."""
        link = self.link(_peer(a), _peer(b))
        link.delay_s = link.delay_s if delay_s is None else delay_s
        link.loss = link.loss if loss is None else loss

    def cut(self, a: MemoryNetwork | PeerID, b: MemoryNetwork | PeerID) -> None:
        """Pull the cable between two nodes."""
        first, second = _peer(a), _peer(b)
        link = self.link(first, second)
        if link.is_cut:
            return
        link.is_cut = True
        link.healed = trio.Event()
        for one, other in ((first, second), (second, first)):
            if one in self._nodes:
                self._nodes[one]._expect_loss(other)

    def heal(self, a: MemoryNetwork | PeerID, b: MemoryNetwork | PeerID) -> None:
        """Put it back."""
        first, second = _peer(a), _peer(b)
        link = self.link(first, second)
        if not link.is_cut:
            return
        link.is_cut = False
        link.healed.set()
        for peer in (first, second):
            if peer in self._nodes and self._nodes[peer].is_up:
                self._nodes[peer]._reconnect()

    def partition(self, *groups: Iterable[MemoryNetwork | PeerID]) -> None:
        """Cut all links between nodes of different groups; nodes in no group form one of their own."""
        side = {_peer(node): number for number, group in enumerate(groups) for node in group}
        for a, b in itertools.combinations(self._nodes, 2):
            if side.get(a, -1) != side.get(b, -1):
                self.cut(a, b)

    def heal_all(self) -> None:
        """Heal every link."""
        for a, b in itertools.combinations(self._nodes, 2):
            self.heal(a, b)

    def link(self, a: PeerID, b: PeerID) -> Link:
        """The link between two nodes."""
        key = frozenset((a, b))
        if key not in self._links:
            delay_s = self._delay_s(*sorted((a, b))) if callable(self._delay_s) else self._delay_s
            self._links[key] = Link(delay_s=delay_s, loss=self._loss)
        return self._links[key]

    # for the nodes ---------------------------------------------------------------------------------------------------

    def tell(self, sender: PeerID, receiver: PeerID, where: str, data: bytes) -> None:
        """Something has arrived."""
        for watch in self.watchers:
            watch(sender, receiver, where, data)

    def find(self, peer: PeerID) -> MemoryNetwork | None:
        """The node with this id, if it runs and did not crash."""
        node = self._nodes.get(peer)
        return node if node is not None and node.is_up else None

    def set_loss(self, loss: float) -> None:
        """The loss of all links, those to come included."""
        self._loss = loss
        for link in self._links.values():
            link.loss = loss

    def running(self) -> list[MemoryNetwork]:
        """All nodes that run and did not crash."""
        return [node for node in self._nodes.values() if node.is_up]


class MemoryNetwork:
    """One node of a :class:`VirtualNetwork`; implements :class:`dms.network.protocol.Network`."""

    def __init__(
        self, network: VirtualNetwork, peer: PeerID, listen: tuple[str, ...], bootstrap: tuple[str, ...]
    ) -> None:
        self.is_crashed = False
        self._network = network
        self._peer_id = peer
        # One generator for each node: what one draws does not depend on when others do.
        self._rng = random.Random(f"{network.seed}/{peer}")  # noqa: S311  a simulation, not a secret
        self._addresses = tuple(f"{address}/p2p/{peer}" for address in listen)
        self._bootstrap = bootstrap
        self._counters: Counter[str] = Counter()
        self._handlers = Handlers(self._counters)
        self._topics = Subscriptions(self._counters)
        self._listeners: dict[int, PeerListener] = {}
        self._next_listener = 0
        self._connected: dict[PeerID, bool] = {}
        self._known: set[PeerID] = set()
        self._rtt_s: dict[PeerID, float] = {}
        self._due: list[Due] = []
        self._numbers = itertools.count()
        self._wake = trio.Event()
        self._nursery: trio.Nursery | None = None

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
        taken = {address.partition("/p2p/")[0] for node in self._network.running() for address in node._addresses}
        for address in self._addresses:
            if address.partition("/p2p/")[0] in taken:
                raise AddressInUse(f"another program listens on {address.partition('/p2p/')[0]}")
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._handlers.open(nursery)
            await self._topics.open(nursery, join=nothing, leave=nothing)
            nursery.start_soon(self._deliver_due)
            self._reconnect()
            try:
                yield
            except Exception as error:  # noqa: BLE001  raised again below, without our nursery's group around it
                failure = error
            finally:
                self._lose_all()
                self._handlers.close()
                self._topics.close()
                self._due.clear()
                self._nursery = None
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    # point to point --------------------------------------------------------------------------------------------------

    def handle(self, protocol: str, handler: MessageHandler) -> None:
        """Receive the messages of one protocol id.

        :raises AlreadyHandled: somebody does already.
        """
        self._handlers.add(protocol, handler)

    def unhandle(self, protocol: str) -> None:
        """Stop receiving."""
        self._handlers.remove(protocol)

    async def send(self, peer: PeerID, protocol: str, data: bytes, *, timeout_s: float = 30.0) -> None:
        """Send one message; to our own id it is delivered locally, in a new task once there is room.

        :raises MessageTooLarge: with its length it passes the limit.
        :raises PeerUnreachable: no way to the peer in time, or no such protocol there.
        """
        encode_frame(data)
        self._require_running()
        if peer == self._peer_id:
            await self._handlers.deliver_own(peer, protocol, data, timeout_s)
            return
        try:
            with trio.fail_after(timeout_s):
                link = await self._reach(peer)
                await self._cross(link)
                target = self._network.find(peer)
                if target is None or protocol not in target._handlers.protocols():
                    raise PeerUnreachable(f"peer {peer} opens no stream for {protocol}")
                await self._cross(link)
        except trio.TooSlowError:
            raise PeerUnreachable(f"peer {peer} takes no message within {timeout_s:g} s") from None
        self._counters["messages out"] += 1
        if self._loses(link):
            self._counters["messages lost"] += 1
            return
        for _ in range(self._copies()):
            delay_s = link.crossing_s(len(data)) + self._jitter_s()
            target._after(delay_s, call(target.arrive, self._peer_id, protocol, data))

    # broadcast -------------------------------------------------------------------------------------------------------

    async def subscribe(self, topic: str, handler: MessageHandler, validator: TopicValidator | None = None) -> int:
        """Receive the messages of a topic, our own included."""
        await trio.lowlevel.checkpoint()
        return await self._topics.subscribe(topic, handler, validator)

    async def unsubscribe(self, subscription: int) -> None:
        """Stop receiving."""
        await trio.lowlevel.checkpoint()
        await self._topics.unsubscribe(subscription)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody who subscribed to the topic and is reached through others who did.

        :raises MessageTooLarge: longer than :data:`dms.network.framing.MAX_GOSSIP_BYTES`.
        """
        if len(data) > MAX_GOSSIP_BYTES:
            raise MessageTooLarge(f"message too large: {len(data)} bytes, a broadcast has at most {MAX_GOSSIP_BYTES}")
        self._require_running()
        await trio.lowlevel.checkpoint()
        self._counters["gossip out"] += 1
        self._topics.deliver(topic, self._peer_id, data)
        self._spread(topic, self._peer_id, data, {self._peer_id})

    # peers -----------------------------------------------------------------------------------------------------------

    async def connect(self, address: str, *, timeout_s: float = 10.0) -> PeerID:
        """Connect to an address that ends in ``/p2p/<id>``, or to a bare peer id whose address is known.

        :raises InvalidAddress: it cannot be parsed.
        :raises PeerUnreachable: nobody answers in time, or somebody else does.
        """
        if address.startswith("/"):
            target, peer = split_address(address)
            found = next(
                (n for n in self._network.running() if f"{target}/p2p/{n.peer_id}" in n.listen_addresses), None
            )
        else:
            peer = parse_peer_id(address)
            found = self._network.find(peer)
        self._require_running()
        if peer == self._peer_id:
            raise PeerUnreachable("can't dial self")
        if peer in self._connected:
            return peer
        try:
            with trio.fail_after(timeout_s):
                if not address.startswith("/"):
                    await self._reach(peer)
                    return peer
                await self._cross(self._network.link(self._peer_id, peer))
        except trio.TooSlowError:
            raise PeerUnreachable(f"{address} does not answer within {timeout_s:g} s") from None
        if found is None or not found.is_up or found.peer_id != peer:
            raise PeerUnreachable(f"peer {peer} does not listen at {address}")
        self._join(found)
        return peer

    async def disconnect(self, peer: PeerID) -> None:
        """Close the connection to a peer."""
        self._require_running()
        await trio.lowlevel.checkpoint()
        self._part(peer)

    async def ping(self, peer: PeerID, *, timeout_s: float = 1.0) -> float:
        """One round trip in seconds.

        :raises PeerUnreachable: no answer in time. Own id: ``can't ping self``.
        """
        if peer == self._peer_id:
            raise PeerUnreachable("can't ping self")
        self._require_running()
        try:
            with trio.fail_after(timeout_s):
                link = await self._reach(peer)
                await self._cross(link)
                await self._cross(link)
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
                addresses=node._addresses,
                inbound=inbound,
                protocols=node._handlers.protocols(),
                rtt_s=self._rtt_s.get(peer),
            )
            for peer, inbound in sorted(self._connected.items())
            if (node := self._network.find(peer)) is not None
        )

    def known_peers(self) -> dict[PeerID, tuple[str, ...]]:
        """Everybody of whom an address is known: the connected peers."""
        return {info.peer: info.addresses for info in self.peers()}

    def scores(self) -> dict[PeerID, PeerScore]:
        """Nobody misbehaves here: all are equal."""
        return {info.peer: PeerScore() for info in self.peers()}

    def is_connected(self, peer: PeerID) -> bool:
        """Whether a connection exists."""
        return peer in self._connected

    def listen(self, listener: PeerListener) -> Callable[[], None]:
        """Be told of changes; returns the function that ends it."""
        number = self._next_listener
        self._next_listener += 1
        self._listeners[number] = listener

        def end() -> None:
            self._listeners.pop(number, None)

        return end

    def counters(self) -> dict[str, int]:
        """How often things happened since the start, by name."""
        return dict(self._counters)

    # connections -----------------------------------------------------------------------------------------------------

    async def _reach(self, peer: PeerID) -> Link:
        """The link to a peer, connecting first if need be; a peer that nobody around knows is not found."""
        parse_peer_id(peer)
        link = self._network.link(self._peer_id, peer)
        if peer in self._connected:
            return link
        knows = self._network.is_mesh or peer in self._known
        knows = knows or any(peer in node._connected for node in map(self._network.find, self._connected) if node)
        await self._cross(link)
        target = self._network.find(peer)
        if target is None or not knows or self.is_crashed:
            raise PeerUnreachable(f"peer {peer} cannot be reached")
        self._join(target)
        return link

    async def _cross(self, link: Link) -> None:
        """Take the time of one crossing; a cut link is waited for."""
        while link.is_cut:
            await link.healed.wait()
        await trio.sleep(link.delay_s + self._jitter_s())
        if self.is_crashed:
            raise PeerUnreachable("this node crashed")

    def _reconnect(self) -> None:
        """Connect to whom we would find by ourselves, soon."""
        if self._network.is_mesh:
            for node in self._network.running():
                if node is not self:
                    delay_s = self._network.link(self._peer_id, node.peer_id).delay_s
                    self._after(delay_s, call(self._rejoin, node.peer_id))
        for address in self._bootstrap:
            self._after(RECONNECT_S / 10, call(self._rejoin, split_address(address)[1]))

    def _rejoin(self, peer: PeerID) -> None:
        if peer == self._peer_id or peer in self._connected:
            return
        target = self._network.find(peer)
        if target is not None and not self._network.link(self._peer_id, peer).is_cut:
            self._join(target)
        elif target is None and not self._network.is_mesh:
            self._after(RECONNECT_S, call(self._rejoin, peer))

    def _join(self, target: MemoryNetwork) -> None:
        if target.peer_id in self._connected:
            return
        delay_s = self._network.link(self._peer_id, target.peer_id).delay_s
        for one, other, inbound in ((self, target, False), (target, self, True)):
            one._connected[other.peer_id] = inbound
            one._known.add(other.peer_id)
            one._tell(PeerChange.CONNECTED, other.peer_id)
            one._after(2 * delay_s + one._jitter_s(), call(one._identify, other.peer_id))

    def _identify(self, peer: PeerID) -> None:
        if peer in self._connected:
            self._tell(PeerChange.IDENTIFIED, peer)

    def _part(self, peer: PeerID) -> None:
        other = self._network._nodes.get(peer)
        if self._connected.pop(peer, None) is not None:
            self._tell(PeerChange.DISCONNECTED, peer)
        if other is not None and other._connected.pop(self._peer_id, None) is not None:
            other._tell(PeerChange.DISCONNECTED, self._peer_id)

    def _lose_all(self) -> None:
        for peer in list(self._connected):
            self._part(peer)
        self._due.clear()

    def _expect_loss(self, peer: PeerID) -> None:
        """A cable was pulled: notice it after a while, unless it is back by then."""

        def notice() -> None:
            if self._network.link(self._peer_id, peer).is_cut:
                self._part(peer)

        if peer in self._connected:
            self._after(DETECT_S, notice)

    def _tell(self, change: PeerChange, peer: PeerID) -> None:
        self._counters[f"peers {change.value}"] += 1
        for listener in list(self._listeners.values()):
            listener(PeerEvent(change, peer))

    # delivery --------------------------------------------------------------------------------------------------------

    def arrive(self, sender: PeerID, protocol: str, data: bytes) -> None:
        """A message of another node is here; for floods, of which only the arrival matters."""
        self._counters["messages in"] += 1
        self._network.tell(sender, self._peer_id, protocol, data)
        self._handlers.deliver(sender, protocol, data)

    def _spread(self, topic: str, publisher: PeerID, data: bytes, reached: set[PeerID]) -> None:
        """Give a broadcast to the connected subscribers that nobody else gives it to."""
        for peer in sorted(self._connected.keys() - reached):
            node = self._network.find(peer)
            link = self._network.link(self._peer_id, peer)
            if node is None or link.is_cut or topic not in node._topics.topics():
                continue
            reached.add(peer)
            if self._loses(link):
                node._counters["gossip lost"] += 1
                continue
            delay_s = link.delay_s + self._jitter_s()
            node._after(delay_s, call(node._hear, topic, publisher, self._peer_id, data, reached))

    def _hear(self, topic: str, publisher: PeerID, relay: PeerID, data: bytes, reached: set[PeerID]) -> None:
        verdict = self._topics.judge(relay, topic, data)
        self._counters[f"gossip in: {verdict.value}"] += 1
        self._network.tell(relay, self._peer_id, topic, data)
        if verdict is Verdict.ACCEPT:
            self._topics.deliver(topic, publisher, data)
            self._spread(topic, publisher, data, reached)

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later, in this node's own order."""
        if not self.is_running:
            return
        at_s = trio.current_time() + delay_s
        heapq.heappush(self._due, Due(at_s, next(self._numbers), action))
        self._wake.set()

    async def _deliver_due(self) -> None:
        while True:
            self._wake = trio.Event()
            if not self._due:
                await self._wake.wait()
                continue
            if self._due[0].at_s > trio.current_time():
                with trio.move_on_at(self._due[0].at_s):
                    await self._wake.wait()
                continue
            heapq.heappop(self._due).action()
            await trio.lowlevel.checkpoint()

    def _loses(self, link: Link) -> bool:
        return link.loss > 0 and self._rng.random() < link.loss

    def _copies(self) -> int:
        rate = self._network.duplication
        return 2 if rate > 0 and self._rng.random() < rate else 1

    def _jitter_s(self) -> float:
        return self._rng.random() * max(_JITTER_S, self._network.jitter_s)

    def _require_running(self) -> None:
        if not self.is_running:
            raise NotRunning
        if self.is_crashed:
            raise PeerUnreachable("this node crashed")


def _peer(node: MemoryNetwork | PeerID) -> PeerID:
    return node.peer_id if isinstance(node, MemoryNetwork) else node
