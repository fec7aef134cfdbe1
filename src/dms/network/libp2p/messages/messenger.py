"""Sends a message on the kept stream of its peer, or on a stream of its own where the peer knows no other way."""

from __future__ import annotations

from dms.network.errors import PeerUnreachable
from dms.network.framing import is_large, refuse_large
from dms.network.libp2p.connections.names import id_of
from dms.network.libp2p.messages.keeper import Keeper
from dms.network.libp2p.messages.streams import Outbox
from dms.types.ids import PeerID


class Messenger:
    """Messages to connected peers."""

    def __init__(self, outbox: Outbox, keeper: Keeper | None) -> None:
        self._outbox = outbox
        self._keeper = keeper

    def has_stream(self, peer: PeerID) -> bool:
        """Whether a message could be sent without opening anything."""
        return self._keeper is not None and self._keeper.has_stream(peer)

    def takes_large(self, peer: PeerID) -> bool:
        """Whether the peer is known to take more than the original does."""
        return self._keeper is not None and bool(self._keeper.speaks(peer))

    async def send(self, peer: PeerID, protocol: str, data: bytes, timeout_s: float) -> None:
        """Send one message.

        :raises MessageTooLarge: the peer takes none of this size.
        :raises PeerUnreachable: nobody handles it there, or no progress in time.
        """
        large, keeper = is_large(data), self._keeper
        speaks = keeper is not None and keeper.can_name(protocol) and keeper.speaks(peer)
        if keeper is None or not (speaks or (large and speaks is None)):
            if large:
                raise refuse_large(peer, data)
            await self._outbox.send(id_of(peer), protocol, data, timeout_s)
            return
        try:
            await keeper.send(peer, protocol, data, timeout_s)
        except PeerUnreachable:
            if large and keeper.speaks(peer) is False:
                raise refuse_large(peer, data) from None
            raise
        self._outbox.count()
