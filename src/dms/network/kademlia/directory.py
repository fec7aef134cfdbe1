"""Advertisements on the hash table: one's own are signed, kept at the nearest peers, and renewed; others' are looked up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio
from multiaddr import Multiaddr

from dms.identity.keys import PrivateKey
from dms.network.directory import (
    MAX_DATA_BYTES,
    MAX_KEY_CHARS,
    MAX_OWN_KEYS,
    Advertisement,
    DirectoryState,
    RoutingEntry,
)
from dms.network.errors import InvalidRecord, MessageTooLarge
from dms.network.kademlia.advertisements import SignedRecord, record_key, seal, unseal
from dms.network.kademlia.keys import provider_key
from dms.network.kademlia.messages import Contact
from dms.network.kademlia.node import Kademlia
from dms.types.errors import BadInput
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

RENEW_S = 6 * 3600.0
RETRY_S = 60.0
"""How soon an advertisement that nobody took is offered again."""
MAX_ANSWERS = 40
"""Providers whose advertisements one query fetches."""
FETCH_AT_ONCE = 8
QUERY_S = 45.0


def check_key(key: str) -> str:
    """The same key, if it may be one.

    :raises BadInput: it is empty or too long.
    """
    if not 0 < len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise BadInput(f"the key of an advertisement has 1 to {MAX_KEY_CHARS} printable characters, not {key[:80]!r}")
    return key


def check_data(data: bytes) -> bytes:
    """The same data, if it is not too much.

    :raises MessageTooLarge: it is.
    """
    if len(data) > MAX_DATA_BYTES:
        raise MessageTooLarge(f"message too large: {len(data)} bytes, an advertisement has at most {MAX_DATA_BYTES}")
    return data


@dataclass(slots=True)
class _Own:
    data: bytes
    sequence: int = 0
    renew_at_s: float = 0.0


class KademliaDirectory:
    """Implements :class:`dms.network.directory.Directory`.

    :param signer: the node's own key.
    :param own_addresses: where we listen. :param known_addresses: where others do, as far as we know.
    :param require_running: raises NotRunning while the network does not run.
    """

    def __init__(
        self,
        node: Kademlia,
        signer: PrivateKey,
        *,
        own_addresses: Callable[[], Sequence[Multiaddr]],
        known_addresses: Callable[[PeerID], Sequence[Multiaddr]],
        is_connected: Callable[[PeerID], bool],
        is_serving: Callable[[], bool],
        protocol: str,
        require_running: Callable[[], object] = lambda: None,
    ) -> None:
        self._node = node
        self._signer = signer
        self._own_addresses = own_addresses
        self._known_addresses = known_addresses
        self._is_connected = is_connected
        self._is_serving = is_serving
        self._protocol = protocol
        self._require_running = require_running
        self._own: dict[str, _Own] = {}

    async def advertise(self, key: str, data: bytes) -> None:
        """Say something under a key, and renew it until :meth:`withdraw`; a second call replaces the first.

        :raises MessageTooLarge: too much data.
        :raises BadInput: the key cannot be one, or there are too many already.
        """
        check_key(key)
        check_data(data)
        self._require_running()
        if key not in self._own and len(self._own) >= MAX_OWN_KEYS:
            raise BadInput(f"a node advertises under at most {MAX_OWN_KEYS} keys")
        own = self._own[key] = _Own(data, self._own[key].sequence if key in self._own else 0)
        await self._renew(key, own)

    async def withdraw(self, key: str) -> None:
        """Take it back; only the owner can. Unknown keys are ignored."""
        self._require_running()
        own = self._own.pop(key, None)
        if own is not None:
            await self._publish(key, own, is_withdrawn=True)

    async def query(self, key: str) -> list[Advertisement]:
        """What peers say under a key, ours included.

        :raises BadInput: the key cannot be one.
        """
        check_key(key)
        self._require_running()
        found: list[Advertisement] = []
        limit = trio.CapacityLimiter(FETCH_AT_ONCE)

        async def fetch(peer: PeerID) -> None:
            async with limit:
                record = await self._fetch(key, peer)
            if record is not None and not record.is_withdrawn:
                found.append(record.advertisement(key, self._node.wall_s()))

        with trio.move_on_after(QUERY_S):
            contacts = await self._node.find_providers(provider_key(key), MAX_ANSWERS)
            peers = dict.fromkeys(contact.peer for contact in contacts)
            if key in self._own:
                peers[self._node.own] = None
            async with trio.open_nursery() as nursery:
                for peer in peers:
                    nursery.start_soon(fetch, peer)
        return found

    async def find(self, peer: PeerID) -> tuple[str, ...]:
        """Where a peer listens; empty when nobody knows."""
        self._require_running()
        known = self._known_addresses(peer)
        if not self._is_connected(peer):
            known = await self._node.queries.find_peer(peer) or known
        return tuple(str(one) for one in known)

    def state(self) -> DirectoryState:
        """The routing table and what is kept."""
        now_s = trio.current_time()
        entries = [
            RoutingEntry(
                entry.peer,
                tuple(str(one) for one in self._known_addresses(entry.peer)),
                entry.bucket,
                now_s - entry.since_s,
                now_s - entry.heard_s,
                self._is_connected(entry.peer),
            )
            for entry in sorted(self._node.table, key=lambda one: (-one.bucket, one.peer))
        ]
        return DirectoryState(
            self._is_serving(),
            self._protocol,
            entries,
            len(self._node.values),
            len(self._node.providers),
            tuple(sorted(self._own)),
        )

    async def renew(self) -> None:
        """Renew our own advertisements when their time has come, until cancelled."""
        while True:
            await trio.sleep(RETRY_S)
            for key, own in list(self._own.items()):
                if own.renew_at_s <= trio.current_time() and len(self._node.table):
                    await self._renew(key, own)

    # one's own -------------------------------------------------------------------------------------------------------

    async def _renew(self, key: str, own: _Own) -> None:
        own.renew_at_s = trio.current_time()
        kept = await self._publish(key, own, is_withdrawn=False)
        if kept:
            own.renew_at_s += RENEW_S * self._node.rng.uniform(0.8, 1.0)
        log.debug("advertisement %r is kept by %d peers", key, kept)

    async def _publish(self, key: str, own: _Own, *, is_withdrawn: bool) -> int:
        node = self._node
        place = record_key(key, node.own)
        own.sequence = await self._next_sequence(place, own.sequence)
        value = seal(
            self._signer,
            key,
            b"" if is_withdrawn else own.data,
            sequence=own.sequence,
            wall_s=node.wall_s(),
            is_withdrawn=is_withdrawn,
        )
        try:
            node.values.put(place, value, node.own, node.wall_s())
        except InvalidRecord as error:
            log.debug("our own record is not kept here: %s", error)
        kept = await node.queries.put(place, value)
        if not is_withdrawn:
            provided = provider_key(key)
            node.providers.add(provided, node.own, tuple(self._own_addresses()), trio.current_time())
            await node.queries.provide(provided, Contact(node.own, tuple(self._own_addresses()), is_connected=True))
        return kept

    async def _next_sequence(self, place: bytes, before: int) -> int:
        """Higher than all before, those of an earlier start and of a faster clock included."""
        known = before
        if not before:
            found = await self._read(place)
            known = found.sequence if found is not None and not found.is_legacy else 0
        return max(known + 1, int(self._node.wall_s() * 1000))

    # others' ---------------------------------------------------------------------------------------------------------

    async def _fetch(self, key: str, peer: PeerID) -> SignedRecord | None:
        return await self._read(record_key(key, peer))

    async def _read(self, place: bytes) -> SignedRecord | None:
        stored = self._node.values.get(place, self._node.wall_s())
        known = stored.value if stored is not None else None
        value = await self._node.queries.get(place, self._node.wall_s(), known=known)
        return unseal(value) if value is not None else None
