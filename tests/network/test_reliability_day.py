"""A day of peers that come, stay for a while, and go or fall silent: the real stack on the virtual clock.

Pipes in memory take the place of sockets, as time can only jump where nobody waits for a kernel. ``DMS_TEST_HEAVY=1``
takes the whole day; else it is one hour.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
from collections import Counter
from typing import Any

import trio
from trio.testing import MockClock, memory_stream_pair

from dms.network.libp2p import Limits
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.core import GuardedHost

from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.custom_types import TProtocol  # isort: skip
from libp2p.io.abc import ReadWriteCloser  # isort: skip
from libp2p.network.connection.raw_connection import RawConnection  # isort: skip
from multiaddr import Multiaddr  # isort: skip

IS_HEAVY = bool(os.environ.get("DMS_TEST_HEAVY"))
HOUR_S = 3600.0
HOURS = 24 if IS_HEAVY else 1
LIMITS = Limits(keepalive_s=60.0)
BETWEEN_S = 300.0
ADDRESS = Multiaddr("/ip4/127.0.0.1/tcp/9000")

_seeds = itertools.count(1 << 82)


class Pipe(ReadWriteCloser):
    """One end of a connection in memory."""

    def __init__(self, stream: Any) -> None:  # trio's stapled stream
        self._stream = stream

    async def read(self, n: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(n))

    async def write(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self) -> None:
        await self._stream.aclose()

    def get_remote_address(self) -> tuple[str, int]:
        return "192.0.2.1", 9000

    def get_transport_addresses(self) -> list[Multiaddr]:
        return [ADDRESS]


class Pipes:
    """The way from visitors to the hub, in the shape of a transport; it can go dead without a word."""

    def __init__(self, hub: GuardedSwarm, nursery: trio.Nursery) -> None:
        self._hub = hub
        self._nursery = nursery
        self._near: Any = None

    async def dial(self, _address: Multiaddr) -> RawConnection:
        self._near, far = memory_stream_pair()
        self._nursery.start_soon(self._hub.accept, Pipe(far), ADDRESS)
        return RawConnection(Pipe(self._near), initiator=True)

    def go_dead(self) -> None:
        """What is written from now on is lost."""

        async def swallow() -> None:
            await trio.lowlevel.checkpoint()
            self._near.send_stream.get_data_nowait()

        self._near.send_stream.send_all_hook = swallow


def host(counters: Counter[str]) -> GuardedHost:
    keys = create_new_key_pair(next(_seeds).to_bytes(32, "big"))
    swarm = GuardedSwarm(keys, limits=LIMITS, addresses_of=lambda _: [ADDRESS], counters=counters)
    return GuardedHost(swarm, counters=counters)


async def visit(hub: GuardedHost, nursery: trio.Nursery, stay_s: float, *, dies: bool) -> None:
    guest = host(Counter())
    pipes = Pipes(hub.swarm, nursery)
    guest.swarm.transport_manager.transport_for_dialing = lambda _: pipes  # type: ignore[method-assign, assignment, return-value]
    async with guest.serving():
        await guest.swarm.dial_peer(hub.get_id())
        for _ in range(3):
            stream = await guest.new_stream(hub.get_id(), [TProtocol("/ipfs/ping/1.0.0")])
            await stream.write(bytes(32))
            assert await stream.read(32) == bytes(32)
            await stream.close()
            await trio.sleep(stay_s / 3)
        assert guest.swarm.get_connections(hub.get_id()), "idle, but alive"
        if dies:
            pipes.go_dead()
            await trio.sleep(10 * LIMITS.keepalive_s)
            assert not hub.swarm.get_connections(guest.get_id())
        await guest.swarm.close_connections(1.0)


async def test_after_a_day_of_coming_and_going_nothing_is_left(autojump_clock: MockClock) -> None:
    rng = random.Random(7)
    counters: Counter[str] = Counter()
    hub = host(counters)
    async with hub.serving(), trio.open_nursery() as nursery:
        await visit(hub, nursery, 60.0, dies=False)
        await trio.sleep(HOUR_S)
        tasks = trio.lowlevel.current_statistics().tasks_living
        started_s = trio.current_time()
        visits = 1
        async with trio.open_nursery() as visitors:
            while trio.current_time() < started_s + HOURS * HOUR_S:
                visitors.start_soon(
                    lambda stay_s, dies: visit(hub, nursery, stay_s, dies=dies), rng.uniform(1, 1800), visits % 5 == 0
                )
                visits += 1
                await trio.sleep(rng.uniform(0.5, 1.5) * BETWEEN_S)
        await trio.sleep(HOUR_S)

        swarm = hub.swarm
        assert trio.lowlevel.current_statistics().tasks_living <= tasks
        assert not swarm.connections
        assert swarm.inbound_slots_taken == swarm.shedding.memory.used_bytes == 0
        assert swarm.open_streams == (0, 0)
        gc.collect()
        leftovers = (swarm._shares, swarm._handshakes, swarm._origins, hub._streams, hub._identified_peers)
        assert [len(one) for one in leftovers] == [0] * len(leftovers)
        assert counters["peers frozen"] == (visits - 1) // 5
        nursery.cancel_scope.cancel()
