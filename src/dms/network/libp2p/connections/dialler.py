"""Getting a connection to a peer: at a given address, at one that is known, or at one that connected peers know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from dms.network.addresses import AddressBook, dial_order, is_loopback, is_relay, parse_peer_id, split_address
from dms.network.errors import PeerUnreachable
from dms.network.libp2p.connections.names import id_of, name_of
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.types.ids import PeerID

Find = Callable[[PeerID], Awaitable[bool]]
"""Looks for a peer elsewhere; true once it is connected."""
Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""An address, or those to which its name in DNS points."""

MAX_ADDRESSES = 8
"""Addresses of one peer that one dial tries."""


async def nowhere(_peer: PeerID) -> bool:
    """Looks nowhere."""
    return False


class Dialler:
    """Connects to peers.

    ``find`` is asked for peers whose address is not known, or is no longer right.
    """

    def __init__(self, own: PeerID, book: AddressBook, resolve: Resolve) -> None:
        self._own = own
        self._book = book
        self._resolve = resolve
        self.find: Find = nowhere

    async def connect(self, swarm: GuardedSwarm, address: str, timeout_s: float) -> PeerID:
        """Dial a multiaddress that ends in ``/p2p/<id>``, or a bare peer id.

        :raises InvalidAddress: it cannot be parsed.
        :raises PeerUnreachable: no answer before the deadline, or somebody else answered, or it is our own.
        """
        if not address.startswith("/"):
            peer = parse_peer_id(address)
            self._refuse_self(peer)
            await self.reach(swarm, peer, timeout_s)
            return peer
        try:
            with trio.fail_after(timeout_s):
                texts = await self._resolve(address)
                target, peer = split_address(texts[0])
                self._refuse_self(peer)
                await self.dial(swarm, peer, [target, *(split_address(text)[0] for text in texts[1:MAX_ADDRESSES])])
        except trio.TooSlowError:
            raise PeerUnreachable(f"{address} does not answer within {timeout_s:g} s") from None
        return peer

    async def reach(self, swarm: GuardedSwarm, peer: PeerID, timeout_s: float) -> None:
        """Make sure that a connection exists: at a known address, or at one that others know.

        :raises PeerUnreachable: none of them answered in time.
        """
        target = id_of(peer)
        if swarm.get_connections(target):
            return
        try:
            with trio.fail_after(timeout_s):
                problem = "no known address"
                if self._book.addresses(peer):
                    try:
                        await swarm.dial_peer(target)
                        return
                    except SwarmException as error:
                        problem = str(error)
                if await self.find(peer):
                    return
        except trio.TooSlowError:
            raise PeerUnreachable(f"peer {peer} does not answer within {timeout_s:g} s") from None
        raise PeerUnreachable(
            f"peer {peer} cannot be reached: {problem}, and neither connected peers nor the hash table know better"
        )

    async def dial(self, swarm: GuardedSwarm, peer: PeerID, addresses: Sequence[Multiaddr]) -> None:
        """Connect at one of these addresses, unless a connection exists; they are remembered when that works.

        :raises PeerUnreachable: none of them answered.
        """
        if swarm.get_connections(id_of(peer)):
            return
        try:
            await swarm.dial_at(id_of(peer), addresses)
        except SwarmException as error:
            raise PeerUnreachable(f"peer {peer} cannot be reached: {error}") from error
        self._book.learn(peer, addresses)

    def known_addresses(self, peer: ID) -> Sequence[Multiaddr]:
        """Where the peer was last."""
        return dial_order(self._book.addresses(name_of(peer)), MAX_ADDRESSES)

    def _refuse_self(self, peer: PeerID) -> None:
        if peer == self._own:
            raise PeerUnreachable("can't dial self")


def is_nearby(swarm: GuardedSwarm, peer: PeerID) -> bool:
    """Whether the peer's loopback addresses are ours, too: it is connected over one."""
    return any(
        is_loopback(address) and not is_relay(address)
        for conn in swarm.get_connections(id_of(peer))
        for address in conn.get_transport_addresses()
    )
