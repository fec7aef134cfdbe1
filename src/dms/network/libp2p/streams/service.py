"""Which stream protocols this node serves, how many streams at once, and streams to others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from dms.network.byte_streams import ByteStream, ByteStreamHandler
from dms.network.errors import AlreadyHandled, NotRunning, PeerUnreachable
from dms.network.libp2p.connections.names import id_of
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.streams.channel import Libp2pByteStream
from dms.network.libp2p.streams.opening import Lingering, open_stream
from dms.types.errors import DMSError
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

MAX_STREAMS = 1024
"""Inbound streams that are served at once."""
MAX_STREAMS_PER_PEER = 64

Reach = Callable[[PeerID, float], Awaitable[None]]
"""Makes sure that a connection to the peer exists, within so many seconds."""


class Libp2pByteStreams:
    """Streams over libp2p; handlers may be set before the network runs."""

    def __init__(self, own: PeerID, counters: Counter[str]) -> None:
        self._own = own
        self._counters = counters
        self._handlers: dict[str, ByteStreamHandler] = {}
        self._served: Counter[PeerID] = Counter()
        self._host: GuardedHost | None = None
        self._reach: Reach = _nowhere
        self._lingering = Lingering()

    def open_host(self, host: GuardedHost, reach: Reach, lingering: Lingering) -> None:
        """Serve from now on."""
        self._host = host
        self._reach = reach
        self._lingering = lingering
        for protocol in self._handlers:
            host.set_stream_handler(TProtocol(protocol), self._serve)

    def close_host(self) -> None:
        """Serve no more; the handlers stay for the next time."""
        self._host = None

    def handle(self, protocol: str, handler: ByteStreamHandler) -> None:
        """Serve the streams of one protocol id.

        :raises AlreadyHandled: somebody does already.
        """
        if protocol in self._handlers:
            raise AlreadyHandled(f"the protocol {protocol} has a handler already")
        self._handlers[protocol] = handler
        if self._host is not None:
            self._host.set_stream_handler(TProtocol(protocol), self._serve)

    def unhandle(self, protocol: str) -> None:
        """Serve no new ones; unknown protocols are ignored."""
        if self._handlers.pop(protocol, None) is not None and self._host is not None:
            self._host.remove_stream_handler(TProtocol(protocol))

    async def open(self, peer: PeerID, *protocols: str, timeout_s: float = 10.0) -> ByteStream:
        """A stream with the first of these protocols that the peer speaks.

        :raises PeerUnreachable: no connection, none of the protocols there, or no answer in time; or the own id.
        """
        if peer == self._own:
            raise PeerUnreachable("can't open a stream to self")
        if self._host is None:
            raise NotRunning
        deadline_s = trio.current_time() + timeout_s
        await self._reach(peer, timeout_s)
        left_s = max(0.0, deadline_s - trio.current_time())
        stream = await open_stream(self._host, id_of(peer), protocols, left_s)
        self._counters["byte streams out"] += 1
        return Libp2pByteStream(stream)

    async def _serve(self, net_stream: INetStream) -> None:
        """One inbound stream, until its handler is done with it."""
        stream = Libp2pByteStream(net_stream)
        handler = self._handlers.get(stream.protocol)
        if handler is None or not self._admits(stream.peer):
            await stream.reset()
            return
        self._served[stream.peer] += 1
        self._counters["byte streams in"] += 1
        ok = False
        try:
            await handler(stream)
            await stream.close()
            ok = True
        except DMSError as error:
            log.debug("a stream of %s with %s ended: %s", stream.protocol, stream.peer, error)
        except Exception:
            self._counters["handlers failed"] += 1
            log.exception("the handler of a stream of %s failed", stream.peer)
        finally:
            self._served[stream.peer] -= 1
            if not self._served[stream.peer]:
                del self._served[stream.peer]
            if not ok:
                await stream.reset()
        self._lingering.add(net_stream)

    def _admits(self, peer: PeerID) -> bool:
        if self._served[peer] < MAX_STREAMS_PER_PEER and self._served.total() < MAX_STREAMS:
            return True
        self._counters["byte streams refused: too many at once"] += 1
        return False


async def _nowhere(_peer: PeerID, _timeout_s: float) -> None:
    raise NotRunning
