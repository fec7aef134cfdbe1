"""All ways in which a node finds others, put together.

Connected peers are asked first, since that is cheap; then the hash table. Peers come in from bootstrap addresses, from
exchange, from the rendezvous, from walks, from the local network, and from before the restart.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from weakref import WeakSet

import trio
from libp2p.abc import INetConn
from libp2p.custom_types import TProtocol
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from dms.identity.keys import KeyType, PrivateKey
from dms.network.addresses import AddressBook, is_dialable, is_loopback, is_plain_tcp, split_address
from dms.network.directory import DHTMode
from dms.network.errors import NetworkError, NotRunning, PeerUnreachable
from dms.network.kademlia.directory import KademliaDirectory
from dms.network.kademlia.node import Kademlia
from dms.network.known_good import GoodPeers
from dms.network.libp2p.connections.dialler import MAX_ADDRESSES, Dialler, is_nearby
from dms.network.libp2p.connections.gate import Gate
from dms.network.libp2p.connections.names import id_of, name_of
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.discovery.dht import DHTStreams
from dms.network.libp2p.discovery.local import LocalNetwork
from dms.network.libp2p.discovery.peer_exchange import LOOKUP_S, Discovery
from dms.network.libp2p.discovery.peers_file import PeersFile
from dms.network.libp2p.discovery.rendezvous import Rendezvous
from dms.network.libp2p.discovery.returning import Returning
from dms.network.libp2p.discovery.rounds import ADVERTISE, SEARCH, WALK, WALK_DEPTH, keep_up
from dms.network.libp2p.messages.streams import Outbox
from dms.network.libp2p.streams.opening import Lingering
from dms.network.names import NetworkNames
from dms.network.reachability import Reach
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

HEAD_START_S = 1.0
"""How long connected peers are waited for before the hash table is asked, too."""
SEARCHES_AT_ONCE = 16
MAX_FOREIGN = 1024
"""Peers of other networks that are remembered as such."""
JOIN_S = 10.0
"""How soon after the first peer that serves the hash table we make ourselves known to those near to us in it."""

REACH_S = 10.0
"""How often it is looked whether others can reach us."""


@dataclass(frozen=True, slots=True)
class FindingOptions:
    """How a node finds others.

    :param names: of its network. :param dht: whether it serves the hash table.
    :param explore: whether to look for peers at all; off, only those dialled or dialling are met.
    :param mdns: whether to meet on the local network; a public machine never does.
    :param peers_file: where known good peers are kept.
    :param gate: which addresses are neither told nor remembered, on a public machine.
    """

    names: NetworkNames = field(default_factory=NetworkNames)
    dht: DHTMode = DHTMode.AUTO
    explore: bool = True
    peers_file: Path | None = None
    mdns: bool = False
    gate: Gate = field(default_factory=Gate)


class Finding:
    """Finds peers; lives as long as the network object, works while a host is open."""

    def __init__(
        self,
        own: PeerID,
        seed: bytes,
        book: AddressBook,
        options: FindingOptions,
        *,
        counters: Counter[str],
        rng: random.Random,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._own = own
        self._book = book
        self._options = options
        self._counters = counters
        self._rng = rng
        self._wall_s = wall_s
        self._host: GuardedHost | None = None
        self._dialler: Dialler | None = None
        self._exchange: Discovery | None = None
        self._joined = trio.Event()
        self._searches: dict[PeerID, trio.Event] = {}
        self._search_limit = trio.CapacityLimiter(SEARCHES_AT_ONCE)
        self._counted: WeakSet[INetConn] = WeakSet()
        self._foreign: OrderedDict[PeerID, None] = OrderedDict()
        self.dht = DHTStreams(options.names.dht_protocol, options.dht)
        self.node = Kademlia(
            own,
            ask=self.dht.ask,
            addresses_of=book.addresses,
            tell=self._tell,
            usable=self._usable,
            is_connected=self._is_connected,
            counters=counters,
            rng=rng,
            wall_s=wall_s,
        )
        self.directory = KademliaDirectory(
            self.node,
            PrivateKey(KeyType.ED25519, seed),
            own_addresses=self._own_addresses,
            known_addresses=book.addresses,
            is_connected=self._is_connected,
            is_serving=lambda: self.dht.is_serving,
            protocol=self.dht.protocol,
            require_running=self._require_running,
        )
        self._good = GoodPeers(options.names.network_id, options.gate.passing)
        self._file = PeersFile(options.peers_file, self._good)
        self._returning = Returning(
            own,
            self._good,
            self._file,
            connected=self._connected,
            serves_dht=lambda peer: peer in self.node.table,
            dial=self.dial,
            wall_s=wall_s,
        )

    def open_host(self, host: GuardedHost, dialler: Dialler, outbox: Outbox, lingering: Lingering) -> None:
        """Find, and help others to, from now on."""
        protocol = self._options.names.peers_protocol
        self._host, self._dialler = host, dialler
        self._exchange = Discovery(
            own=self._own,
            book=self._book,
            connected=self._connected,
            ask=lambda peer, question, limit_bytes, timeout_s: outbox.ask(
                id_of(peer), protocol, question, limit_bytes=limit_bytes, timeout_s=timeout_s
            ),
            dial=self.dial,
            is_nearby=partial(is_nearby, host.swarm),
            is_member=lambda peer: self._options.names.is_member(host.protocols_of(id_of(peer))),
            rng=self._rng,
        )
        dialler.find = self.find
        host.set_stream_handler(TProtocol(protocol), self._exchange.answer)
        self.dht.open_host(host, self.node, self._connect, lingering)

    def close_host(self) -> None:
        """Find no more."""
        self.dht.close_host()
        self._host = self._dialler = self._exchange = None

    async def run(self, bootstrap: Sequence[str], reach: Callable[[], Reach]) -> None:
        """Look for others, and stay connected to the bootstrap peers, until cancelled; ``reach`` tells who reaches us."""
        exchange = self._exchange
        if exchange is None:
            raise NotRunning
        rendezvous = Rendezvous(
            self.node,
            self._options.names.rendezvous,
            own_addresses=self._own_addresses,
            known=self._book.addresses,
            connected=self._connected,
            dial=self.dial,
        )
        await self._file.load(self._wall_s())
        async with trio.open_nursery() as nursery:
            for address in bootstrap:
                nursery.start_soon(exchange.keep_bootstrapped, address)
            nursery.start_soon(self.node.tend)
            nursery.start_soon(self.directory.renew)
            nursery.start_soon(self._returning.keep_file)
            nursery.start_soon(self._follow_reach, reach)
            if self._options.explore:
                nursery.start_soon(exchange.exchange)
                nursery.start_soon(self._returning.keep_company)
                nursery.start_soon(self._join)
                nursery.start_soon(keep_up, SEARCH, rendezvous.search, self._rng)
                nursery.start_soon(keep_up, ADVERTISE, rendezvous.advertise, self._rng)
                nursery.start_soon(keep_up, WALK, self._walk, self._rng)
                if self._options.mdns and not self._options.gate.server_mode:
                    nursery.start_soon(self._local_network().run)

    async def find(self, peer: PeerID) -> bool:
        """Connect to a peer of whom no right address is known; asks connected peers, then the hash table.

        Whoever wants the same peer meanwhile waits for this search instead of making one of his own.
        """
        ongoing = self._searches.get(peer)
        if ongoing is not None:
            await ongoing.wait()
            return self._is_connected(peer)
        done = self._searches[peer] = trio.Event()
        try:
            async with self._search_limit:
                return await self._search(peer)
        finally:
            del self._searches[peer]
            done.set()

    async def dial(self, peer: PeerID, addresses: Sequence[Multiaddr]) -> None:
        """Connect at one of these addresses, unless connected.

        :raises PeerUnreachable: none of them answered.
        """
        if self._host is None or self._dialler is None:
            raise NotRunning
        await self._dialler.dial(self._host.swarm, peer, addresses)

    def hurry(self) -> None:
        """The machine moved: dial bootstrap peers, and those known from before, without waiting."""
        if self._exchange is not None:
            self._exchange.hurry()
        self._returning.lost_one()

    # what happens to peers -------------------------------------------------------------------------------------------

    def disconnected(self) -> None:
        """A connection ended."""
        self._returning.lost_one()

    def identified(self, peer: PeerID, protocols: Sequence[str]) -> None:
        """A peer said what it speaks, for the first time or anew."""
        if self.dht.protocol in protocols:
            self.node.serves(peer)
            self._joined.set()
        else:
            self.node.serves_not(peer)
        self._foreign.pop(peer, None)
        if self._options.names.is_member(protocols):
            self._remember(peer)
            self._good.seen(peer, self._wall_s(), is_server=self.dht.protocol in protocols)
        else:
            self._foreign[peer] = None
            while len(self._foreign) > MAX_FOREIGN:
                self._foreign.popitem(last=False)
        if self._exchange is not None:
            self._exchange.met()

    # the parts -------------------------------------------------------------------------------------------------------

    def _local_network(self) -> LocalNetwork:
        return LocalNetwork(
            self._options.names.mdns_service,
            self._own,
            own_addresses=self._own_addresses,
            is_connected=self._is_connected,
            dial=self.dial,
            counters=self._counters,
            rng=self._rng,
        )

    async def _search(self, peer: PeerID) -> bool:
        exchange, found = self._exchange, False
        if exchange is None:
            return False
        asked = trio.Event()

        async def ask_peers() -> None:
            nonlocal found
            found = await exchange.find(peer)
            asked.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_peers)
            with trio.move_on_after(HEAD_START_S):
                await asked.wait()
            if not found and await self._find_in_table(peer):
                found = True
                nursery.cancel_scope.cancel()
        return found

    async def _find_in_table(self, peer: PeerID) -> bool:
        addresses = await self.node.queries.find_peer(peer, timeout_s=LOOKUP_S)
        if not addresses:
            return False
        try:
            await self.dial(peer, addresses[:MAX_ADDRESSES])
        except NetworkError as error:
            log.debug("dialling %s, found in the hash table: %s", peer, error)
            return False
        return True

    def _remember(self, peer: PeerID) -> None:
        """Handshakes succeeded; where we dialled, the address is proven."""
        for conn in self._host.swarm.get_connections(id_of(peer)) if self._host is not None else ():
            if getattr(conn, "direction", None) == Direction.OUTBOUND and conn not in self._counted:
                self._counted.add(conn)  # peers identify themselves again and again; it is one success
                for address in conn.get_transport_addresses()[:1]:
                    if is_plain_tcp(address):
                        self._good.confirmed(peer, _bare(address), self._wall_s())

    async def _join(self) -> None:
        await self._joined.wait()
        await trio.sleep(JOIN_S)
        await self.node.walk(1)

    async def _follow_reach(self, reach: Callable[[], Reach]) -> None:
        """Serve the hash table, or not, as others can reach us or not."""
        while True:
            status = reach()
            await self.dht.reachable(None if status is Reach.UNKNOWN else status is Reach.PUBLIC)
            await trio.sleep(REACH_S)

    async def _walk(self) -> bool:
        return await self.node.walk(WALK_DEPTH) > 0

    async def _connect(self, peer: PeerID, addresses: Sequence[Multiaddr]) -> None:
        if self._is_connected(peer):
            return
        known = list(dict.fromkeys([*addresses, *self._book.addresses(peer)]))[:MAX_ADDRESSES]
        if not known:
            raise PeerUnreachable(f"peer {peer} cannot be reached: no known address")
        await self.dial(peer, known)

    def _connected(self) -> list[PeerID]:
        return [name_of(peer) for peer in self._host.swarm.connections] if self._host is not None else []

    def _is_connected(self, peer: PeerID) -> bool:
        return self._host is not None and bool(self._host.swarm.get_connections(id_of(peer)))

    def _tell(self, asker: PeerID, peer: PeerID) -> Sequence[Multiaddr]:
        return self._usable(asker, self._book.addresses(peer)) if peer not in self._foreign else ()

    def _usable(self, teller: PeerID, addresses: Sequence[Multiaddr]) -> Sequence[Multiaddr]:
        """What means something both here and at another peer: loopback only on the same machine."""
        nearby = self._host is not None and is_nearby(self._host.swarm, teller)
        usable = [one for one in addresses if is_dialable(one) and (nearby or not is_loopback(one))]
        return self._options.gate.passing(usable)

    def _own_addresses(self) -> list[Multiaddr]:
        """Where we listen; loopback only if there is nothing else."""
        if self._host is None:
            return []
        own = [split_address(str(address))[0] for address in self._host.get_addrs()]
        return self._options.gate.passing([one for one in own if not is_loopback(one)] or own)

    def _require_running(self) -> None:
        if self._host is None:
            raise NotRunning


def _bare(address: Multiaddr) -> Multiaddr:
    return Multiaddr(str(address).partition("/p2p/")[0])
