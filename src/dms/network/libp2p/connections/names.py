"""Peer ids: ours, which are text, and the library's, which are objects. Base58 takes a while, so the last are remembered."""

from __future__ import annotations

from functools import lru_cache

from libp2p.peer.id import ID

from dms.network.addresses import parse_peer_id
from dms.types.ids import PeerID

REMEMBERED = 4096


@lru_cache(REMEMBERED)
def name_of(peer: ID) -> PeerID:
    """The library's id as ours."""
    return PeerID(peer.to_base58())


@lru_cache(REMEMBERED)
def id_of(peer: PeerID) -> ID:
    """Our id as the library's.

    :raises InvalidAddress: it is none.
    """
    return ID.from_base58(parse_peer_id(peer))
