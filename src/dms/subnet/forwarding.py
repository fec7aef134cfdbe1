"""Where a packet goes: the decision, without carrying it out.

Two questions for each packet. May who sent it use its source address? A member's device may use its own addresses only,
a peer those that the routing table gives it. And where is its destination: at a member here, at a peer, at the gateway?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from dms.subnet.packets import Header
from dms.subnet.routing import RoutingTable
from dms.subnet.tally import Drop
from dms.types.ids import PeerID

PortT = TypeVar("PortT")


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Send it to a peer."""

    peer: PeerID


@dataclass(frozen=True, slots=True)
class ToPort(Generic[PortT]):
    """Hand it to a member on this node."""

    port: PortT


class ToGateway:
    """It is for the gateway."""


TO_GATEWAY = ToGateway()


class Forwarder(Generic[PortT]):
    """Of one network on one node. A port is whatever the caller hands packets to."""

    def __init__(self, own: PeerID, table: RoutingTable, gateways: tuple[bytes, ...]) -> None:
        self._own, self._table, self._gateways = own, table, gateways
        self._ports: dict[bytes, ToPort[PortT]] = {}
        self._to_peer: dict[PeerID, ToPeer] = {}

    def attach(self, addresses: tuple[bytes, ...], port: PortT) -> None:
        """Packets to these addresses go to this port from now on."""
        for address in addresses:
            self._ports[address] = ToPort(port)

    def detach(self, addresses: tuple[bytes, ...]) -> None:
        """They have no port any more."""
        for address in addresses:
            self._ports.pop(address, None)

    def outbound(self, header: Header, allowed: frozenset[bytes]) -> ToPeer | ToPort[PortT] | ToGateway | Drop:
        """A packet from a member here, which may use these source addresses."""
        destination = header.destination
        if _is_multicast(destination):
            return Drop.MULTICAST
        if header.source not in allowed:
            return Drop.FORGED_SOURCE
        port = self._ports.get(destination)
        if port is not None:
            return port
        if destination in self._gateways:
            return TO_GATEWAY
        peer = self._table.lookup(destination)
        if peer is None or peer == self._own:
            return Drop.NO_ROUTE
        found = self._to_peer.get(peer)
        if found is None:
            found = self._to_peer[peer] = ToPeer(peer)
        return found

    def inbound(self, header: Header, sender: PeerID) -> ToPort[PortT] | Drop:
        """A packet from a peer."""
        if self._table.lookup(header.source) != sender:
            return Drop.FORGED_SOURCE
        return self._ports.get(header.destination, Drop.NOT_OURS)

    def forget_peer(self, peer: PeerID) -> None:
        """It is no member any more."""
        self._to_peer.pop(peer, None)


def _is_multicast(address: bytes) -> bool:
    """Multicast and broadcast, of either family."""
    return address[0] == 0xFF or (len(address) == 4 and address[0] >= 0xE0)
