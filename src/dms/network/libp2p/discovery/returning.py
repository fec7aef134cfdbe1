"""Coming back: a node dials the peers that were good before, at its start and whenever it is nearly alone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio
from multiaddr import Multiaddr

from dms.network.errors import NetworkError
from dms.network.known_good import GoodPeer, GoodPeers
from dms.network.libp2p.discovery.peers_file import WRITE_S, PeersFile
from dms.network.libp2p.discovery.rounds import DIAL_S
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

ALONE_BELOW = 4
"""With fewer connections than this, known good peers are dialled."""
AT_ONCE = 8
RETRY_S = 30.0
RETRY_MAX_S = 300.0
PAUSE_S = 1.0
"""Between two batches, whatever happens."""

Dial = Callable[[PeerID, Sequence[Multiaddr]], Awaitable[None]]


class Returning:
    """Dials known good peers, and keeps them on disk.

    :param serves_dht: whether a connected peer said that it serves the hash table.
    """

    def __init__(
        self,
        own: PeerID,
        peers: GoodPeers,
        file: PeersFile,
        *,
        connected: Callable[[], Sequence[PeerID]],
        serves_dht: Callable[[PeerID], bool],
        dial: Dial,
        wall_s: Callable[[], float],
    ) -> None:
        self._own = own
        self._peers = peers
        self._file = file
        self._connected = connected
        self._serves_dht = serves_dht
        self._dial = dial
        self._wall_s = wall_s
        self._alone = trio.Event()

    def lost_one(self) -> None:
        """A connection ended: look whether we are nearly alone."""
        self._alone.set()

    async def keep_company(self) -> None:
        """Dial when nearly alone, until cancelled: the best first, then the next best, with longer and longer pauses."""
        tried: set[PeerID] = set()
        wait_s = RETRY_S
        while True:
            self._alone = trio.Event()
            connected = self._connected()
            if len(connected) >= ALONE_BELOW:
                tried.clear()
                wait_s = RETRY_S
                await self._alone.wait()
                continue
            candidates = self._peers.best(AT_ONCE, self._wall_s(), without=[*connected, self._own, *tried])
            tried = tried | {one.peer for one in candidates} if candidates else set()
            async with trio.open_nursery() as nursery:
                for one in candidates:
                    nursery.start_soon(self._try, one)
            if len(self._connected()) < ALONE_BELOW:
                await trio.sleep(PAUSE_S)
                with trio.move_on_after(wait_s):
                    await self._alone.wait()
                wait_s = min(wait_s * 1.5, RETRY_MAX_S)

    async def keep_file(self) -> None:
        """Write what changed now and then, and at the end."""
        try:
            while True:
                await trio.sleep(WRITE_S)
                await self._write()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2.0):
                await self._write()

    async def _write(self) -> None:
        for peer in self._connected():
            self._peers.seen(peer, self._wall_s(), is_server=self._serves_dht(peer))
        await self._file.keep(self._wall_s())

    async def _try(self, one: GoodPeer) -> None:
        try:
            with trio.fail_after(DIAL_S):
                await self._dial(one.peer, one.addresses)
        except (NetworkError, trio.TooSlowError) as error:
            log.debug("dialling %s, known from before: %r", one.peer, error)
            if self._connected():  # without any connection the fault is more likely ours
                self._peers.failed(one.peer)
