"""Whom a node of a virtual network is connected to, and how it gets there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from dms.network.addresses import parse_peer_id, split_address
from dms.network.errors import PeerUnreachable
from dms.network.protocol import PeerChange, PeerEvent, PeerListener
from dms.testing.network.links import Link
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork
    from dms.testing.network.node import MemoryNetwork

DETECT_S = 5.0
"""How long a dead link stays unnoticed."""
RECONNECT_S = 1.0
"""How long nodes take to connect again once they can."""


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
                await self.cross(self._link(peer))
        except trio.TooSlowError:
            raise PeerUnreachable(f"{address} does not answer within {timeout_s:g} s") from None
        if found is None or not found.is_up or found.peer_id != peer:
            raise PeerUnreachable(f"peer {peer} does not listen at {address}")
        self._join(found)
        return peer

    async def reach(self, peer: PeerID) -> Link:
        """The link to a peer, connecting first if need be; a peer that nobody around knows is not found."""
        parse_peer_id(peer)
        link = self._link(peer)
        if peer in self.inbound:
            return link
        knows = self._network.is_mesh or peer in self._known
        knows = knows or any(node.is_connected(peer) for node in map(self._network.find, self.inbound) if node)
        await self.cross(link)
        target = self._network.find(peer)
        if target is None or not knows or self._node.is_crashed:
            raise PeerUnreachable(f"peer {peer} cannot be reached")
        self._join(target)
        return link

    async def cross(self, link: Link) -> None:
        """Take the time of one crossing; a cut link is waited for."""
        while link.is_cut:
            await link.healed.wait()
        await trio.sleep(link.delay_s + self._node.jitter_s())
        if self._node.is_crashed:
            raise PeerUnreachable("this node crashed")

    def reconnect(self) -> None:
        """Connect to whom we would find by ourselves, soon."""
        if self._network.is_mesh:
            for node in self._network.running():
                if node is not self._node:
                    self._node.after(self._link(node.peer_id).delay_s, partial(self._rejoin, node.peer_id))
        for address in self._bootstrap:
            self._node.after(RECONNECT_S / 10, partial(self._rejoin, split_address(address)[1]))

    def part(self, peer: PeerID) -> None:
        """End a connection, if there is one, on both sides."""
        other = self._network.any(peer)
        for here, there in ((self._node, peer), (other, self._node.peer_id)):
            if here is not None:
                here.streams.lose(there)
            if here is not None and here.connections.inbound.pop(there, None) is not None:
                here.connections._tell(PeerChange.DISCONNECTED, there)  # noqa: SLF001  both sides of one wire

    def lose_all(self) -> None:
        """End all of them."""
        for peer in list(self.inbound):
            self.part(peer)

    def expect_loss(self, peer: PeerID) -> None:
        """A cable was pulled: notice it after a while, unless it is back by then."""

        def notice() -> None:
            if self._link(peer).is_cut:
                self.part(peer)

        if peer in self.inbound:
            self._node.after(DETECT_S, notice)

    def _rejoin(self, peer: PeerID) -> None:
        if peer == self._node.peer_id or peer in self.inbound:
            return
        target = self._network.find(peer)
        if target is not None and not self._link(peer).is_cut:
            self._join(target)
        elif target is None and not self._network.is_mesh:
            self._node.after(RECONNECT_S, partial(self._rejoin, peer))

    def _join(self, target: MemoryNetwork) -> None:
        if target.peer_id in self.inbound:
            return
        delay_s = self._link(target.peer_id).delay_s
        for one, other, inbound in ((self._node, target, False), (target, self._node, True)):
            one.connections._take(other.peer_id, delay_s, inbound=inbound)  # noqa: SLF001  both sides of one wire

    def _take(self, peer: PeerID, delay_s: float, *, inbound: bool) -> None:
        self.inbound[peer] = inbound
        self.since_s[peer] = trio.current_time()
        self._known.add(peer)
        self._tell(PeerChange.CONNECTED, peer)
        self._node.after(2 * delay_s + self._node.jitter_s(), partial(self._identify, peer))

    def _identify(self, peer: PeerID) -> None:
        if peer in self.inbound:
            self._tell(PeerChange.IDENTIFIED, peer)

    def _tell(self, change: PeerChange, peer: PeerID) -> None:
        self._node.count(f"peers {change.value}")
        for listener in list(self._listeners.values()):
            listener(PeerEvent(change, peer))

    def _link(self, peer: PeerID) -> Link:
        return self._network.link(self._node.peer_id, peer)
