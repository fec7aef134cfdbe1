"""Peer exchange: who is pruned from a mesh is told of others to connect to (GossipSub 1.1)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio
from libp2p.peer.envelope import consume_envelope
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo

from dms.network.gossip import Offer
from dms.network.libp2p.core import GuardedHost
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

RECORD_DOMAIN = "libp2p-peer-record"
DIAL_S = 10.0
MAX_ADDRESSES = 8


class Introductions:
    """Recommends peers, and follows recommendations, one batch at a time."""

    def __init__(self, host: GuardedHost) -> None:
        self._host = host
        self._is_busy = False

    def record_of(self, peer: PeerID) -> bytes:
        """The record that a peer signed of its own addresses; empty when it gave none."""
        envelope = self._host.get_peerstore().get_peer_record(ID.from_base58(peer))
        return envelope.marshal_envelope() if envelope is not None else b""

    async def follow(self, offers: Sequence[Offer]) -> None:
        """Dial the peers offered whose record they signed themselves; failures are their business."""
        if self._is_busy:
            return
        self._is_busy = True
        try:
            for offer in offers:
                info = _checked(offer)
                if info is not None and info.peer_id != self._host.get_id():
                    await self._dial(info)
        finally:
            self._is_busy = False

    async def _dial(self, info: PeerInfo) -> None:
        with trio.move_on_after(DIAL_S):
            try:
                await self._host.connect(info)
            except Exception as error:  # noqa: BLE001  whatever dialling strangers brings
                log.debug("the peer %s that was offered cannot be reached: %r", info.peer_id, error)


def _checked(offer: Offer) -> PeerInfo | None:
    if not offer.record:
        return None
    try:
        _, record = consume_envelope(offer.record, RECORD_DOMAIN)
        if record.peer_id != ID.from_base58(offer.peer):
            return None
        return PeerInfo(record.peer_id, record.addrs[:MAX_ADDRESSES])
    except Exception as error:  # noqa: BLE001  strangers wrote it
        log.debug("the record of a peer that was offered is broken: %r", error)
        return None
