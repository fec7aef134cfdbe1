"""Our own questions: finding peers, values and providers, keeping values and provider records at others.

Knows nothing of sockets: it asks through a function, so whole networks of it run in memory. Every search has a deadline,
and every answer is a hint: values are validated, addresses proven by the handshake.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

import trio
from multiaddr import Multiaddr

from dms.network.errors import InvalidRecord, NetworkError
from dms.network.kademlia.keys import peer_bytes
from dms.network.kademlia.lookup import Lookup
from dms.network.kademlia.messages import Contact, Kind, Message, Record
from dms.network.kademlia.server import Usable
from dms.network.kademlia.table import BUCKET_SIZE, RoutingTable
from dms.network.kademlia.values import Validators
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

SEARCH_S = 30.0
"""The deadline of one search."""
ASK_S = 6.0
"""The deadline of one question, dialling included."""
QUORUM = 8
"""So many peers that have a value are enough to believe that it is the newest."""

Ask = Callable[[PeerID, Sequence[Multiaddr], Message], Awaitable[Message | None]]
"""Ask a peer, dialling it at these addresses if need be; raises NetworkError."""
OnAnswer = Callable[[PeerID, Message], bool]
"""Told of every answer; returns whether the search is over."""


class Queries:
    """Asks others.

    :param ask: how. :param usable: which of the addresses that we are told count.
    :param on_failed: told of peers that did not answer.
    """

    def __init__(
        self,
        table: RoutingTable,
        validators: Validators,
        *,
        ask: Ask,
        usable: Usable,
        on_failed: Callable[[PeerID], None],
    ) -> None:
        self._table = table
        self._validators = validators
        self._ask = ask
        self._usable = usable
        self._on_failed = on_failed

    async def closest(self, key: bytes, *, timeout_s: float = SEARCH_S) -> list[PeerID]:
        """The peers nearest to a key that answered, nearest first."""
        return (await self._search(key, Kind.FIND_NODE, lambda _peer, _answer: False, timeout_s)).closest()

    async def find_peer(self, peer: PeerID, *, timeout_s: float = SEARCH_S) -> tuple[Multiaddr, ...]:
        """Where a peer listens, as others say; the first answer that names it ends the search."""
        found: dict[Multiaddr, None] = {}

        def look(_peer: PeerID, answer: Message) -> bool:
            for contact in answer.closer:
                if contact.peer == peer:
                    found.update(dict.fromkeys(contact.addresses))
            return bool(found)

        await self._search(peer_bytes(peer), Kind.FIND_NODE, look, timeout_s)
        return tuple(found)

    async def get(
        self, key: bytes, wall_s: float, *, timeout_s: float = SEARCH_S, known: bytes | None = None
    ) -> bytes | None:
        """The best value that stands under a key; who has an older one or none, and should have it, is given it.

        :param known: a value that we have ourselves.
        """
        values: dict[PeerID, bytes] = {}

        def look(peer: PeerID, answer: Message) -> bool:
            if answer.record is not None and answer.record.key == key and self._holds(key, answer.record.value, wall_s):
                values[peer] = answer.record.value
            return len(values) >= QUORUM

        search = await self._search(key, Kind.GET_VALUE, look, timeout_s)
        candidates = [*values.values(), *([known] if known is not None else [])]
        if not candidates:
            return None
        best = self._validators.best(key, candidates)
        outdated = [peer for peer in search.closest() if values.get(peer) != best]
        if outdated:
            await self._put_at(outdated, key, best)
        return best

    async def put(self, key: bytes, value: bytes, *, timeout_s: float = SEARCH_S) -> int:
        """Have the nearest peers keep a value; returns how many do."""
        return await self._put_at(await self.closest(key, timeout_s=timeout_s), key, value)

    async def provide(self, key: bytes, own: Contact, *, timeout_s: float = SEARCH_S) -> int:
        """Have the nearest peers know that we provide a key; returns how many were told."""
        message = Message(Kind.ADD_PROVIDER, key, providers=(own,))
        return await self._tell_all(await self.closest(key, timeout_s=timeout_s), lambda _answer: True, message)

    async def providers(self, key: bytes, count: int, *, timeout_s: float = SEARCH_S) -> list[Contact]:
        """Up to ``count`` peers that provide a key, with what addresses were told of them."""
        found: dict[PeerID, Contact] = {}

        def look(_peer: PeerID, answer: Message) -> bool:
            for contact in answer.providers:
                before = found.get(contact.peer)
                if len(found) < count and (before is None or not before.addresses):
                    found[contact.peer] = contact
            return len(found) >= count

        await self._search(key, Kind.GET_PROVIDERS, look, timeout_s)
        return list(found.values())

    async def is_alive(self, peer: PeerID) -> bool:
        """Whether a peer of the table answers a question."""
        try:
            with trio.fail_after(ASK_S):
                await self._ask(peer, (), Message(Kind.FIND_NODE, peer_bytes(self._table.own)))
        except (NetworkError, trio.TooSlowError):
            self._on_failed(peer)
            return False
        return True

    # searching -------------------------------------------------------------------------------------------------------

    async def _search(self, key: bytes, kind: Kind, look: OnAnswer, timeout_s: float) -> Lookup:
        lookup = Lookup(key, self._table.closest(key, BUCKET_SIZE), own=self._table.own)
        hints: dict[PeerID, tuple[Multiaddr, ...]] = {}
        progress = trio.Event()

        async def ask_one(peer: PeerID) -> None:
            nonlocal progress
            answer = await self._answer_of(peer, hints.get(peer, ()), Message(kind, key))
            if answer is None:
                lookup.failed(peer)
            else:
                for contact in answer.closer:
                    hints.setdefault(contact.peer, contact.addresses)
                lookup.answered(peer, (one.peer for one in answer.closer))
                if look(peer, answer):
                    nursery.cancel_scope.cancel()
            progress.set()

        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                while not lookup.is_done:
                    progress = trio.Event()
                    for peer in lookup.next():
                        nursery.start_soon(ask_one, peer)
                    if not lookup.is_done:
                        await progress.wait()
                nursery.cancel_scope.cancel()
        return lookup

    async def _answer_of(self, peer: PeerID, addresses: Sequence[Multiaddr], request: Message) -> Message | None:
        try:
            with trio.fail_after(ASK_S):
                answer = await self._ask(peer, addresses, request)
        except (NetworkError, trio.TooSlowError) as error:
            log.debug("asking %s in the hash table: %r", peer, error)
            self._on_failed(peer)
            return None
        if answer is None or answer.kind is not request.kind:
            return None
        closer = [one for one in self._cleaned(peer, answer.closer) if one.addresses]
        return replace(answer, closer=tuple(closer), providers=tuple(self._cleaned(peer, answer.providers)))

    def _cleaned(self, teller: PeerID, contacts: Iterable[Contact]) -> list[Contact]:
        """Without ourselves, and without addresses at which nobody would dial."""
        own = self._table.own
        return [
            replace(one, addresses=tuple(self._usable(teller, one.addresses))) for one in contacts if one.peer != own
        ]

    async def _put_at(self, peers: Iterable[PeerID], key: bytes, value: bytes) -> int:
        message = Message(Kind.PUT_VALUE, key, Record(key, value))
        return await self._tell_all(peers, lambda answer: answer is not None and answer.record is not None, message)

    async def _tell_all(
        self, peers: Iterable[PeerID], is_done: Callable[[Message | None], bool], message: Message
    ) -> int:
        done = 0

        async def tell_one(peer: PeerID) -> None:
            nonlocal done
            try:
                with trio.fail_after(ASK_S):
                    done += is_done(await self._ask(peer, (), message))
            except (NetworkError, trio.TooSlowError) as error:
                log.debug("telling %s in the hash table: %r", peer, error)

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(tell_one, peer)
        return done

    def _holds(self, key: bytes, value: bytes, wall_s: float) -> bool:
        try:
            self._validators.validate(key, value, wall_s)
        except InvalidRecord:
            return False
        return True
