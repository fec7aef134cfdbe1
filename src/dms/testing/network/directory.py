"""The directory of a virtual network: records at the nodes that could be reached when they were made, no signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dms.network.directory import MAX_OWN_KEYS, Advertisement, DirectoryState, RoutingEntry
from dms.network.kademlia.advertisements import LIFETIME_S
from dms.network.kademlia.directory import check_data, check_key
from dms.network.kademlia.keys import position_of_peer, shared_bits
from dms.types.errors import BadInput
from dms.types.ids import PeerID

if TYPE_CHECKING:
    from dms.testing.network.fabric import VirtualNetwork
    from dms.testing.network.node import MemoryNetwork

STEPS = 3
"""Links that a question crosses, there and back: a hash table asks a few peers one after the other."""


class MemoryDirectory:
    """Implements :class:`dms.network.directory.Directory`; unix time is the virtual clock's."""

    def __init__(self, network: VirtualNetwork, node: MemoryNetwork) -> None:
        self._network = network
        self._node = node
        self._own: dict[str, int] = {}
        self._kept: dict[tuple[str, PeerID], tuple[Advertisement, bool]] = {}

    async def advertise(self, key: str, data: bytes) -> None:
        """Say something under a key.

        :raises MessageTooLarge: too much data.
        :raises BadInput: the key cannot be one, or there are too many already.
        """
        check_key(key)
        check_data(data)
        if key not in self._own and len(self._own) >= MAX_OWN_KEYS:
            raise BadInput(f"a node advertises under at most {MAX_OWN_KEYS} keys")
        await self._publish(key, data, is_withdrawn=False)

    async def withdraw(self, key: str) -> None:
        """Take it back."""
        self._node.require_running()
        if key in self._own:
            await self._publish(key, b"", is_withdrawn=True)
            del self._own[key]

    async def query(self, key: str) -> list[Advertisement]:
        """What peers say under a key, as far as nodes around know."""
        check_key(key)
        await self._take_time()
        newest: dict[PeerID, tuple[Advertisement, bool]] = {}
        for node in self._around():
            for (kept_key, peer), (record, is_withdrawn) in node.directory._kept.items():  # noqa: SLF001  its twin
                before = newest.get(peer)
                if kept_key != key or record.expires_s < trio.current_time():
                    continue
                if before is None or before[0].sequence < record.sequence:
                    newest[peer] = record, is_withdrawn
        return [record for _, (record, is_withdrawn) in sorted(newest.items()) if not is_withdrawn]

    async def find(self, peer: PeerID) -> tuple[str, ...]:
        """Where a peer listens, if anybody around is connected to it."""
        await self._take_time()
        found = next((node for node in self._around() if node.peer_id == peer), None)
        return tuple(one.partition("/p2p/")[0] for one in found.listen_addresses) if found is not None else ()

    def knows(self, peer: PeerID) -> bool:
        """Whether a search would find a peer."""
        return any(node.peer_id == peer for node in self._around())

    def state(self) -> DirectoryState:
        """Everybody connected is in the routing table."""
        own = position_of_peer(self._node.peer_id)
        now_s = trio.current_time()
        return DirectoryState(
            is_serving=True,
            protocol="/nunet/kad/1.0.0",
            entries=[
                RoutingEntry(
                    info.peer,
                    tuple(one.partition("/p2p/")[0] for one in info.addresses),
                    shared_bits(position_of_peer(info.peer), own),
                    info.since_s,
                    0.0,
                    is_connected=True,
                )
                for info in self._node.peers()
            ],
            records=sum(
                peer != self._node.peer_id and one.expires_s > now_s for (_, peer), (one, _) in self._kept.items()
            ),
            advertised=tuple(sorted(self._own)),
        )

    async def _publish(self, key: str, data: bytes, *, is_withdrawn: bool) -> None:
        await self._take_time()
        sequence = self._own[key] = self._own.get(key, 0) + 1
        expires_s = trio.current_time() + LIFETIME_S
        record = Advertisement(key, self._node.peer_id, data, sequence, expires_s)
        for node in self._around():
            node.directory._kept[key, self._node.peer_id] = record, is_withdrawn  # noqa: SLF001  its twin

    async def _take_time(self) -> None:
        self._node.require_running()
        delays_s = [self._network.link(self._node.peer_id, peer).delay_s for peer in self._node.connections.inbound]
        await trio.sleep(2 * STEPS * max(delays_s, default=0.0) + self._node.jitter_s())
        self._node.require_running()

    def _around(self) -> list[MemoryNetwork]:
        """This node, and everybody to whom a chain of whole connections leads."""
        found = {self._node.peer_id: self._node}
        edge = [self._node]
        while edge:
            here = edge.pop()
            for peer in sorted(here.connections.inbound):
                there = self._network.find(peer)
                if there is not None and peer not in found and not self._network.link(here.peer_id, peer).is_cut:
                    found[peer] = there
                    edge.append(there)
        return list(found.values())
