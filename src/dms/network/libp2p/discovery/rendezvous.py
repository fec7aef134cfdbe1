"""Meeting at the rendezvous: everybody of a network provides one key of the hash table, and looks who else does."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence

import trio
from multiaddr import Multiaddr

from dms.network.errors import NetworkError
from dms.network.kademlia.keys import provider_key
from dms.network.kademlia.messages import Contact
from dms.network.kademlia.node import Kademlia
from dms.network.libp2p.discovery.rounds import DIAL_S, MAX_DIALLED, MAX_FOUND
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

ENOUGH_CONNECTIONS = 100
"""With so many nobody new is dialled for the sake of it."""

Dial = Callable[[PeerID, Sequence[Multiaddr]], Awaitable[None]]


def choose(
    found: Sequence[Contact],
    *,
    without: Sequence[PeerID],
    known: Callable[[PeerID], Sequence[Multiaddr]],
    rng: random.Random,
    count: int = MAX_DIALLED,
) -> list[Contact]:
    """Whom to dial of those found: random ones that are new, and of whom an address is known."""
    usable = []
    for contact in found:
        addresses = tuple(contact.addresses) or tuple(known(contact.peer))
        if contact.peer not in without and addresses:
            usable.append(Contact(contact.peer, addresses))
    return usable if len(usable) <= count else rng.sample(usable, count)


class Rendezvous:
    """Advertises and searches."""

    def __init__(
        self,
        node: Kademlia,
        name: str,
        *,
        own_addresses: Callable[[], Sequence[Multiaddr]],
        known: Callable[[PeerID], Sequence[Multiaddr]],
        connected: Callable[[], Sequence[PeerID]],
        dial: Dial,
    ) -> None:
        self._node = node
        self._key = provider_key(name)
        self._own_addresses = own_addresses
        self._known = known
        self._connected = connected
        self._dial = dial

    async def advertise(self) -> bool:
        """Say that we exist; returns whether anybody was told."""
        node = self._node
        own = Contact(node.own, tuple(self._own_addresses()), is_connected=True)
        node.providers.add(self._key, node.own, own.addresses, trio.current_time())
        return await node.queries.provide(self._key, own) > 0

    async def search(self) -> bool:
        """Dial some of those who said so; returns whether there was anybody to ask."""
        node = self._node
        if not len(node.table):
            return False
        if len(self._connected()) >= ENOUGH_CONNECTIONS:
            return True
        found = await node.find_providers(self._key, MAX_FOUND)
        chosen = choose(found, without=[*self._connected(), node.own], known=self._known, rng=node.rng)
        async with trio.open_nursery() as nursery:
            for contact in chosen:
                nursery.start_soon(self._try_dial, contact)
        return True

    async def _try_dial(self, contact: Contact) -> None:
        try:
            with trio.fail_after(DIAL_S):
                await self._dial(contact.peer, contact.addresses)
        except (NetworkError, trio.TooSlowError) as error:
            log.debug("dialling %s, met at the rendezvous: %r", contact.peer, error)
