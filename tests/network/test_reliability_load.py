"""Many connections: one after the other, all at once, and again and again; real sockets.

``DMS_TEST_HEAVY=1`` makes 2,000 and 5,000 of them one after the other and 500 at once.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import psutil
import pytest
import trio
from tests.network.waiting import until

from dms.network import PeerUnreachable
from dms.network.libp2p import Libp2pNetwork, Limits
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.core import GuardedHost
from dms.types.ids import PeerID

# The library, for visitors: only after our package has put its placeholder in place.
from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.custom_types import TProtocol  # isort: skip
from libp2p.network.connection.swarm_connection import SwarmConn  # isort: skip
from libp2p.exceptions import BaseLibp2pError  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from multiaddr import Multiaddr  # isort: skip

IS_HEAVY = bool(os.environ.get("DMS_TEST_HEAVY"))
SEQUENTIAL = 2_000 if IS_HEAVY else 20
CONCURRENT = 500 if IS_HEAVY else 12
SOAKED = 5_000 if IS_HEAVY else 10
VISITORS = 16 if IS_HEAVY else 4
"""How many come at a time where they come one after the other,"""
RETURNS = 20 if IS_HEAVY else 2
"""and how many connections each of them makes."""
STORM_PEERS, STORMS = (50, 5) if IS_HEAVY else (4, 2)
GRACE_S = 600.0 if IS_HEAVY else 30.0
"""A net: what takes this long has been lost."""
PATIENT = Limits(dial_s=GRACE_S, handshake_s=GRACE_S, negotiation_s=int(GRACE_S), keepalive_s=GRACE_S)
"""All visitors live in the process of the hub: what is slow here is the sum of all of them, and nobody's fault."""
PING = "/ipfs/ping/1.0.0"
ROOT = "actor/root/messages/0.0.1"

_seeds = itertools.count(1 << 78)


def node(limits: Limits | None = None) -> Libp2pNetwork:
    seed = next(_seeds).to_bytes(32, "big")
    return Libp2pNetwork(seed=seed, listen=("/ip4/127.0.0.1/tcp/0",), limits=limits, explore=False)


@contextlib.asynccontextmanager
async def visitor(hub: Libp2pNetwork) -> AsyncIterator[tuple[GuardedHost, ID]]:
    """Somebody new, not yet connected."""
    target = Multiaddr(hub.listen_addresses[0].rpartition("/p2p/")[0])
    counters: Counter[str] = Counter()
    keys = create_new_key_pair(next(_seeds).to_bytes(32, "big"))
    swarm = GuardedSwarm(keys, limits=PATIENT, addresses_of=lambda _: [target], counters=counters)
    host = GuardedHost(swarm, counters=counters)
    async with host.serving():
        yield host, ID.from_base58(hub.peer_id)
        await swarm.close_connections(1.0)


async def ping(host: GuardedHost, peer: ID) -> None:
    stream = await host.new_stream(peer, [TProtocol(PING)])
    payload = os.urandom(32)
    await stream.write(payload)
    assert await stream.read(32) == payload
    await stream.close()


async def visit(hub: Libp2pNetwork, connections: int) -> None:
    """So many connections of newcomers, a few at a time; each newcomer is identified, pings, goes, and comes back some times."""
    at_once = trio.CapacityLimiter(VISITORS)

    async def one(times: int) -> None:
        async with at_once, visitor(hub) as (host, peer):
            for number in range(times):
                (conn,) = await host.swarm.dial_peer(peer)
                await ping(host, peer)
                if not number:
                    await until(lambda: hub._running().host.is_identified(host.get_id()))
                await conn.muxed_conn.close()
                await until(lambda: not host.swarm.get_connections(peer))

    async with trio.open_nursery() as nursery:
        for first in range(0, connections, RETURNS):
            nursery.start_soon(one, min(RETURNS, connections - first))
    await until(lambda: not hub.peers())
    await until(lambda: hub._running().swarm.shedding.memory.used_bytes == 0)  # what has gone has given back all


async def test_connections_one_after_the_other_are_all_served() -> None:
    hub = node()
    async with hub.run(), visitor(hub) as (host, peer):
        for _ in range(SEQUENTIAL):
            (conn,) = await host.swarm.dial_peer(peer)
            await ping(host, peer)
            await conn.muxed_conn.close()
            await until(lambda: not host.swarm.get_connections(peer))
        await until(lambda: not hub.peers())
        refused = {name: count for name, count in hub.counters().items() if "refused" in name or "failed" in name}
        assert hub._running().swarm.inbound_slots_taken == 0
        assert refused.get("handshakes failed", 0) == 0
        assert not any("refused" in name for name in refused), refused


async def test_connections_all_at_once_are_all_served() -> None:
    hub = node(replace(PATIENT, handshakes_per_ip=CONCURRENT, high_water=max(400, 2 * CONCURRENT)))
    answered = set[PeerID]()
    ready = list[ID]()
    go, over = trio.Event(), trio.Event()

    async def come() -> None:
        async with visitor(hub) as (host, peer):
            ready.append(host.get_id())
            await go.wait()
            name = PeerID(str(host.get_id()))
            with trio.fail_after(GRACE_S):
                while name not in answered:
                    # Under such a load a dial may pass its deadline; whoever is patient gets in.
                    with contextlib.suppress(BaseLibp2pError):
                        await host.swarm.dial_peer(peer)
                        await ping(host, peer)
                        answered.add(name)
            await over.wait()

    async with hub.run(), trio.open_nursery() as nursery:
        for _ in range(CONCURRENT):
            nursery.start_soon(come)
        await until(lambda: len(ready) == CONCURRENT)
        go.set()
        await until(lambda: len(answered) == CONCURRENT)
        unasked = {name: count for name, count in hub.counters().items() if "refused" in name or "closed" in name}
        assert not unasked
        assert not [one for one in answered if not hub.is_connected(one)], hub.counters()
        over.set()


async def test_a_storm_of_peers_that_lose_the_hub_and_come_back_passes() -> None:
    """All are cut off at the same moment and dial again at once, several times; then everybody is heard."""
    hub = node()
    got = set[bytes]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.add(data)

    hub.handle(ROOT, keep)
    async with hub.run(), contextlib.AsyncExitStack() as stack:
        peers = [node() for _ in range(STORM_PEERS)]
        for each in peers:
            await stack.enter_async_context(each.run())

        async def come_back(each: Libp2pNetwork) -> None:
            with trio.fail_after(GRACE_S):
                while True:
                    try:
                        await each.connect(hub.listen_addresses[0])
                        await each.ping(hub.peer_id, timeout_s=10.0)
                    except PeerUnreachable:
                        await trio.sleep(0.05)  # it had not yet noticed that its old connection is gone
                    else:
                        return

        for _ in range(STORMS):
            async with trio.open_nursery() as nursery:
                for each in peers:
                    nursery.start_soon(come_back, each)
            assert len(hub.peers()) == STORM_PEERS
            async with trio.open_nursery() as nursery:
                for conn in hub._running().swarm.get_connections():
                    nursery.start_soon(conn.close)
        async with trio.open_nursery() as nursery:
            for each in peers:
                nursery.start_soon(come_back, each)
        for number, each in enumerate(peers):
            await each.send(hub.peer_id, ROOT, b"%d" % number)
        await until(lambda: got == {b"%d" % number for number in range(STORM_PEERS)})


async def test_memory_and_tasks_stay_flat_however_many_came_and_went(
    record_property: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="libp2p")  # what is kept of an error to be shown keeps its connection
    hub = node()
    await hub.subscribe("/nunet/hello", _ignore)
    async with hub.run():
        store = hub._running().swarm.peerstore.peer_data_map  # type: ignore[attr-defined]  # of the one that we use
        await visit(hub, SOAKED // 5)
        store_before, before = len(store), _sizes()
        await visit(hub, SOAKED)
        await until(lambda: _living_tasks() <= before["tasks"])
        await until(lambda: _sizes()["connections"] <= before["connections"])
        sizes = _sizes()
        # What is left of a visitor is an entry in tables that hold so many and no more.
        assert len(store) - store_before <= SOAKED
        record_property("rss_mib", f"{before['rss_mib']} to {sizes['rss_mib']}")
        if IS_HEAVY:
            print(f"\nsoak: {SOAKED} connections, {before} to {sizes}")
            assert sizes["rss_mib"] - before["rss_mib"] <= 48
        assert hub._running().swarm.inbound_slots_taken == 0
        assert hub._running().swarm.shedding.memory.used_bytes == 0


def _living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def _sizes() -> dict[str, int]:
    for _ in range(3):
        gc.collect()
    return {
        "tasks": _living_tasks(),
        "connections": sum(isinstance(one, KeepaliveYamux | SwarmConn) for one in gc.get_objects()),
        "rss_mib": psutil.Process().memory_info().rss >> 20,
    }


async def _ignore(_sender: PeerID, _data: bytes) -> None:
    return
