"""Which peer has which address (``spec/network.md`` 7.1): several addresses may live at one peer.

The keys are the bytes that stand in packets, so that a look-up costs one slice and one dictionary access.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from dms.subnet.addresses import host_of
from dms.types.ids import PeerID

_V6_BYTES = 16


class RoutingTable:
    """Of one network."""

    def __init__(self, network: IPv4Network, prefix: IPv6Network) -> None:
        self.network = network
        self._v6_head = prefix.network_address.packed[:12]
        self._peers: dict[bytes, PeerID] = {}
        self._addresses: dict[PeerID, dict[bytes, None]] = {}

    def add(self, address: str | IPv4Address, peer: PeerID) -> PeerID | None:
        """Give an address to a peer; returns who had it before. An existing pair changes nothing.

        :raises InvalidIP: it is no address of the network.
        """
        key = host_of(self.network, address).packed
        before = self._peers.get(key)
        if before == peer:
            return None
        if before is not None:
            self._drop(key, before)
        self._peers[key] = peer
        self._addresses.setdefault(peer, {})[key] = None
        return before

    def add_all(self, table: Mapping[str, PeerID]) -> None:
        """Add many; none, if one is wrong.

        :raises InvalidIP: one is no address of the network.
        """
        for address in table:
            host_of(self.network, address)
        for address, peer in table.items():
            self.add(address, peer)

    def remove(self, address: str | IPv4Address, peer: PeerID | None = None) -> bool:
        """Take back this address only, and only from the peer where one is named; whether it was there.

        :raises InvalidIP: it is no address of the network.
        """
        key = host_of(self.network, address).packed
        owner = self._peers.get(key)
        if owner is None or (peer is not None and owner != peer):
            return False
        self._drop(key, owner)
        return True

    def remove_peer(self, peer: PeerID) -> tuple[IPv4Address, ...]:
        """Take back all that a peer has."""
        gone = self.addresses_of(peer)
        for address in gone:
            self._drop(address.packed, peer)
        return gone

    def lookup(self, packed: bytes) -> PeerID | None:
        """Who has the address with these 4 or 16 bytes."""
        if len(packed) == _V6_BYTES:
            if packed[:12] != self._v6_head:
                return None
            packed = packed[12:]
        return self._peers.get(packed)

    def peer_of(self, address: str | IPv4Address) -> PeerID | None:
        """Who has this address."""
        return self._peers.get(IPv4Address(address).packed)

    def addresses_of(self, peer: PeerID) -> tuple[IPv4Address, ...]:
        """What a peer has, in the order in which it got it."""
        return tuple(IPv4Address(key) for key in self._addresses.get(peer, ()))

    def peers(self) -> tuple[PeerID, ...]:
        """Everybody who has an address."""
        return tuple(self._addresses)

    def __contains__(self, peer: object) -> bool:
        return peer in self._addresses

    def __len__(self) -> int:
        return len(self._peers)

    def to_wire(self) -> dict[str, PeerID]:
        """The table as requests carry it."""
        return {str(IPv4Address(key)): peer for key, peer in self._peers.items()}

    def _drop(self, key: bytes, owner: PeerID) -> None:
        del self._peers[key]
        left = self._addresses[owner]
        del left[key]
        if not left:
            del self._addresses[owner]
