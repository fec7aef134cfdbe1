"""A new stream to a connected peer, in time or not at all; and the end of streams, whatever happens around."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID

from dms.network.errors import PeerUnreachable
from dms.network.libp2p.connections.swarm import innermost
from dms.network.libp2p.core import GuardedHost

LINGER_S = 30.0
"""How long a stream that we closed may wait for the other side to close it, too."""
SWEEP_S = 5.0
MAX_LINGERING = 4096


async def open_stream(host: GuardedHost, peer: ID, protocols: Sequence[str], timeout_s: float) -> INetStream:
    """A stream with the first of the protocols that the peer speaks.

    :raises PeerUnreachable: none of them, not connected, or not in time.
    """
    try:
        with trio.fail_after(timeout_s):
            return await host.new_stream(peer, [TProtocol(protocol) for protocol in protocols])
    except trio.TooSlowError:
        raise PeerUnreachable(f"peer {peer} opens no stream within {timeout_s:g} s") from None
    except (BaseLibp2pError, OSError) as error:
        raise PeerUnreachable(
            f"peer {peer} opens no stream for {' or '.join(protocols)}: {innermost(error)}"
        ) from error


async def reset_shielded(stream: INetStream) -> None:
    """End a stream whatever happens around; a stream that both sides closed already is left alone."""
    if is_over(stream):
        return
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
        try:
            await stream.reset()
        except (BaseLibp2pError, OSError):
            return


def is_over(stream: INetStream) -> bool:
    """Whether both sides closed it, or one reset it."""
    muxed = getattr(stream, "muxed_stream", None)
    return bool(getattr(muxed, "closed", False))


class Lingering:
    """Streams that we closed and the other side did not yet; they are given a while."""

    def __init__(self) -> None:
        self._streams: deque[tuple[float, INetStream]] = deque()

    def add(self, stream: INetStream) -> None:
        """Wait for the other side to end this one."""
        while self._streams and is_over(self._streams[0][1]):
            self._streams.popleft()
        if len(self._streams) < MAX_LINGERING and not is_over(stream):
            self._streams.append((trio.current_time() + LINGER_S, stream))

    async def sweep(self) -> None:
        """End what lingers too long, until cancelled."""
        while True:
            await trio.sleep(SWEEP_S)
            while self._streams and self._streams[0][0] <= trio.current_time():
                await reset_shielded(self._streams.popleft()[1])
