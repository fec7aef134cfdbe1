"""Those who send a byte now and then, at every place where something is waited for; real sockets."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import trio
from tests.network.waiting import until

from dms.network.framing import encode_frame
from dms.network.libp2p import Libp2pNetwork, Limits
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.core import GuardedHost
from dms.types.ids import PeerID

from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.custom_types import TProtocol  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from multiaddr import Multiaddr  # isort: skip

ROOT = "actor/root/messages/0.0.1"
MULTISTREAM = b"\x13/multistream/1.0.0\n"
DRIP_S = 0.1
LIMITS = Limits(handshake_s=1.0, negotiation_s=1, read_s=1.0, keepalive_s=0.4)

_seeds = itertools.count(1 << 74)


def node(limits: Limits = LIMITS) -> Libp2pNetwork:
    seed = next(_seeds).to_bytes(32, "big")
    return Libp2pNetwork(seed=seed, listen=("/ip4/127.0.0.1/tcp/0",), limits=limits, explore=False)


async def drip(write: Callable[[bytes], Awaitable[object]], data: bytes) -> None:
    """Send it byte by byte, until somebody ends that."""
    with contextlib.suppress(Exception):  # whatever says that the other side has had enough
        for byte in itertools.cycle(data):
            await write(bytes([byte]))
            await trio.sleep(DRIP_S)


@contextlib.asynccontextmanager
async def attacker(victim: Libp2pNetwork) -> AsyncIterator[tuple[GuardedHost, ID]]:
    target = Multiaddr(victim.listen_addresses[0].rpartition("/p2p/")[0])
    counters: Counter[str] = Counter()
    keys = create_new_key_pair(next(_seeds).to_bytes(32, "big"))
    swarm = GuardedSwarm(keys, limits=Limits(), addresses_of=lambda _: [target], counters=counters)
    host = GuardedHost(swarm, counters=counters)
    async with host.serving():
        yield host, ID.from_base58(victim.peer_id)
        await swarm.close_connections(1.0)


async def serves_others(victim: Libp2pNetwork) -> None:
    """While somebody dawdles."""
    got = list[bytes]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.append(data)

    victim.handle("actor/check/messages/0.0.1", keep)
    async with (other := node(Limits())).run():
        await other.connect(victim.listen_addresses[0])
        await other.send(victim.peer_id, "actor/check/messages/0.0.1", b"hello")
        await until(lambda: got == [b"hello"])
    victim.unhandle("actor/check/messages/0.0.1")


async def test_whoever_dawdles_over_the_handshake_is_dropped_at_its_deadline() -> None:
    openings = {
        "greeting": b"",
        "choice of encryption": MULTISTREAM,
        "length of the first message": MULTISTREAM + b"\x07/noise\n",
        "first message": MULTISTREAM + b"\x07/noise\n\x00\x20",
    }
    victim = node()
    async with victim.run(), trio.open_nursery() as nursery:
        port = int(victim.listen_addresses[0].split("/")[4])
        streams = []
        for opening in openings.values():
            for _ in range(3):
                streams.append(stream := await trio.open_tcp_stream("127.0.0.1", port))
                await stream.send_all(opening)
                nursery.start_soon(drip, stream.send_all, b"\x13/multistream/1.0.0")
        await serves_others(victim)
        await until(lambda: victim.counters().get("handshakes failed", 0) == len(streams))
        await until(lambda: victim._running().swarm.inbound_slots_taken == 0)
        for stream in streams:
            await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


async def test_whoever_dawdles_over_the_name_of_a_protocol_loses_the_stream_only() -> None:
    victim = node()
    async with victim.run(), attacker(victim) as (host, peer), trio.open_nursery() as nursery:
        conn = await host.swarm.dial_peer(peer)
        await until(lambda: victim.peers())
        before = len(victim._running().swarm.get_connections()[0].get_streams())
        for _ in range(5):
            muxed = await conn[0].muxed_conn.open_stream()
            await muxed.write(MULTISTREAM)
            nursery.start_soon(drip, muxed.write, b"\x7f" + bytes(127))
        await until(lambda: len(victim._running().swarm.get_connections()[0].get_streams()) >= before + 5)
        await serves_others(victim)
        await until(lambda: len(victim._running().swarm.get_connections(host.get_id())[0].get_streams()) <= before)
        nursery.cancel_scope.cancel()


async def test_whoever_dawdles_over_a_message_loses_its_stream_and_its_slot_is_free_again() -> None:
    victim = node()
    victim.handle(ROOT, _ignore)
    async with victim.run(), attacker(victim) as (host, peer), trio.open_nursery() as nursery:
        await host.swarm.dial_peer(peer)
        for opening in (b"", encode_frame(bytes(100_000))[:20]):
            stream = await host.new_stream(peer, [TProtocol(ROOT)])
            if opening:
                await stream.write(opening)
            nursery.start_soon(drip, stream.write, b"\x00\x01\x00\x00\x00\x00\x00\x00" if not opening else b"x")
        await serves_others(victim)
        await until(lambda: victim.counters().get("messages dropped: too slow", 0) >= 1)
        await until(lambda: sum(n for k, n in victim.counters().items() if k.startswith("messages dropped")) == 2)
        assert victim.is_connected(PeerID(str(host.get_id())))
        nursery.cancel_scope.cancel()


async def test_whoever_drips_bytes_into_the_muxer_and_answers_no_pings_is_frozen() -> None:
    victim = node()
    async with victim.run(), attacker(victim) as (host, peer), trio.open_nursery() as nursery:
        (conn,) = await host.swarm.dial_peer(peer)
        assert isinstance(conn.muxed_conn, KeepaliveYamux)
        muxer = conn.muxed_conn
        await until(lambda: victim.peers())
        async with muxer._write_lock:  # from here on it answers nothing
            secured = muxer.secured_conn
            await secured.write(b"\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\xff\xff")  # a frame of 64 KiB begins
            nursery.start_soon(drip, secured.write, b"x")
            await serves_others(victim)
            await until(lambda: not victim.is_connected(PeerID(str(host.get_id()))))
        assert victim.counters()["peers frozen"] == 1
        nursery.cancel_scope.cancel()


async def _ignore(_sender: PeerID, _data: bytes) -> None:
    return
