"""Whom a node of a virtual network is connected to, and how it gets there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from dms.network.addresses import parse_peer_id, split_address
from dms.network.errors import PeerUnreachable
from dms.network.protocol import PeerChange, PeerEvent, PeerListener
from dms.testing.network.links import Path, RelayedLink
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork
    from dms.testing.network.node import MemoryNetwork

DETECT_S = 5.0
"""How long a dead link stays unnoticed."""
RECONNECT_S = 1.0
"""How long nodes take to connect again once they can."""
EXPLORE_S = 5.0
"""How often nodes with few peers ask for more."""
ENOUGH_PEERS = 8
"""Dialled until there are so many."""


class Connections:
    """The connections of one node."""

    def __init__(self, network: VirtualNetwork, node: MemoryNetwork, bootstrap: tuple[str, ...]) -> None:
        self._network = network
        self._node = node
        self._bootstrap = bootstrap
        self._listeners: dict[int, PeerListener] = {}
        self._next_listener = 0
        self._known: set[PeerID] = set()
        self.inbound: dict[PeerID, bool] = {}
        """Who is connected, and whether they dialled us."""
        self.relayed: dict[PeerID, RelayedLink] = {}
        """Those of them that a relay carries."""
        self.since_s: dict[PeerID, float] = {}
        """When the last connection with each was made."""

    def listen(self, listener: PeerListener) -> Callable[[], None]:
        """Be told of changes; returns the function that ends it."""
        number = self._next_listener
        self._next_listener += 1
        self._listeners[number] = listener

        def end() -> None:
            self._listeners.pop(number, None)

        return end

    async def connect(self, address: str, timeout_s: float) -> PeerID:
        """Connect to an address that ends in ``/p2p/<id>``, or to a bare peer id whose address is known.

        :raises PeerUnreachable: nobody answers in time, or somebody else does.
        """
        running = self._network.running()
        if address.startswith("/"):
            target, peer = split_address(address)
            found = next((n for n in running if f"{target}/p2p/{n.peer_id}" in n.listen_addresses), None)
        else:
            peer = parse_peer_id(address)
            found = self._network.find(peer)
        self._node.require_running()
        if peer == self._node.peer_id:
            raise PeerUnreachable("can't dial self")
        if peer in self.inbound:
            return peer
        try:
            with trio.fail_after(timeout_s):
                if not address.startswith("/"):
                    await self.reach(peer)
                    return peer
                await self.cross(self._network.link(self._node.peer_id, peer))
        except trio.TooSlowError:
            raise PeerUnreachable(f"{address} does not answer within {timeout_s:g} s") from None
        if found is None or not found.is_up or found.peer_id != peer or not self._can_dial(found):
            raise PeerUnreachable(f"peer {peer} does not listen at {address}")
        self._join(found)
        return peer

    async def reach(self, peer: PeerID) -> Path:
        """The way to a peer, connecting first if need be; a peer that nobody around knows is not found."""
        parse_peer_id(peer)
        if peer in self.inbound:
            return self.path(peer)
        knows = self._network.is_mesh or peer in self._known
        knows = knows or self._node.directory.knows(peer)
        target = self._network.find(peer)
        if target is not None and not self._can_dial(target) and self._relay_to(target) is not None:
            await trio.lowlevel.checkpoint()
        else:
            await self.cross(self._network.link(self._node.peer_id, peer))
        target = self._network.find(peer)
        if target is None or not knows or self._node.is_crashed or not self._join(target):
            raise PeerUnreachable(f"peer {peer} cannot be reached")
        return self.path(peer)

    def path(self, peer: PeerID) -> Path:
        """What lies between us and a peer."""
        return self.relayed.get(peer) or self._network.link(self._node.peer_id, peer)

    def addresses_of(self, node: MemoryNetwork) -> tuple[str, ...]:
        """Where a connected peer is: its own addresses, or those of the relay that it is behind."""
        relayed = self.relayed.get(node.peer_id)
        relay = self._network.any(relayed.relay) if relayed is not None else None
        if relay is None:
            return node.listen_addresses
        return tuple(f"{address}/p2p-circuit/p2p/{node.peer_id}" for address in relay.listen_addresses)

    async def cross(self, link: Path) -> None:
        """Take the time of one crossing; a cut link is waited for."""
        while link.is_cut:
            await link.healed.wait()
        await trio.sleep(link.delay_s + self._node.jitter_s(link))
        if self._node.is_crashed:
            raise PeerUnreachable("this node crashed")

    def reconnect(self) -> None:
        """Connect to whom we would find by ourselves, soon."""
        if self._network.is_mesh:
            for node in self._network.running():
                if node is not self._node:
                    delay_s = self._network.link(self._node.peer_id, node.peer_id).delay_s
                    self._node.after(delay_s, partial(self._rejoin, node.peer_id))
        for address in self._bootstrap:
            self._node.after(RECONNECT_S / 10, partial(self._rejoin, split_address(address)[1]))
        if self._network.explores:
            self._node.after(EXPLORE_S + self._node.jitter_s(), self._explore)

    def part(self, peer: PeerID) -> None:
        """End a connection, if there is one, on both sides, and those that it carried for others."""
        other = self._network.any(peer)
        for here, there in ((self._node, peer), (other, self._node.peer_id)):
            if here is not None:
                here.connections._lose(there)  # noqa: SLF001  both sides of one wire

    def lose_all(self) -> None:
        """End all of them."""
        for peer in list(self.inbound):
            self.part(peer)

    def expect_loss(self, peer: PeerID) -> None:
        """A cable was pulled: notice it after a while, unless it is back by then."""

        def notice() -> None:
            if self.path(peer).is_cut:
                self.part(peer)

        if peer in self.inbound:
            self._node.after(DETECT_S, notice)

    # finding others --------------------------------------------------------------------------------------------------

    def _rejoin(self, peer: PeerID) -> None:
        if peer == self._node.peer_id or peer in self.inbound:
            return
        target = self._network.find(peer)
        if target is None:
            if not self._network.is_mesh:
                self._node.after(RECONNECT_S, partial(self._rejoin, peer))
            return
        is_cut = self._network.link(self._node.peer_id, peer).is_cut
        if is_cut or not self._join(target):
            behind_nats = not is_cut and bool(self._node.nat and target.nat)
            if behind_nats or (is_cut and self._is_bootstrap(peer) and not self._network.is_mesh):
                self._node.after(RECONNECT_S, partial(self._rejoin, peer))

    def _explore(self) -> None:
        """Ask one of those connected for others; without any, go back to those known before."""
        self._node.after(EXPLORE_S + self._node.jitter_s(), self._explore)
        if len(self.inbound) >= ENOUGH_PEERS:
            return
        asked = self._network.find(self._node.choose(sorted(self.inbound))) if self.inbound else None
        heard = set(asked.connections.inbound) if asked is not None else self._known
        found = sorted(heard - self.inbound.keys() - {self._node.peer_id})
        for peer in self._node.sample(found, ENOUGH_PEERS - len(self.inbound)):
            self._node.after(2 * self._network.link(self._node.peer_id, peer).delay_s, partial(self._meet, peer))

    def _meet(self, peer: PeerID) -> None:
        target = self._network.find(peer)
        if target is not None and not self._network.link(self._node.peer_id, peer).is_cut:
            self._join(target)

    def _can_dial(self, target: MemoryNetwork) -> bool:
        return not target.nat or target.nat == self._node.nat

    def _relay_to(self, target: MemoryNetwork) -> MemoryNetwork | None:
        """The nearest node that passes on between us and another: both are connected to it without any help."""
        own, other = self._node.peer_id, target.peer_id
        shared = self.inbound.keys() & target.connections.inbound.keys()
        found = [
            node
            for peer in sorted(shared - self.relayed.keys() - target.connections.relayed.keys())
            if (node := self._network.find(peer)) is not None and node.is_relay
        ]
        usable = [n for n in found if not any(self._network.link(end, n.peer_id).is_cut for end in (own, other))]
        delays = {n.peer_id: sum(self._network.link(end, n.peer_id).delay_s for end in (own, other)) for n in usable}
        return min(usable, key=lambda node: (delays[node.peer_id], node.peer_id), default=None)

    # making and losing -----------------------------------------------------------------------------------------------

    def _join(self, target: MemoryNetwork) -> bool:
        """Connect now: as we can, as the other can, or through a relay; whether that works."""
        if target.peer_id in self.inbound:
            return True
        if self._can_dial(target):
            self._connect(self._node, target)
            return True
        if target.connections._can_dial(self._node):  # noqa: SLF001  it finds us as we find it
            self._connect(target, self._node)
            return True
        relay = self._relay_to(target)
        if relay is None:
            return False
        self._connect_through(relay, target)
        return True

    def _connect_through(self, relay: MemoryNetwork, target: MemoryNetwork) -> None:
        own, other = self._node, target
        link = RelayedLink(
            relay=relay.peer_id,
            links={end.peer_id: self._network.link(end.peer_id, relay.peer_id) for end in (own, other)},
            extra_s=self._network.relay_delay_s,
            left_bytes=self._network.relay_limit_bytes,
            until_s=trio.current_time() + self._network.relay_limit_s,
            end=lambda: self._end_relayed(other.peer_id, link),
        )
        for here, there in ((own, other), (other, own)):
            here.connections.relayed[there.peer_id] = link
        self._connect(own, other)
        own.after(self._network.relay_limit_s, link.end)

    def _end_relayed(self, peer: PeerID, link: RelayedLink) -> None:
        if self.relayed.get(peer) is not link:
            return
        self.part(peer)
        if self._network.is_mesh:
            self._node.after(RECONNECT_S, partial(self._rejoin, peer))

    def _connect(self, dialler: MemoryNetwork, dialled: MemoryNetwork) -> None:
        delay_s = dialler.connections.path(dialled.peer_id).delay_s
        for one, other, inbound in ((dialler, dialled, False), (dialled, dialler, True)):
            one.connections._take(other.peer_id, delay_s, inbound=inbound)  # noqa: SLF001  both sides of one wire

    def _take(self, peer: PeerID, delay_s: float, *, inbound: bool) -> None:
        self.inbound[peer] = inbound
        self.since_s[peer] = trio.current_time()
        self._known.add(peer)
        self._tell(PeerChange.CONNECTED, peer)
        self._node.broadcast.connected(peer)
        self._node.after(2 * delay_s + self._node.jitter_s(), partial(self._identify, peer))

    def _lose(self, peer: PeerID) -> None:
        self._node.streams.lose(peer)
        if self.inbound.pop(peer, None) is None:
            return
        self.relayed.pop(peer, None)
        self._node.broadcast.disconnected(peer)
        self._tell(PeerChange.DISCONNECTED, peer)
        for other, link in [(other, link) for other, link in self.relayed.items() if link.relay == peer]:
            self._end_relayed(other, link)
        if not self._network.is_mesh and self._is_bootstrap(peer):
            self._node.after(RECONNECT_S + self._node.jitter_s(), partial(self._rejoin, peer))

    def _is_bootstrap(self, peer: PeerID) -> bool:
        return any(split_address(address)[1] == peer for address in self._bootstrap)

    def _identify(self, peer: PeerID) -> None:
        if peer in self.inbound:
            self._tell(PeerChange.IDENTIFIED, peer)

    def _tell(self, change: PeerChange, peer: PeerID) -> None:
        self._node.count(f"peers {change.value}")
        for listener in list(self._listeners.values()):
            listener(PeerEvent(change, peer))
