"""Finding things and peers without knowing anybody: the part of :class:`~dms.network.protocol.Network` that is a directory.

Whatever a peer advertises under a key, everybody of the network can ask for, as long as the advertiser renews it. Nothing
in a deployment depends on it (``spec/network.md`` 5.1): a directory is complete only when the network is calm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dms.types.ids import PeerID

MAX_DATA_BYTES = 8 * 1024
"""What one advertisement may carry."""
MAX_KEY_CHARS = 128
MAX_OWN_KEYS = 32
"""Keys under which one peer may advertise at a time."""


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a peer said under a key: signed by itself, and the newest that was found."""

    key: str
    peer: PeerID
    data: bytes
    sequence: int
    """Grows with every change; only the owner can make a higher one."""
    expires_s: float
    """Unix time."""
    is_legacy: bool = False
    """In the original's format, in which the signature does not cover the age; ``sequence`` is then only claimed."""


class DHTMode(Enum):
    """Whether a node serves the hash table or only asks."""

    AUTO = "auto"
    """Serves unless it is known that others cannot reach it."""
    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class RoutingEntry:
    """A peer in the routing table."""

    peer: PeerID
    addresses: tuple[str, ...]
    bucket: int
    """How many leading bits of its position are ours, too: the higher, the nearer."""
    since_s: float
    """How long it has been in the table."""
    heard_s: float
    """How long ago it was heard of."""
    is_connected: bool


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """What a node knows of the hash table."""

    is_serving: bool
    protocol: str
    entries: Sequence[RoutingEntry] = ()
    records: int = 0
    """Values of others that are kept here."""
    provided: int = 0
    """Keys whose providers are kept here."""
    advertised: tuple[str, ...] = ()
    """Our own keys."""


class Directory(Protocol):
    """What :attr:`dms.network.protocol.Network.directory` offers."""

    async def advertise(self, key: str, data: bytes) -> None:
        """Say something under a key, and renew it until :meth:`withdraw`; a second call replaces the first.

        Returns when those who should keep it have been told; with nobody around it is told later.

        :raises MessageTooLarge: more than :data:`MAX_DATA_BYTES`.
        :raises BadInput: the key is empty or too long, or there are :data:`MAX_OWN_KEYS` already.
        :raises NotRunning: the network does not run; so do the others.
        """
        ...

    async def withdraw(self, key: str) -> None:
        """Take it back; only the owner can. Unknown keys are ignored."""
        ...

    async def query(self, key: str) -> list[Advertisement]:
        """What peers say under a key, ours included; in no order, and perhaps not everything.

        :raises BadInput: the key is empty or too long.
        """
        ...

    async def find(self, peer: PeerID) -> tuple[str, ...]:
        """Where a peer listens; empty when nobody knows."""
        ...

    def state(self) -> DirectoryState:
        """The routing table and what is kept."""
        ...
