"""One node of the hash table: its routing table and stores, its answers and questions, and its chores.

Free of sockets. :mod:`dms.network.libp2p.discovery.dht` gives it streams; tests give it neighbours in memory.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

import trio
from multiaddr import Multiaddr

from dms.network.kademlia.advertisements import NAMESPACE, AdvertisementValidator
from dms.network.kademlia.keys import key_near
from dms.network.kademlia.messages import Contact, Message
from dms.network.kademlia.providers import ProviderStore
from dms.network.kademlia.queries import Ask, Queries
from dms.network.kademlia.server import Server, Tell, Usable
from dms.network.kademlia.table import RoutingTable, group_of
from dms.network.kademlia.values import PublicKeyValidator, Validators, ValueStore
from dms.types.ids import PeerID

CHORES_S = 60.0
UNHEARD_S = 600.0
"""Peers of the table that were silent for so long are asked whether they are still there."""
CHECKS_AT_ONCE = 8


class Kademlia:
    """A node of the hash table.

    :param ask: asks a peer, dialling it at these addresses if need be; raises NetworkError.
    :param addresses_of: the known addresses of a peer; :param tell: those of the second peer that the first may know.
    :param usable: those of the addresses told by a peer at which we would dial.
    :param wall_s: unix time; everything else goes by trio's clock.
    """

    def __init__(
        self,
        own: PeerID,
        *,
        ask: Ask,
        addresses_of: Callable[[PeerID], Sequence[Multiaddr]],
        tell: Tell,
        usable: Usable,
        is_connected: Callable[[PeerID], bool],
        counters: Counter[str],
        rng: random.Random,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.own = own
        self.wall_s = wall_s
        self.rng = rng
        self.table = RoutingTable(own)
        self.validators = Validators({NAMESPACE: AdvertisementValidator(), "pk": PublicKeyValidator()})
        self.values = ValueStore(self.table.own_position, self.validators)
        self.providers = ProviderStore(self.table.own_position)
        self.queries = Queries(
            self.table, self.validators, ask=self._ask_and_note, usable=usable, on_failed=self.table.remove
        )
        self._ask = ask
        self._addresses_of = addresses_of
        self._server = Server(
            self.table,
            self.values,
            self.providers,
            tell=tell,
            usable=usable,
            is_connected=is_connected,
            counters=counters,
            rng=rng,
        )

    def serves(self, peer: PeerID) -> None:
        """A peer said that it serves the hash table."""
        self.table.heard(peer, trio.current_time(), group=group_of(self._addresses_of(peer)))

    def serves_not(self, peer: PeerID) -> None:
        """A peer said that it does not."""
        self.table.remove(peer)

    def answer(self, asker: PeerID, request: Message) -> Message | None:
        """Answer a question; nothing where none is expected.

        :raises BadFrame: it makes no sense, or comes too often.
        :raises InvalidRecord: the value to be kept does not hold.
        """
        if asker in self.table:
            self.table.heard(asker, trio.current_time())
        return self._server.answer(asker, request, trio.current_time(), self.wall_s())

    async def tend(self) -> None:
        """Ask the silent whether they are there, and drop what is too old, until cancelled."""
        while True:
            await trio.sleep(CHORES_S * self.rng.uniform(0.8, 1.2))
            now_s = trio.current_time()
            self.values.sweep(self.wall_s())
            self.providers.sweep(now_s)
            async with trio.open_nursery() as nursery:
                for peer in self.table.unheard(now_s - UNHEARD_S, CHECKS_AT_ONCE):
                    nursery.start_soon(self.queries.is_alive, peer)

    async def find_providers(self, key: bytes, count: int) -> list[Contact]:
        """Up to ``count`` peers that provide a key: those that told us, and those that others know."""
        here = self.providers.get(key, trio.current_time(), count, self.rng)
        found = {one.peer: Contact(one.peer, one.addresses) for one in here if one.peer != self.own}
        if len(found) < count:
            for contact in await self.queries.providers(key, count):
                found.setdefault(contact.peer, contact)
        return list(found.values())[:count]

    async def walk(self, depth: int) -> int:
        """Look around: near ourselves, then for random keys in every part of the table, at most ``depth`` searches.

        Returns how many peers are in the table then.
        """
        own = self.table.own_position
        await self.queries.closest(key_near(own, self.table.deepest() + 1, self.rng))
        for bits in range(min(self.table.deepest() + 1, depth - 1)):
            await self.queries.closest(key_near(own, bits, self.rng))
        return len(self.table)

    async def _ask_and_note(self, peer: PeerID, addresses: Sequence[Multiaddr], request: Message) -> Message | None:
        answer = await self._ask(peer, addresses, request)
        self.table.heard(peer, trio.current_time(), group=group_of(self._addresses_of(peer)))
        return answer
