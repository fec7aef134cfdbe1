"""One end of a broadcast in a process of its own, for :mod:`bench.gossip`: ours, or the library as it ships.

Arguments: ``ours`` or ``library``, and the address of the other end for the one that dials. Says its address in a line, then
answers each line on its input: ``publish COUNT RATE SIZE`` with the processor seconds that took, ``report`` with the delays of
what it heard since the last time and the processor seconds since.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from dms.network.libp2p import Libp2pNetwork
from dms.types.ids import PeerID

TOPIC = "/nunet/bench"
LISTEN = "/ip4/127.0.0.1/tcp/0"
STAMP_BYTES = 8

Publish = Callable[[bytes], Awaitable[None]]


@dataclass
class Heard:
    """When what was heard had been published."""

    delays_ms: list[float] = field(default_factory=list)

    def note(self, data: bytes) -> None:
        """A broadcast is here."""
        sent_ns = int.from_bytes(data[:STAMP_BYTES], "big")
        if sent_ns:
            self.delays_ms.append((time.monotonic_ns() - sent_ns) / 1e6)

    def take(self) -> list[float]:
        """Since the last time."""
        taken, self.delays_ms = self.delays_ms, []
        return taken


@asynccontextmanager
async def ours(address: str, heard: Heard) -> AsyncIterator[tuple[str, Publish]]:
    """Our own network."""
    network = Libp2pNetwork(seed=os.urandom(32), listen=[LISTEN], explore=False)

    async def hear(sender: PeerID, data: bytes) -> None:
        if sender != network.peer_id:
            heard.note(data)

    await network.subscribe(TOPIC, hear)
    async with network.run():
        if address:
            await network.connect(address)

        async def publish(data: bytes) -> None:
            await network.publish(TOPIC, data)

        yield network.listen_addresses[0], publish


@asynccontextmanager
async def library(address: str, heard: Heard) -> AsyncIterator[tuple[str, Publish]]:
    """The library's host, router and pubsub with their defaults, but for the heartbeat and what limits the rate."""
    from libp2p import new_host
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
    from libp2p.pubsub.pubsub import Pubsub
    from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
    from libp2p.security.noise.transport import Transport
    from libp2p.tools.anyio_service import background_trio_service
    from multiaddr import Multiaddr

    keys = create_new_key_pair(os.urandom(32))
    noise = Transport(keys, noise_privkey=create_new_x25519_key_pair().private_key)
    host = new_host(key_pair=keys, listen_addrs=[Multiaddr(LISTEN)], sec_opt={NOISE: noise})
    router = GossipSub(
        [PROTOCOL_ID_V12, PROTOCOL_ID_V11], 6, 4, 12, heartbeat_interval=1, spam_protection_enabled=False
    )
    pubsub = Pubsub(host, router, strict_signing=True)
    async with (
        host.run(listen_addrs=[Multiaddr(LISTEN)]),
        background_trio_service(pubsub),
        background_trio_service(router),
        trio.open_nursery() as nursery,
    ):
        await pubsub.wait_until_ready()
        subscription = await pubsub.subscribe(TOPIC)

        async def listen() -> None:
            while True:
                message = await subscription.get()
                if message.from_id != host.get_id().to_bytes():
                    heard.note(message.data)

        nursery.start_soon(listen)
        if address:
            await host.connect(info_from_p2p_addr(Multiaddr(address)))

        async def publish(data: bytes) -> None:
            await pubsub.publish(TOPIC, data)

        yield str(host.get_addrs()[0]), publish
        nursery.cancel_scope.cancel()


async def main(kind: str, address: str) -> None:
    """Serve until the input ends."""
    heard = Heard()
    cpu_s = time.process_time()
    async with {"ours": ours, "library": library}[kind](address, heard) as (own, publish):
        _say(own)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            command, *numbers = line.split()
            if command == "publish":
                count, rate, size = map(int, numbers)
                before_s = time.process_time()
                await _publish(publish, count, rate, size)
                _say(time.process_time() - before_s)
            else:
                now_s = time.process_time()
                _say([heard.take(), now_s - cpu_s])
                cpu_s = now_s


async def _publish(publish: Publish, count: int, rate: int, size: int) -> None:
    started_s = trio.current_time()
    for number in range(count):
        await trio.sleep_until(started_s + number / rate)
        await publish(time.monotonic_ns().to_bytes(STAMP_BYTES, "big") + bytes(size - STAMP_BYTES))


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], "".join(sys.argv[2:]))
