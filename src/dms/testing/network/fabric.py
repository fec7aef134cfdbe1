"""A virtual network as a whole: its nodes, the links between them, and everything that can be done to both."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.testing.network.latency import CoordinateExchange
from dms.testing.network.links import Link
from dms.testing.network.node import MemoryNetwork
from dms.types.errors import BadInput
from dms.types.ids import PeerID

Delay = float | Callable[[PeerID, PeerID], float]


class VirtualNetwork:
    """Nodes, and the links between them.

    :param seed: of all chance in the network.
    :param delay_s: one way, of every link; or a function of the two peers.
    :param loss: the probability that a message, or a copy of a broadcast, vanishes.
    :param mesh: whether running nodes connect to each other by themselves.
    :param explore: without that: whether nodes ask their peers for more, as real ones do, and come back to those they knew.
    :param gossip: whether broadcasts go through meshes of bounded degree, by the router of real nodes, instead of a flood.

    ``duplication`` (the probability that a message comes twice), ``reordering`` (that those after it overtake it) and
    ``jitter_s`` (up to so much later) may be changed, as may the limits of relays.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        delay_s: Delay = 0.005,
        loss: float = 0.0,
        mesh: bool = True,
        explore: bool = False,
        gossip: bool = False,
    ) -> None:
        self.seed = seed
        self.duplication = 0.0
        self.reordering = 0.0
        self.jitter_s = 0.0
        self.relay_delay_s = 0.001
        self.relay_limit_s = 300.0
        self.relay_limit_bytes = 1 << 21
        self.explores = explore
        self.has_meshes = gossip
        self.watchers: list[Callable[[PeerID, PeerID, str, bytes], None]] = []
        """Told of everything that arrives somewhere: from whom, where, protocol or topic, and what."""
        self.is_mesh = mesh
        self.coordinates = CoordinateExchange(self)
        self._delay_s = delay_s
        self._loss = loss
        self._nodes: dict[PeerID, MemoryNetwork] = {}
        self._links: dict[frozenset[PeerID], Link] = {}

    # nodes -----------------------------------------------------------------------------------------------------------

    def node(
        self,
        key: bytes | str | int,
        *,
        bootstrap: Sequence[str] = (),
        listen: Sequence[str] = (),
        nat: str = "",
        is_relay: bool = False,
    ) -> MemoryNetwork:
        """A node; 32 bytes are the seed of its key, anything else is hashed to one.

        :param nat: the name of the NAT that it is behind: only those behind the same can dial it. It can dial everybody who
            is behind none, and is reached by others through a relay to which both are connected.
        :param is_relay: whether it passes on what others send each other, within the limits of the network.

        :raises BadInput: this key has a node already.
        """
        seed = key if isinstance(key, bytes) and len(key) == 32 else hashlib.sha256(repr(key).encode()).digest()
        peer = peer_id_of(PrivateKey(KeyType.ED25519, seed).public)
        if peer in self._nodes:
            raise BadInput(f"this network has a node with the key {key!r} already")
        number = len(self._nodes) + 1
        address = f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/9000"
        node = MemoryNetwork(self, peer, tuple(listen) or (address,), tuple(bootstrap), nat=nat, is_relay=is_relay)
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
        crashed.lose_all()

    def restart(self, node: MemoryNetwork | PeerID) -> None:
        """Bring a crashed node back."""
        back = self._nodes[_peer(node)]
        back.is_crashed = False
        if back.is_running:
            back.connections.reconnect()

    # links -----------------------------------------------------------------------------------------------------------

    def set_link(
        self,
        a: MemoryNetwork | PeerID,
        b: MemoryNetwork | PeerID,
        *,
        delay_s: float | None = None,
        loss: float | None = None,
        jitter_s: float | None = None,
        duplication: float | None = None,
        reordering: float | None = None,
        bandwidth_bps: float | None = None,
    ) -> None:
        """Change one link, in both directions; what is not named stays."""
        link = self.link(_peer(a), _peer(b))
        link.delay_s = link.delay_s if delay_s is None else delay_s
        link.loss = link.loss if loss is None else loss
        link.jitter_s = link.jitter_s if jitter_s is None else jitter_s
        link.duplication = link.duplication if duplication is None else duplication
        link.reordering = link.reordering if reordering is None else reordering
        link.bandwidth_bps = link.bandwidth_bps if bandwidth_bps is None else bandwidth_bps

    def cut(self, a: MemoryNetwork | PeerID, b: MemoryNetwork | PeerID, *, one_way: bool = False) -> None:
        """Pull the cable between two nodes; ``one_way`` loses only what the first sends.

        A connection does not survive that either: nobody is answered. It ends when the nodes notice.
        """
        first, second = _peer(a), _peer(b)
        if not self.link(first, second).cut(*((first,) if one_way else (first, second))):
            return
        for one, other in ((first, second), (second, first)):
            if one in self._nodes:
                self._nodes[one].connections.expect_loss(other)

    def heal(self, a: MemoryNetwork | PeerID, b: MemoryNetwork | PeerID) -> None:
        """Put it back."""
        first, second = _peer(a), _peer(b)
        if not self.link(first, second).heal():
            return
        for peer in (first, second):
            if peer in self._nodes and self._nodes[peer].is_up:
                self._nodes[peer].connections.reconnect()

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

    def any(self, peer: PeerID) -> MemoryNetwork | None:
        """The node with this id, running or not."""
        return self._nodes.get(peer)

    def set_loss(self, loss: float) -> None:
        """The loss of all links, those to come included."""
        self._loss = loss
        for link in self._links.values():
            link.loss = loss

    def running(self) -> list[MemoryNetwork]:
        """All nodes that run and did not crash."""
        return [node for node in self._nodes.values() if node.is_up]


def _peer(node: MemoryNetwork | PeerID) -> PeerID:
    return node.peer_id if isinstance(node, MemoryNetwork) else node
