"""The seam between the program and whatever carries its messages (``spec/network.md`` 1).

Two implementations: :mod:`dms.network.libp2p` over real sockets, :mod:`dms.testing.network` in memory on the virtual
clock. Nothing above this package knows which one runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from dms.network.byte_streams import ByteStreams
from dms.network.directory import Directory
from dms.network.latency import Latency
from dms.network.reachability import Reachability
from dms.types.ids import PeerID

MAX_MESSAGE_BYTES = 1 << 20
"""A frame, its 8-byte length included (``spec/network.md`` 3)."""

MAX_LARGE_MESSAGE_BYTES = 16 << 20
"""The longest message to a node of this program; the original takes none beyond :data:`MAX_MESSAGE_BYTES`."""

SizeLimit = Callable[[PeerID], int]
"""How long a message of this peer may be, for one inbox; asked before any of a large message is kept."""

MessageHandler = Callable[[PeerID, bytes], Awaitable[None]]
"""Called with the authenticated sender and one message, in a task of its own; what it raises is logged and dropped."""


class Verdict(Enum):
    """What a topic validator thinks of a message."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    """Drop silently: stale or not wanted now."""
    REJECT = "reject"
    """Drop and count against the peer that relayed it: malformed or forged."""


TopicValidator = Callable[[PeerID, bytes], Verdict]
"""Called with the peer that relayed the message; must not block and not raise."""

PeerListener = Callable[["PeerEvent"], None]


class PeerChange(Enum):
    """What happened to a peer."""

    CONNECTED = "connected"
    IDENTIFIED = "identified"
    """Its protocols are known now."""
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A change in who is connected."""

    change: PeerChange
    peer: PeerID


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A live connection.

    Where the peer is, who opened it, the protocols that the peer named, the smoothed round trip in seconds; what carries
    it (``tcp``; of a relayed one, what carries it to the relay), whether a third peer relays it, and for how many seconds
    it has existed.
    """

    peer: PeerID
    addresses: tuple[str, ...]
    inbound: bool
    protocols: tuple[str, ...] = ()
    rtt_s: float | None = None
    transport: str = "tcp"
    is_relayed: bool = False
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TopicScore:
    """What one topic contributes to the score of a peer, and why: how long it is in our mesh, and how many messages that
    it relayed were rejected (both fade)."""

    score: float = 0.0
    mesh_s: float = 0.0
    invalid_messages: float = 0.0


@dataclass(frozen=True, slots=True)
class PeerScore:
    """What gossip thinks of a peer (``spec/network.md`` 4): in all, and by part.

    The parts are the node's own opinion, that of each topic, what sharing an address with many others takes away, and
    what ``breaches`` of the protocol take away.
    """

    total: float = 0.0
    app_specific: float = 0.0
    topics: Mapping[str, TopicScore] = field(default_factory=dict)
    ip_colocation: float = 0.0
    behaviour: float = 0.0
    breaches: float = 0.0
    ip: str = ""


class Network(Protocol):
    """Messages between peers, broadcast on topics, and who is connected."""

    @property
    def peer_id(self) -> PeerID:
        """Our own id."""
        ...

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        """Full multiaddresses, each ending in ``/p2p/<own id>``; empty until running."""
        ...

    @property
    def directory(self) -> Directory:
        """Advertisements, and where peers are; one object for the life of the network."""
        ...

    @property
    def latency(self) -> Latency:
        """How long the way to other peers takes."""
        ...

    @property
    def reachability(self) -> Reachability:
        """How others reach us."""
        ...

    def run(self) -> AbstractAsyncContextManager[None]:
        """Listen, and connect to the bootstrap peers in the background; everything ends with the context.

        :raises AddressInUse: a listen address is taken.
        """
        ...

    # point to point ------------------------------------------------------------------------------------------------

    def handle(self, protocol: str, handler: MessageHandler, *, max_bytes: SizeLimit | None = None) -> None:
        """Receive the messages of one protocol id (``actor/<inbox>/messages/0.0.1``).

        :param max_bytes: how long they may be; without it, and at least, :data:`MAX_MESSAGE_BYTES`.
        :raises AlreadyHandled: somebody does already.
        """
        ...

    def unhandle(self, protocol: str) -> None:
        """Stop receiving; unknown protocols are ignored."""
        ...

    async def send(self, peer: PeerID, protocol: str, data: bytes, *, timeout_s: float = 30.0) -> None:
        """Send one message; to our own id it is delivered locally in a new task.

        Messages to one inbox of a node of this program arrive in the order in which they were sent.

        :raises MessageTooLarge: longer than the peer takes, see :meth:`message_limit_bytes`.
        :raises PeerUnreachable: no connection, no address, no such protocol there, or no progress in time.
        """
        ...

    def message_limit_bytes(self, peer: PeerID) -> int:
        """How long a message to this peer may be, as far as is known of it now.

        :data:`MAX_LARGE_MESSAGE_BYTES` for a connected node of this program, once it said so, and for ourselves;
        :data:`MAX_MESSAGE_BYTES` less the length for all others. An inbox may take less, see :meth:`handle`.
        """
        ...

    @property
    def streams(self) -> ByteStreams:
        """Streams of bytes to and from peers; one object for the life of the network."""
        ...

    # broadcast -----------------------------------------------------------------------------------------------------

    async def subscribe(self, topic: str, handler: MessageHandler, validator: TopicValidator | None = None) -> int:
        """Receive the messages of a topic, our own included; returns a number for :meth:`unsubscribe`.

        The handler gets the *publisher's* id, the validator that of the peer which relayed the message.
        """
        ...

    async def unsubscribe(self, subscription: int) -> None:
        """Stop receiving; with the last subscription the topic is left."""
        ...

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody who subscribed to the topic; joins it if need be; paced so that bursts are not lost.

        :raises MessageTooLarge: longer than the topic's limit.
        """
        ...

    # peers ---------------------------------------------------------------------------------------------------------

    async def connect(self, address: str, *, timeout_s: float = 10.0) -> PeerID:
        """Dial a multiaddress that ends in ``/p2p/<id>``, or a bare peer id whose address is known.

        :raises InvalidAddress: it cannot be parsed.
        :raises PeerUnreachable: no answer before the deadline, or somebody else answered.
        """
        ...

    async def disconnect(self, peer: PeerID) -> None:
        """Close all connections to a peer; a peer that is not connected is ignored."""
        ...

    async def ping(self, peer: PeerID, *, timeout_s: float = 1.0) -> float:
        """One round trip in seconds, measured by ourselves.

        :raises PeerUnreachable: no answer in time. Own id: ``can't ping self``.
        """
        ...

    def peers(self) -> tuple[PeerInfo, ...]:
        """Live connections only."""
        ...

    def known_peers(self) -> Mapping[PeerID, tuple[str, ...]]:
        """Everybody of whom an address is known, connected or not."""
        ...

    def scores(self) -> Mapping[PeerID, PeerScore]:
        """What gossip thinks of the connected peers."""
        ...

    def is_connected(self, peer: PeerID) -> bool:
        """Whether a live connection exists."""
        ...

    def listen(self, listener: PeerListener) -> Callable[[], None]:
        """Be told of changes; returns the function that ends it."""
        ...

    def counters(self) -> dict[str, int]:
        """How often things happened since the start, by name: messages in, out, dropped and why."""
        ...
