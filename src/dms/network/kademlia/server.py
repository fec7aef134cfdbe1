"""Answers to the questions of others: what is near a key, what stands there, who provides it. Pure.

Everything a peer may make us keep is bounded by the stores; how often it may ask is bounded here.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from multiaddr import Multiaddr

from dms.network.errors import BadFrame, InvalidAddress, InvalidRecord
from dms.network.kademlia.keys import MAX_KEY_BYTES, peer_of_bytes
from dms.network.kademlia.messages import Contact, Kind, Message, Record, received_at
from dms.network.kademlia.providers import ProviderStore
from dms.network.kademlia.table import BUCKET_SIZE, RoutingTable
from dms.network.kademlia.values import ValueStore
from dms.types.ids import PeerID

MAX_PROVIDERS_TOLD = 40
MAX_PROVIDER_KEY_BYTES = 80
REQUESTS_PER_S = 50.0
REQUESTS_AT_ONCE = 500
MAX_REMEMBERED_ASKERS = 4096

Usable = Callable[[PeerID, Sequence[Multiaddr]], Sequence[Multiaddr]]
"""Those of the addresses, told by this peer, at which anybody would dial."""
Tell = Callable[[PeerID, PeerID], Sequence[Multiaddr]]
"""The addresses of the second peer that may be told to the first."""


class Server:
    """Answers.

    :param tell: which addresses of a peer an asker may know. :param usable: which of those that an asker says it has count.
    :param is_connected: whether there is a live connection to a peer.
    """

    def __init__(
        self,
        table: RoutingTable,
        values: ValueStore,
        providers: ProviderStore,
        *,
        tell: Tell,
        usable: Usable,
        is_connected: Callable[[PeerID], bool],
        counters: Counter[str],
        rng: random.Random,
    ) -> None:
        self._table = table
        self._values = values
        self._providers = providers
        self._tell = tell
        self._usable = usable
        self._is_connected = is_connected
        self._counters = counters
        self._rng = rng
        self._allowances: dict[PeerID, tuple[float, float]] = {}

    def answer(self, asker: PeerID, request: Message, now_s: float, wall_s: float) -> Message | None:
        """The answer; nothing where none is expected.

        :raises BadFrame: the request makes no sense, or comes too often.
        :raises InvalidRecord: the value to be kept does not hold.
        """
        if not self._may_ask(asker, now_s):
            self._counters["dht requests refused: too many"] += 1
            raise BadFrame("too many requests")
        self._counters[f"dht requests: {request.kind.name.lower().replace('_', ' ')}"] += 1
        if request.kind is Kind.PING:
            return Message(Kind.PING)
        if not 0 < len(request.key) <= MAX_KEY_BYTES:
            raise BadFrame("a request for a key that is empty or too long")
        if request.kind is Kind.FIND_NODE:
            return Message(Kind.FIND_NODE, request.key, closer=self._near(asker, request.key, also=request.key))
        if request.kind is Kind.GET_VALUE:
            return self._get_value(asker, request.key, wall_s)
        if request.kind is Kind.PUT_VALUE:
            return self._put_value(asker, request, wall_s)
        if len(request.key) > MAX_PROVIDER_KEY_BYTES:
            raise BadFrame("the key of a provider is too long")
        if request.kind is Kind.GET_PROVIDERS:
            return self._get_providers(asker, request.key, now_s)
        for contact in request.providers:
            if contact.peer == asker:  # nobody speaks for others
                self._providers.add(request.key, asker, tuple(self._usable(asker, contact.addresses)), now_s)
        return None

    def _get_value(self, asker: PeerID, key: bytes, wall_s: float) -> Message:
        known = self._values.get(key, wall_s)
        record = Record(key, known.value, received_at(known.received_s)) if known is not None else None
        return Message(Kind.GET_VALUE, key, record, self._near(asker, key))

    def _put_value(self, asker: PeerID, request: Message, wall_s: float) -> Message:
        record = request.record
        if record is None or record.key != request.key:
            raise BadFrame("a value without its record")
        try:
            self._values.put(request.key, record.value, asker, wall_s)
        except InvalidRecord:
            self._counters["dht records refused"] += 1
            raise
        return Message(Kind.PUT_VALUE, request.key, Record(record.key, record.value))

    def _get_providers(self, asker: PeerID, key: bytes, now_s: float) -> Message:
        found = self._providers.get(key, now_s, MAX_PROVIDERS_TOLD, self._rng)
        contacts = []
        for one in found:
            addresses = self._tell(asker, one.peer) or one.addresses
            contacts.append(Contact(one.peer, tuple(addresses), self._is_connected(one.peer)))
        return Message(Kind.GET_PROVIDERS, key, closer=self._near(asker, key), providers=tuple(contacts))

    def _near(self, asker: PeerID, key: bytes, *, also: bytes | None = None) -> tuple[Contact, ...]:
        """The peers of the table that are nearest to a key, and the very peer that is looked for, if it is known."""
        peers = self._table.closest(key, BUCKET_SIZE, without=(asker,))
        if also is not None:
            wanted = _peer_or_none(also)
            if wanted is not None and wanted not in (asker, self._table.own) and wanted not in peers:
                peers = [wanted, *peers]
        contacts = []
        for peer in peers:
            addresses = tuple(self._tell(asker, peer))
            if addresses:
                contacts.append(Contact(peer, addresses, self._is_connected(peer)))
        return tuple(contacts[:BUCKET_SIZE])

    def _may_ask(self, asker: PeerID, now_s: float) -> bool:
        left, at_s = self._allowances.pop(asker, (float(REQUESTS_AT_ONCE), now_s))
        left = min(REQUESTS_AT_ONCE, left + (now_s - at_s) * REQUESTS_PER_S)
        may = left >= 1.0
        self._allowances[asker] = (left - 1.0 if may else left, now_s)
        while len(self._allowances) > MAX_REMEMBERED_ASKERS:
            del self._allowances[next(iter(self._allowances))]
        return may


def _peer_or_none(raw: bytes) -> PeerID | None:
    try:
        return peer_of_bytes(raw)
    except InvalidAddress:
        return None
