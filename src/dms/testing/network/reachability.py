"""How the nodes of a virtual network are reached: a node learns from its neighbours what they find, as a real one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dms.network.addresses import ip_of, split_address
from dms.network.reachability import AddressCheck, ObservedAddress, Reach, ReachabilityReport, RelayReservation
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork
    from dms.testing.network.node import MemoryNetwork

NEEDED = 3
"""Neighbours who must agree on our address."""
LASTS_S = 3600.0


class MemoryReachability:
    """Implements :class:`dms.network.reachability.Reachability`.

    ``is_public`` is what there is to find out; a test may change it.
    """

    def __init__(self, network: VirtualNetwork, node: MemoryNetwork) -> None:
        self.is_public = not node.nat
        self._network = network
        self._node = node
        self._asked: tuple[PeerID, ...] = ()

    def report(self) -> ReachabilityReport:
        """What the neighbours said at the last :meth:`probe`."""
        addresses = self._node.listen_addresses
        if not addresses or not self._asked:
            return ReachabilityReport(Reach.UNKNOWN, announced=addresses, why="nobody was asked yet")
        reached, failed = (self._asked, ()) if self.is_public else ((), self._asked)
        why = "" if self.is_public else "no answer"
        return ReachabilityReport(
            Reach.PUBLIC if self.is_public else Reach.PRIVATE,
            confidence=len(self._asked),
            announced=addresses,
            observed=(ObservedAddress(self._ip(), self._asked, len(self._asked) >= NEEDED),),
            checks=tuple(AddressCheck(address, reached, failed, why) for address in addresses),
            relays=() if self.is_public else self._relays(),
            has_relay_service=self._node.is_relay and self.is_public,
            why=f"{len(self._asked)} peers dialled this node" + ("" if self.is_public else " and could not"),
        )

    async def probe(self, *, timeout_s: float = 20.0) -> ReachabilityReport:
        """Ask the neighbours, which takes one round trip to the farthest."""
        peers = tuple(info.peer for info in self._node.peers())
        rtts_s = [info.rtt_s or 0.0 for info in self._node.peers()]
        with trio.move_on_after(timeout_s):
            await trio.sleep(max(rtts_s, default=0.0))
            self._asked = peers
        return self.report()

    def public_ip(self) -> str | None:
        """The address of the node, once enough neighbours were asked."""
        return self._ip() if len(self._asked) >= NEEDED else None

    def _relays(self) -> tuple[RelayReservation, ...]:
        """Those of our peers that pass on what others send us; they need no reservation here."""
        found = (self._network.find(info.peer) for info in self._node.peers() if not info.is_relayed)
        return tuple(
            RelayReservation(one.peer_id, one.listen_addresses, LASTS_S) for one in found if one and one.is_relay
        )

    def _ip(self) -> str:
        addresses = self._node.listen_addresses
        return str(ip_of(split_address(addresses[0])[0])) if addresses else ""
