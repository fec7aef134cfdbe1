"""A hash table of many nodes in memory, on trio's clock: every message is encoded and decoded as on the wire."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence

import trio
from multiaddr import Multiaddr

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.network.addresses import is_loopback
from dms.network.errors import PeerUnreachable
from dms.network.kademlia.directory import KademliaDirectory
from dms.network.kademlia.messages import Message, decode_message
from dms.network.kademlia.node import Kademlia
from dms.types.errors import DMSError
from dms.types.ids import PeerID

PROTOCOL = "/nunet/kad/1.0.0"
EPOCH_S = 1_800_000_000.0


class Neighbour:
    """One node, and its directory."""

    def __init__(self, table: VirtualTable, number: int) -> None:
        seed = hashlib.sha256(f"{table.seed}/{number}".encode()).digest()
        self.key = PrivateKey(KeyType.ED25519, seed)
        self.peer = peer_id_of(self.key.public)
        self.address = Multiaddr(f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/9000")
        self.counters: Counter[str] = Counter()
        self.is_up = True
        self.node = Kademlia(
            self.peer,
            ask=table.carrier(self.peer),
            addresses_of=table.addresses_of,
            tell=lambda _asker, peer: table.addresses_of(peer),
            usable=lambda _teller, addresses: [one for one in addresses if not is_loopback(one)],
            is_connected=lambda _peer: False,
            counters=self.counters,
            rng=random.Random(seed),  # noqa: S311  a simulation, not a secret
            wall_s=table.wall_s,
        )
        self.directory = KademliaDirectory(
            self.node,
            self.key,
            own_addresses=lambda: (self.address,),
            known_addresses=table.addresses_of,
            is_connected=lambda _peer: False,
            is_serving=lambda: True,
            protocol=PROTOCOL,
        )


class VirtualTable:
    """Nodes that know some of each other.

    :param count: how many; each one beyond the first is introduced to a random earlier one.
    """

    def __init__(self, count: int, *, seed: int = 0, delay_s: float = 0.01, wall_offset_s: float = 0.0) -> None:
        self.seed = seed
        self.delay_s = delay_s
        self.asked = 0
        self._offset_s = EPOCH_S + wall_offset_s
        self._nodes: dict[PeerID, Neighbour] = {}
        for number in range(1, count + 1):
            one = Neighbour(self, number)
            self._nodes[one.peer] = one

    @property
    def nodes(self) -> tuple[Neighbour, ...]:
        """All of them, in the order they were made."""
        return tuple(self._nodes.values())

    async def introduce(self) -> None:
        """Make each node meet a random earlier one and look around, as it would when it joins."""
        rng = random.Random(self.seed)  # noqa: S311  a simulation, not a secret
        for number, one in enumerate(self.nodes):
            if number:
                host = self.nodes[rng.randrange(number)]
                one.node.serves(host.peer)
                host.node.serves(one.peer)
                await one.node.walk(2)

    def wall_s(self) -> float:
        """Unix time here."""
        return self._offset_s + trio.current_time()

    def addresses_of(self, peer: PeerID) -> Sequence[Multiaddr]:
        """Where a node listens."""
        one = self._nodes.get(peer)
        return (one.address,) if one is not None else ()

    def carrier(self, asker: PeerID) -> _Carrier:
        """How a node asks others."""
        return _Carrier(self, asker)

    def find(self, peer: PeerID) -> Neighbour | None:
        """The node with this id, if it is up."""
        one = self._nodes.get(peer)
        return one if one is not None and one.is_up else None


class _Carrier:
    def __init__(self, table: VirtualTable, asker: PeerID) -> None:
        self._table = table
        self._asker = asker

    async def __call__(self, peer: PeerID, _addresses: Sequence[Multiaddr], request: Message) -> Message | None:
        table = self._table
        table.asked += 1
        await trio.sleep(table.delay_s)
        target = table.find(peer)
        if target is None or table.find(self._asker) is None:
            await trio.sleep(1.0)
            raise PeerUnreachable(f"peer {peer} cannot be reached")
        try:
            answer = target.node.answer(self._asker, decode_message(request.encode()))
        except DMSError as error:
            raise PeerUnreachable(f"peer {peer} ended the stream: {error}") from error
        target.node.serves(self._asker)  # whoever connects is identified, too
        await trio.sleep(table.delay_s)
        return decode_message(answer.encode()) if answer is not None else None
