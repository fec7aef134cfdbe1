"""A connection for one errand: nobody else uses it, and the swarm never hears of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream, StreamState
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from multiaddr import Multiaddr

from dms.network.libp2p.connections.attention import AttentiveTCP
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.connections.names import name_of
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.negotiation import EagerClient

NEGOTIATION_S = 10

Open = Callable[[str], Awaitable[INetStream]]


@asynccontextmanager
async def visiting(swarm: GuardedSwarm, peer: ID, address: Multiaddr) -> AsyncIterator[Open]:
    """Connect to a peer at one address, from any port; gives a function that opens streams. Closed with the context.

    :raises BaseLibp2pError: it cannot be reached there, or somebody else answered.
    """
    if swarm.gate.refuses(name_of(peer)) or not swarm.gate.passing([address]):
        raise SwarmException(f"{peer} at {address} is not for this node")
    raw = await AttentiveTCP().dial(address)
    try:
        secured = await swarm.upgrader.upgrade_security(raw, True, peer)
        muxed = await swarm.upgrader.upgrade_connection(secured, peer)
        if not isinstance(muxed, KeepaliveYamux):
            raise SwarmException("only yamux is spoken here")

        async def open_stream(protocol: str) -> INetStream:
            stream = NetStream(await muxed.open_stream(), None, None)
            await stream.set_state(StreamState.OPEN)
            await EagerClient().select_one_of([TProtocol(protocol)], MultiselectCommunicator(stream), NEGOTIATION_S)
            stream.set_protocol(TProtocol(protocol))
            return stream

        async with trio.open_nursery() as nursery:
            nursery.start_soon(muxed.start)
            await muxed.event_started.wait()
            try:
                yield open_stream
            finally:
                await muxed.close()
                nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await raw.close()
