"""What peers said about themselves, for so many of them: the one not heard of for the longest time is forgotten first.

The library's store keeps a thousand, and forgets those first of whom it has no address: that is, before all others, the
node itself with its key, after which nobody can identify it any more. It also lets entries expire by the wall clock, so
that a clock that is set ahead takes the protocols of connected peers away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from libp2p.peer.id import ID
from libp2p.peer.peerdata import PeerData
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr

MAX_PEERS = 4096


class BoundedPeerStore(PeerStore):
    """Keeps ourselves, everybody who is connected, and the last of all others.

    :param is_kept: whether a peer must not be forgotten.
    """

    def __init__(self, is_kept: Callable[[ID], bool], max_peers: int = MAX_PEERS) -> None:
        super().__init__(max_peers=max_peers)
        self.peer_data_map = _LastHeardOf(is_kept, max_peers, self._forget)

    def add_addrs(self, peer_id: ID, addrs: Sequence[Multiaddr], ttl: int = 0) -> None:
        """Add addresses; they stay until the peer is forgotten."""
        super().add_addrs(peer_id, addrs, 0)

    def _enforce_peer_limit(self) -> None:
        """Nothing to do: the limit holds at any time."""

    def _forget(self, peer: ID) -> None:
        self.peer_record_map.pop(peer, None)


class _LastHeardOf(dict[ID, PeerData]):
    """In the order in which peers were last written about."""

    def __init__(self, is_kept: Callable[[ID], bool], limit: int, forget: Callable[[ID], None]) -> None:
        super().__init__()
        self._is_kept = is_kept
        self._limit = limit
        self._forget = forget

    def setdefault(self, peer: ID, default: PeerData) -> PeerData:
        """What is known of a peer, who counts as heard of just now."""
        data = self.pop(peer, default)
        super().__setitem__(peer, data)
        self._shrink()
        return data

    def __setitem__(self, peer: ID, data: PeerData) -> None:
        self.pop(peer, None)
        super().__setitem__(peer, data)
        self._shrink()

    def _shrink(self) -> None:
        for _ in range(len(self)):
            if len(self) <= self._limit:
                return
            oldest = next(iter(self))
            data = self.pop(oldest)
            if self._is_kept(oldest):
                super().__setitem__(oldest, data)  # at the end, so that it is not looked at again soon
            else:
                self._forget(oldest)
