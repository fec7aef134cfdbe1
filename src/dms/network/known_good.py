"""Peers that were good: remembered over restarts, so that a node finds its network without bootstrap peers. Pure.

A peer is good when a handshake with it succeeded at an address that we dialled; that address is remembered, nothing that
is only told. How good: how often, and how long ago. Peers fade: half as good after :data:`HALF_LIFE_S`, forgotten after
:data:`FORGET_S` or when they fail again and again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from multiaddr import Multiaddr

from dms.network.addresses import is_plain_tcp, parse_address, parse_peer_id
from dms.network.errors import InvalidAddress
from dms.types.ids import PeerID

MAX_SERVERS = 700
MAX_OTHERS = 300
"""Peers that are remembered, by role: those that serve the hash table, and the others."""
MAX_ADDRESSES = 4
HALF_LIFE_S = 7 * 86400.0
FORGET_S = 60 * 86400.0
MAX_FAILURES = 8
"""In a row; then a peer is forgotten."""
MAX_FILE_BYTES = 4 << 20
_MAX_COUNT = 1000
_VERSION = 1


@dataclass(slots=True)
class GoodPeer:
    """One peer; ``addresses`` are those confirmed by handshakes, the last one first."""

    peer: PeerID
    addresses: tuple[Multiaddr, ...] = ()
    seen_s: float = 0.0
    """Unix time."""
    successes: int = 0
    failures: int = 0
    """Since the last success."""
    is_server: bool = False

    def worth(self, wall_s: float) -> float:
        """How much is to be expected of it."""
        age_s = max(0.0, wall_s - self.seen_s)
        halvings = age_s / HALF_LIFE_S + self.failures
        return (1 + min(self.successes, 30)) * math.pow(0.5, halvings)


@dataclass(slots=True)
class GoodPeers:
    """All of them.

    :param network_id: of which network they are; a file of another one is not read.
    :param passing: which addresses may be remembered; a public machine must not scan its local network.
    """

    network_id: str = ""
    passing: Callable[[Iterable[Multiaddr]], Sequence[Multiaddr]] = list
    _peers: dict[PeerID, GoodPeer] = field(default_factory=dict)

    def confirmed(self, peer: PeerID, address: Multiaddr, wall_s: float) -> bool:
        """A handshake at an address that we dialled succeeded; returns whether that is remembered."""
        if not self._may_keep(address):
            return False
        known = self._peers.setdefault(peer, GoodPeer(peer))
        known.addresses = tuple(dict.fromkeys([address, *known.addresses]))[:MAX_ADDRESSES]
        known.seen_s = wall_s
        known.successes = min(known.successes + 1, _MAX_COUNT)
        known.failures = 0
        self._trim(wall_s)
        return peer in self._peers

    def seen(self, peer: PeerID, wall_s: float, *, is_server: bool) -> None:
        """A peer that is remembered is connected; whether it serves the hash table is known now."""
        known = self._peers.get(peer)
        if known is not None:
            known.seen_s = wall_s
            known.is_server = is_server
            self._trim(wall_s)

    def failed(self, peer: PeerID) -> None:
        """It does not answer at what we remember."""
        known = self._peers.get(peer)
        if known is not None:
            known.failures += 1
            if known.failures >= MAX_FAILURES:
                del self._peers[peer]

    def best(self, count: int, wall_s: float, *, without: Iterable[PeerID] = ()) -> list[GoodPeer]:
        """Those to try first."""
        others = set(without)
        candidates = [one for one in self._peers.values() if one.peer not in others and wall_s - one.seen_s < FORGET_S]
        return sorted(candidates, key=lambda one: (-one.worth(wall_s), one.peer))[:count]

    def __len__(self) -> int:
        return len(self._peers)

    def encode(self, wall_s: float) -> bytes:
        """As it is kept on disk."""
        peers = [
            {
                "peer": one.peer,
                "addresses": [str(address) for address in one.addresses],
                "seen": round(one.seen_s),
                "successes": one.successes,
                "failures": one.failures,
                "server": one.is_server,
            }
            for one in self.best(MAX_SERVERS + MAX_OTHERS, wall_s)
        ]
        return json.dumps({"version": _VERSION, "network": self.network_id, "peers": peers}, indent=1).encode()

    def decode(self, data: bytes, wall_s: float) -> None:
        """Take in what was kept; what makes no sense, or is of another network, is left out."""
        try:
            document = json.loads(data[:MAX_FILE_BYTES])
        except (ValueError, RecursionError):
            return
        if not isinstance(document, dict) or document.get("network") != self.network_id:
            return
        entries = document.get("peers")
        for entry in entries[: MAX_SERVERS + MAX_OTHERS] if isinstance(entries, list) else ():
            one = self._read(entry, wall_s)
            if one is not None:
                self._peers.setdefault(one.peer, one)

    def _read(self, entry: object, wall_s: float) -> GoodPeer | None:
        if not isinstance(entry, dict):
            return None
        try:
            texts: Sequence[str] = entry["addresses"][:MAX_ADDRESSES]
            addresses = tuple(one for one in map(parse_address, texts) if self._may_keep(one))
            one = GoodPeer(
                parse_peer_id(entry["peer"]),
                addresses,
                min(int(entry["seen"]), wall_s),
                min(int(entry["successes"]), _MAX_COUNT),
                max(0, int(entry["failures"])),
                entry.get("server") is True,
            )
        except (InvalidAddress, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return None
        return one if addresses else None

    def _may_keep(self, address: Multiaddr) -> bool:
        return is_plain_tcp(address) and bool(self.passing([address]))

    def _trim(self, wall_s: float) -> None:
        for is_server, limit in ((True, MAX_SERVERS), (False, MAX_OTHERS)):
            group = [one for one in self._peers.values() if one.is_server is is_server]
            if len(group) > limit:
                del self._peers[min(group, key=lambda one: (one.worth(wall_s), one.peer)).peer]
