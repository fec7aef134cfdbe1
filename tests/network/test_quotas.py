"""How much one peer may take, how much all together, and who is let in at all; real sockets."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from ipaddress import ip_address

import pytest
import trio
from tests.network.waiting import until

from dms.network import PeerUnreachable
from dms.network.framing import encode_frame
from dms.network.libp2p import Gate, Libp2pNetwork, Limits
from dms.network.libp2p.connections.limits import CONNECTION_BYTES, MIB
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.core import GuardedHost
from dms.types.ids import PeerID

from libp2p.abc import INetStream  # isort: skip
from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.custom_types import TProtocol  # isort: skip
from libp2p.network.exceptions import SwarmException  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from multiaddr import Multiaddr  # isort: skip

ROOT = "actor/root/messages/0.0.1"
LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)

_seeds = itertools.count(1 << 72)


def node(limits: Limits | None = None, *, gate: Gate | None = None) -> Libp2pNetwork:
    return Libp2pNetwork(
        seed=next(_seeds).to_bytes(32, "big"),
        listen=LOOPBACK,
        limits=limits,
        gate=gate,
        explore=False,
    )


@contextlib.asynccontextmanager
async def stranger(victim: Libp2pNetwork) -> AsyncIterator[tuple[GuardedHost, ID]]:
    """A bare host, not yet connected, that knows where the victim is."""
    counters: Counter[str] = Counter()
    target = Multiaddr(victim.listen_addresses[0].rpartition("/p2p/")[0])
    keys = create_new_key_pair(next(_seeds).to_bytes(32, "big"))
    swarm = GuardedSwarm(keys, limits=Limits(), addresses_of=lambda _: [target], counters=counters)
    host = GuardedHost(swarm, counters=counters)
    async with host.serving():
        yield host, ID.from_base58(victim.peer_id)
        await swarm.close_connections(1.0)


# quotas --------------------------------------------------------------------------------------------------------------


async def test_a_peer_has_no_more_connections_than_its_share_and_the_newest_count() -> None:
    victim = node(Limits(connections_per_peer=3))
    victim.handle(ROOT, _ignore)
    async with victim.run(), stranger(victim) as (host, peer):
        address = host.swarm._addresses_of(peer)
        conns = [await host.swarm.dial_at(peer, address) for _ in range(5)]
        await until(lambda: conns[0].is_closed and conns[1].is_closed)
        assert not any(conn.is_closed for conn in conns[2:])
        assert len(victim._running().swarm.get_connections(host.get_id())) == 3
        assert victim.counters()["connections closed: too many of one peer"] == 2
        await host.new_stream(peer, [TProtocol(ROOT)])


async def test_a_peer_that_sends_faster_than_it_may_is_slowed_and_stays_connected() -> None:
    victim = node(Limits(bytes_per_s=2.0 * MIB, bytes_burst=64 * 1024))
    got = list[int]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.append(len(data))

    victim.handle(ROOT, keep)
    async with victim.run():
        greedy = node()
        async with greedy.run():
            await greedy.connect(victim.listen_addresses[0])
            for _ in range(3):
                await greedy.send(victim.peer_id, ROOT, bytes(200_000))
            await until(lambda: len(got) == 3)
            (conn,) = victim._running().swarm.get_connections()
            assert isinstance(conn.muxed_conn, KeepaliveYamux)
            assert conn.muxed_conn.secured_conn.pauses > 0
            assert victim.is_connected(greedy.peer_id)


async def test_streams_that_a_peer_opens_too_fast_are_accepted_later_and_none_is_lost() -> None:
    victim = node(Limits(new_streams_per_s=200.0, new_streams_burst=2.0))
    got = list[bytes]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.append(data)

    victim.handle(ROOT, keep)
    async with victim.run(), stranger(victim) as (host, peer):
        await host.swarm.dial_peer(peer)
        started_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(_send, host, peer, b"%d" % number)
        await until(lambda: len(got) == 60)
        assert trio.current_time() - started_s >= (60 - 2 - 1) / 200.0


async def test_the_streams_of_all_peers_together_are_bounded() -> None:
    victim = node(Limits(inbound_streams=6))
    victim.handle(ROOT, _ignore)
    async with victim.run(), stranger(victim) as (one, peer), stranger(victim) as (two, _):
        streams = list[INetStream]()
        for host in (one, two):
            await host.swarm.dial_peer(peer)
        await until(lambda: len(victim.peers()) == 2 and victim._running().swarm.open_streams[0] <= 4)
        with pytest.raises(Exception, match="failed to open a stream"):
            await _open_for_ever(itertools.cycle((one, two)), peer, streams)
        assert len(streams) <= 6
        assert victim.counters()["streams refused"] >= 1
        for stream in streams:
            await stream.reset()
        await until(lambda: victim._running().swarm.open_streams[0] <= 4)
        await one.new_stream(peer, [TProtocol(ROOT)])


async def test_streams_that_we_open_are_bounded_too() -> None:
    a, b = node(Limits(outbound_streams=4)), node()
    b.handle(ROOT, _ignore)
    async with a.run(), b.run():
        await a.connect(b.listen_addresses[0])
        host, peer = a._running().host, ID.from_base58(b.peer_id)
        with pytest.raises(Exception, match="all the streams open that it may have"):
            await _open_for_ever(itertools.repeat(host), peer, [])
        assert host.swarm.open_streams[1] <= 4


async def test_too_much_unread_memory_closes_the_connection_that_holds_most_of_it() -> None:
    memory = 3 * CONNECTION_BYTES + 600_000
    victim = node(Limits(memory_bytes=memory))
    victim.handle(ROOT, _ignore)
    async with victim.run(), stranger(victim) as (greedy, peer), stranger(victim) as (modest, _):
        for host in (greedy, modest):
            await host.swarm.dial_peer(peer)
        memory_of = victim._running().swarm.shedding.memory
        hold = trio.Event()

        async def never_read(_stream: object) -> None:
            await hold.wait()

        victim._running().host.set_stream_handler(TProtocol("/never-read"), never_read)
        small = await modest.new_stream(peer, [TProtocol("/never-read")])
        await small.write(bytes(100_000))
        for _ in range(4):
            stream = await greedy.new_stream(peer, [TProtocol("/never-read")])
            with contextlib.suppress(Exception):  # it may learn while it writes that it was closed
                await stream.write(bytes(200_000))
        await until(lambda: not victim.is_connected(PeerID(str(greedy.get_id()))))

        assert victim.counters()["connections closed: memory"] == 1
        assert victim.is_connected(PeerID(str(modest.get_id())))
        await until(lambda: memory_of.used_bytes <= 3 * CONNECTION_BYTES + 100_000)
        hold.set()


async def test_memory_that_is_used_up_lets_nobody_in_until_there_is_some() -> None:
    victim = node(Limits(memory_bytes=CONNECTION_BYTES + CONNECTION_BYTES // 2))
    async with victim.run():
        async with stranger(victim) as (first, peer):
            await first.swarm.dial_peer(peer)
            await until(lambda: victim._running().swarm.shedding.memory.used_bytes >= CONNECTION_BYTES)
            async with stranger(victim) as (second, _):
                with pytest.raises(SwarmException):
                    await second.swarm.dial_peer(peer)
            assert victim.counters()["connections refused: no memory"] == 1
        await until(lambda: not victim.peers())
        async with stranger(victim) as (third, _):
            await third.swarm.dial_peer(peer)


async def test_no_more_connections_are_made_than_there_are_descriptors_for() -> None:
    limits = Limits().within(memory_bytes=64 * MIB, descriptors=4)
    assert (limits.inbound_connections, limits.connections) == (3, 4)
    hub = node(limits)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(hub.run())
        others = [node() for _ in range(5)]
        for other in others:
            await stack.enter_async_context(other.run())
        for other in others[:3]:
            await other.connect(hub.listen_addresses[0])
        with pytest.raises(PeerUnreachable):
            await others[3].connect(hub.listen_addresses[0])
        await hub.connect(others[3].listen_addresses[0])  # one is kept for dials of our own
        with pytest.raises(PeerUnreachable, match=r"p2p\.fd"):
            await hub.connect(others[4].listen_addresses[0])
        await hub.disconnect(others[3].peer_id)
        await until(lambda: not hub.is_connected(others[3].peer_id))
        await hub.connect(others[4].listen_addresses[0])


async def test_above_the_high_water_mark_the_idle_go_and_bootstrap_peers_and_those_who_work_stay() -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = node()
        await stack.enter_async_context(first.run())
        hub = Libp2pNetwork(
            seed=next(_seeds).to_bytes(32, "big"),
            listen=LOOPBACK,
            limits=Limits(low_water=3, high_water=5, grace_s=0.0),
            bootstrap=(first.listen_addresses[0],),
            app_score=lambda peer: -1.0 if peer == first.peer_id else 0.0,  # but for that, it would go first
            explore=False,
        )
        hub.handle(ROOT, _ignore)
        await stack.enter_async_context(hub.run())
        await until(lambda: hub.is_connected(first.peer_id))
        host, peer = await stack.enter_async_context(stranger(hub))
        await host.swarm.dial_peer(peer)
        await host.new_stream(peer, [TProtocol(ROOT)])  # work under way
        idle = [node() for _ in range(4)]
        for each in idle:
            await stack.enter_async_context(each.run())
            await each.connect(hub.listen_addresses[0])
        await until(lambda: len(hub.peers()) == 3)
        assert hub.counters()["connections closed: trimmed"] == 3
        assert {first.peer_id, PeerID(str(host.get_id()))} <= {info.peer for info in hub.peers()}


async def test_the_young_are_not_trimmed() -> None:
    async with contextlib.AsyncExitStack() as stack:
        hub = node(Limits(low_water=1, high_water=2, grace_s=60.0))
        await stack.enter_async_context(hub.run())
        for _ in range(4):
            other = node()
            await stack.enter_async_context(other.run())
            await other.connect(hub.listen_addresses[0])
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(hub.peers()) == 4


async def test_one_machine_cannot_take_all_the_connections() -> None:
    hub = node(Limits(connections_per_ip=2))
    async with hub.run():
        swarm = hub._running().swarm
        there = ip_address("192.0.2.1")
        for _ in range(2):
            assert not swarm._refuses_inbound(there, "192.0.2.1")
            swarm._origins.change(there, 1)
        assert swarm._refuses_inbound(there, "192.0.2.1") == "too many from there"
        newcomer = node()
        async with newcomer.run():
            await newcomer.connect(hub.listen_addresses[0])  # of our own machine


# who is let in -------------------------------------------------------------------------------------------------------


async def test_a_denied_peer_is_refused_after_the_handshake_and_not_dialled() -> None:
    other = node()
    victim = node(gate=Gate(deny=[other.peer_id]))
    async with victim.run(), other.run():
        with pytest.raises(PeerUnreachable):
            await other.connect(victim.listen_addresses[0])
        await until(lambda: victim.counters().get("connections refused: peer") == 1)
        with pytest.raises(PeerUnreachable, match=r"p2p\.deny_peers names it"):
            await victim.connect(other.listen_addresses[0])
        assert victim.peers() == ()


async def test_with_a_list_of_allowed_peers_all_others_are_strangers() -> None:
    friend, other = node(), node()
    victim = node(gate=Gate(allow=[friend.peer_id]))
    async with victim.run(), friend.run(), other.run():
        with pytest.raises(PeerUnreachable):
            await other.connect(victim.listen_addresses[0])
        await friend.connect(victim.listen_addresses[0])
        await until(lambda: victim.is_connected(friend.peer_id))


async def test_whoever_is_denied_later_loses_its_connection_at_once() -> None:
    other, friend = node(), node()
    victim = node()
    async with victim.run(), other.run(), friend.run():
        for each in (other, friend):
            await each.connect(victim.listen_addresses[0])
        victim.regate(deny=[other.peer_id], allow=[])
        await until(lambda: not victim.is_connected(other.peer_id))
        assert victim.is_connected(friend.peer_id)
        with pytest.raises(PeerUnreachable):
            await other.ping(victim.peer_id)
        victim.regate(deny=[], allow=[])
        await other.connect(victim.listen_addresses[0])


async def test_in_server_mode_private_addresses_are_neither_dialled_nor_let_in_nor_announced() -> None:
    server = Libp2pNetwork(
        seed=next(_seeds).to_bytes(32, "big"),
        listen=("/ip4/0.0.0.0/tcp/0",),
        gate=Gate(server_mode=True),
        explore=False,
    )
    async with server.run():
        someone = node().peer_id
        with pytest.raises(PeerUnreachable, match=r"p2p\.server_mode"):
            await server.connect(f"/ip4/10.1.2.3/tcp/9000/p2p/{someone}")
        swarm = server._running().swarm
        assert swarm._refuses_inbound(ip_address("192.168.1.4"), "192.168.1.4") == "private address"
        announced = server._running().host.get_addrs()
        assert not any(str(address).startswith(("/ip4/10.", "/ip4/172.1", "/ip4/192.168")) for address in announced)
        newcomer = node()
        async with newcomer.run():  # loopback: this is how a devnet of servers works
            port = server.listen_addresses[0].split("/")[4]
            await newcomer.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{server.peer_id}")


async def test_other_addresses_of_this_machine_are_told_to_peers_and_the_dead_are_noticed() -> None:
    a, b = node(), node()
    async with a.run(), b.run(), trio.open_nursery() as nursery:
        await b.connect(a.listen_addresses[0])
        await until(lambda: a._running().host.is_identified(ID.from_base58(b.peer_id)))
        told = list[str]()
        b._running().host.on_identified = lambda peer: told.append(str(peer))

        here, elsewhere = ip_address("127.0.0.1"), ip_address("192.0.2.1")
        probed = [muxer.local_ip for _, muxer in a._running().swarm.shedding._living()]
        assert probed == [here]
        a._on_moved(nursery, [here, elsewhere])

        await until(lambda: told == [a.peer_id])
        assert a.counters()["addresses changed"] == 1
        assert a.is_connected(b.peer_id)


async def _open_for_ever(hosts: Iterable[GuardedHost], peer: ID, streams: list[INetStream]) -> None:
    for host in hosts:
        streams.append(await host.new_stream(peer, [TProtocol(ROOT)]))  # noqa: PERF401  what was opened is kept


async def _send(host: GuardedHost, peer: ID, data: bytes) -> None:
    stream = await host.new_stream(peer, [TProtocol(ROOT)])
    await stream.write(encode_frame(data))
    await stream.close()


async def _ignore(_sender: PeerID, _data: bytes) -> None:
    return


async def test_another_interface_that_comes_or_goes_leaves_connections_alone() -> None:
    a, b = node(), node()
    async with a.run(), b.run(), trio.open_nursery() as nursery:
        await b.connect(a.listen_addresses[0])
        await until(lambda: a.peers())
        ((_, muxer),) = a._running().swarm.shedding._living()

        a._on_moved(nursery, [ip_address("172.18.0.1")])

        assert not muxer._probed.is_set()
