"""Our gossip and that of the libp2p library, as it ships, on one topic: signatures, subscriptions and meshes in common."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator

from dms.network.libp2p import Libp2pNetwork  # isort: skip  # before anything of the library

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from multiaddr import Multiaddr

from dms.network.libp2p.connections.limits import Limits
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.services import running
from dms.types.ids import PeerID

TOPIC = "/nunet/hello"
_seeds = itertools.count(900)


@contextlib.asynccontextmanager
async def library(target: Libp2pNetwork) -> AsyncIterator[tuple[Pubsub, GossipSub]]:
    """The library's router on a host connected to ours."""
    counters: Counter[str] = Counter()
    address = Multiaddr(target.listen_addresses[0].rpartition("/p2p/")[0])
    keys = create_new_key_pair(next(_seeds).to_bytes(32, "big"))
    swarm = GuardedSwarm(keys, limits=Limits(), addresses_of=lambda _: [address], counters=counters)
    host = GuardedHost(swarm, counters=counters)
    router = GossipSub([PROTOCOL_ID_V12, PROTOCOL_ID_V11], 6, 4, 12, heartbeat_interval=1)
    pubsub = Pubsub(host, router, strict_signing=True)
    pubsub.seen_messages._stop_event.set()  # its thread would outlive the test
    async with host.serving(), running(pubsub, lambda: None), running(router, lambda: None):
        await pubsub.wait_until_ready()
        await swarm.dial_peer(ID.from_base58(target.peer_id))
        yield pubsub, router
        await swarm.close_connections(1.0)


async def test_broadcasts_pass_between_us_and_the_library_in_both_directions() -> None:
    ours = Libp2pNetwork(seed=next(_seeds).to_bytes(32, "big"), listen=["/ip4/127.0.0.1/tcp/0"])
    got: list[tuple[PeerID, bytes]] = []
    arrived = trio.Event()

    async def keep(sender: PeerID, data: bytes) -> None:
        if sender != ours.peer_id:
            got.append((sender, data))
            arrived.set()

    async with ours.run():
        await ours.subscribe(TOPIC, keep)
        async with library(ours) as (pubsub, router):
            subscription = await pubsub.subscribe(TOPIC)
            with trio.fail_after(10):
                await pubsub.wait_for_mesh(ID.from_base58(ours.peer_id), TOPIC)
                await pubsub.publish(TOPIC, b"from the library")
                await arrived.wait()
                await ours.publish(TOPIC, b"from us")
                message = await subscription.get()
                while message.data != b"from us":
                    message = await subscription.get()
            assert got == [(PeerID(pubsub.my_id.to_base58()), b"from the library")]
            assert message.from_id == ID.from_base58(ours.peer_id).to_bytes()
            assert ours.scores()[PeerID(pubsub.my_id.to_base58())].topics[TOPIC].invalid_messages == 0
            assert router.mesh[TOPIC] == {ID.from_base58(ours.peer_id)}
