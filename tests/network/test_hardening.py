"""Regression tests of the defects of the libp2p library, and of what else arrives at an open port; real sockets."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import trio
from tests.network.waiting import until
from trio.testing import MockClock

from dms.network import MAX_MESSAGE_BYTES, PeerChange, PeerEvent, PeerUnreachable
from dms.network.framing import encode_frame
from dms.network.libp2p import Libp2pNetwork, Limits
from dms.network.libp2p.connections.swarm import GuardedSwarm
from dms.network.libp2p.core import GuardedHost
from dms.types.ids import PeerID

# The library, for attackers: only after our package has put its placeholder in place.
from libp2p import new_host  # isort: skip
from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.custom_types import TProtocol  # isort: skip
from libp2p.network.exceptions import SwarmException  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from libp2p.peer.peerinfo import info_from_p2p_addr  # isort: skip
from libp2p.pubsub.pb import rpc_pb2  # isort: skip
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport  # isort: skip
from libp2p.utils.varint import encode_varint_prefixed  # isort: skip
from multiaddr import Multiaddr  # isort: skip

ROOT = "actor/root/messages/0.0.1"
TOPIC = "/nunet/hello"
MESHSUB = "/meshsub/1.2.0"
LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)

_seeds = itertools.count(1 << 64)


def node(limits: Limits | None = None, **more: object) -> Libp2pNetwork:
    return Libp2pNetwork(
        seed=next(_seeds).to_bytes(32, "big"),
        listen=LOOPBACK,
        limits=limits,
        explore=False,
        **more,  # type: ignore[arg-type]
    )


def port_of(network: Libp2pNetwork) -> int:
    return int(network.listen_addresses[0].split("/")[4])


@contextlib.asynccontextmanager
async def attacker(victim: Libp2pNetwork) -> AsyncIterator[tuple[GuardedHost, ID]]:
    """A bare host connected to the victim, that speaks whatever it likes."""
    counters: Counter[str] = Counter()
    target = Multiaddr(victim.listen_addresses[0].rpartition("/p2p/")[0])
    keys = create_new_key_pair(next(_seeds).to_bytes(32, "big"))
    swarm = GuardedSwarm(keys, limits=Limits(), addresses_of=lambda _: [target], counters=counters)
    host = GuardedHost(swarm, counters=counters)
    peer = ID.from_base58(victim.peer_id)
    async with host.serving():
        await swarm.dial_peer(peer)
        yield host, peer
        await swarm.close_connections(1.0)


async def stays_useful(victim: Libp2pNetwork) -> None:
    """Whatever happened: a newcomer can connect, send, and be heard."""
    got = list[bytes]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.append(data)

    victim.handle("actor/check/messages/0.0.1", keep)
    number = await victim.subscribe("/check", keep)
    newcomer = node()
    async with newcomer.run():
        await newcomer.connect(victim.listen_addresses[0])
        await newcomer.ping(victim.peer_id, timeout_s=5.0)
        await newcomer.send(victim.peer_id, "actor/check/messages/0.0.1", b"direct")
        await newcomer.publish("/check", b"broadcast")
        await until(lambda: sorted(got) == [b"broadcast", b"direct"])
    await victim.unsubscribe(number)
    victim.unhandle("actor/check/messages/0.0.1")


def hostile_rpcs() -> list[rpc_pb2.RPC]:
    key = create_new_key_pair(bytes(32))
    me = ID.from_pubkey(key.public_key).to_bytes()
    message = rpc_pb2.Message
    control = rpc_pb2.ControlMessage
    return [
        rpc_pb2.RPC(publish=[message(data=b"x", topicIDs=[TOPIC], from_id=os.urandom(8), seqno=b"1", signature=b"s")]),
        rpc_pb2.RPC(publish=[message(data=b"x", topicIDs=[TOPIC])]),
        rpc_pb2.RPC(publish=[message(data=b"x", topicIDs=[TOPIC], from_id=me, seqno=b"1", key=os.urandom(36))]),
        rpc_pb2.RPC(publish=[message(data=b"x", topicIDs=[TOPIC], from_id=me, seqno=b"2", signature=bytes(64))]),
        rpc_pb2.RPC(publish=[message(data=b"x", topicIDs=[TOPIC, "/other"], from_id=me)]),
        rpc_pb2.RPC(publish=[message()] * 10_000),
        rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"t{n}") for n in range(5000)]),
        rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts()]),
        rpc_pb2.RPC(control=control(graft=[rpc_pb2.ControlGraft(topicID=TOPIC), rpc_pb2.ControlGraft()])),
        rpc_pb2.RPC(
            control=control(prune=[rpc_pb2.ControlPrune(topicID=TOPIC, backoff=2**63), rpc_pb2.ControlPrune()])
        ),
        rpc_pb2.RPC(
            control=control(
                prune=[
                    rpc_pb2.ControlPrune(
                        topicID=TOPIC, peers=[rpc_pb2.PeerInfo(peerID=b"short", signedPeerRecord=os.urandom(50))]
                    )
                ]
            )
        ),
        rpc_pb2.RPC(senderRecord=os.urandom(100)),
    ]


# the defects ---------------------------------------------------------------------------------------------------------


async def test_a_malformed_gossip_frame_does_not_kill_the_host() -> None:
    victim = node()
    async with victim.run():
        await victim.subscribe(TOPIC, _ignore)
        frames = [encode_varint_prefixed(b"\x4b" + os.urandom(60)), b"\xff" * 20, b"\x05abc", b"", bytes(50)]
        frames += [encode_varint_prefixed(rpc.SerializeToString()) for rpc in hostile_rpcs()]
        async with attacker(victim) as (host, peer):
            for number, frame in enumerate(frames):
                stream = await host.new_stream(peer, [TProtocol(MESHSUB)])
                await stream.write(frame)
                await (stream.close() if number % 2 else stream.reset())

        await until(lambda: victim.counters().get("gossip frames malformed", 0) >= 1)
        await stays_useful(victim)
        assert victim.counters().get("tasks failed", 0) == 0


async def test_garbage_on_any_protocol_ends_its_stream_only() -> None:
    victim = node()
    victim.handle(ROOT, _ignore)
    async with victim.run():
        protocols = ["/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "nunet/peers/0.0.1", ROOT]
        async with attacker(victim) as (host, peer):
            for protocol in protocols:
                for garbage in (
                    os.urandom(100),
                    b"\xff" * 20,
                    encode_frame(b"[" * 900),
                    encode_frame(b'{"sample": -1}'),
                ):
                    stream = await host.new_stream(peer, [TProtocol(protocol)])
                    await stream.write(garbage)
                    await stream.close()
            # One connection survived all of it.
            await host.new_stream(peer, [TProtocol(ROOT)])

        await stays_useful(victim)


async def test_garbage_inside_the_muxer_ends_its_connection_only() -> None:
    victim = node()
    async with victim.run():
        for raw in (
            os.urandom(200),
            struct.pack(">BBHII", 0, 0, 1, 1, 0xFFFFFFFF),
            struct.pack(">BBHII", 0, 9, 0, 0, 0),
            struct.pack(">BBHII", 0, 0, 0, 99, 10) + b"x" * 10,
            struct.pack(">BBHII", 0, 3, 0, 0, 0),
            b"".join(struct.pack(">BBHII", 0, 1, 1, 2 * number + 1, 0) for number in range(600)),
        ):
            async with attacker(victim) as (host, peer):
                muxer = host.swarm.get_connections(peer)[0].muxed_conn
                await muxer.secured_conn.write(raw)  # type: ignore[attr-defined]

        await stays_useful(victim)


async def test_a_peer_that_offers_only_plaintext_is_refused() -> None:
    victim = node()
    keys = create_new_key_pair(next(_seeds).to_bytes(32, "big"))
    listen = [Multiaddr(LOOPBACK[0])]
    spoofer = new_host(
        key_pair=keys, listen_addrs=listen, sec_opt={TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(keys)}
    )
    async with victim.run():
        async with spoofer.run(listen_addrs=listen):
            with trio.fail_after(15), pytest.raises(SwarmException):
                await spoofer.connect(info_from_p2p_addr(Multiaddr(victim.listen_addresses[0])))
            assert victim.peers() == ()
            await spoofer.close()
        await stays_useful(victim)


async def test_inbound_slots_are_free_again_when_connections_end() -> None:
    limit = 4
    victim = node(Limits(inbound_connections=limit))
    async with victim.run():
        for _ in range(6):
            async with trio.open_nursery() as nursery:
                for _ in range(limit):
                    nursery.start_soon(_visit, victim)
            await until(lambda: not victim.peers())
        assert victim.counters().get("connections refused: too many", 0) == 0
        await stays_useful(victim)


async def test_raw_connections_that_come_and_go_take_no_slots() -> None:
    victim = node(Limits(inbound_connections=64))
    async with victim.run():
        for _ in range(300):
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(victim))
            await stream.aclose()
        await stays_useful(victim)


async def test_connections_over_the_limit_are_refused_and_counted() -> None:
    victim = node(Limits(inbound_connections=1))
    async with victim.run(), attacker(victim):
        late = node()
        async with late.run():
            with pytest.raises(PeerUnreachable):
                await late.connect(victim.listen_addresses[0])
        assert victim.counters()["connections refused: too many"] == 1


async def test_a_dial_to_a_silent_port_ends_at_its_deadline() -> None:
    dialler = node()
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        port = silent.getsockname()[1]
        async with dialler.run():
            stranger = node().peer_id
            with trio.fail_after(10), pytest.raises(PeerUnreachable, match="within"):
                await dialler.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{stranger}", timeout_s=0.2)


async def test_a_peer_that_failed_can_be_dialled_again_at_once() -> None:
    dialler, late = node(), node()
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{late.peer_id}"
    async with dialler.run():
        for _ in range(2):
            with pytest.raises(PeerUnreachable):
                await dialler.connect(address)
        late._listen = (f"/ip4/127.0.0.1/tcp/{port}",)
        async with late.run():
            assert await dialler.connect(address) == late.peer_id


async def test_a_frozen_peer_is_noticed() -> None:
    watcher, frozen = node(Limits(keepalive_s=0.2)), node()
    events = list[PeerEvent]()
    watcher.listen(events.append)
    async with frozen.run(), trio.open_nursery() as nursery:
        cable = Cable(port_of(frozen))
        port = await cable.plug(nursery)
        async with watcher.run():
            await watcher.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{frozen.peer_id}")
            cable.freeze()
            await until(lambda: PeerEvent(PeerChange.DISCONNECTED, frozen.peer_id) in events)

            assert not watcher.is_connected(frozen.peer_id)
            assert watcher.counters()["peers frozen"] == 1
        nursery.cancel_scope.cancel()


async def test_an_idle_but_living_peer_is_kept() -> None:
    watcher, other = node(Limits(keepalive_s=0.5)), node()
    async with other.run(), watcher.run():
        await watcher.connect(other.listen_addresses[0])
        measured = set[float | None]()

        def measure() -> bool:
            measured.update(info.rtt_s for info in watcher.peers())
            return len(measured) >= 4

        await until(measure)
        assert watcher.is_connected(other.peer_id)
        assert watcher.counters().get("peers frozen", 0) == 0


async def test_connecting_does_not_wait_out_the_head_start_of_the_next_address(mock_clock: MockClock) -> None:
    mock_clock.rate = 1.0
    a, b = node(), node()
    async with a.run(), b.run():
        mock_clock.rate = 0.01  # a wait of 250 ms would take 25 s of real time and be seen on this clock
        started_s = trio.current_time()
        await b.connect(a.listen_addresses[0])
        elapsed_s = trio.current_time() - started_s
        mock_clock.rate = 1.0
        assert elapsed_s < 0.2


async def test_a_burst_of_broadcasts_arrives_whole() -> None:
    a, b = node(), node()
    got = set[bytes]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.add(data)

    async with a.run(), b.run():
        await a.subscribe(TOPIC, keep)
        await b.connect(a.listen_addresses[0])
        await b.publish(TOPIC, b"first")
        await until(lambda: got)
        for number in range(200):
            await b.publish(TOPIC, b"%d" % number)
        await until(lambda: len(got) == 201)


# the open port -------------------------------------------------------------------------------------------------------


async def test_garbage_on_the_port_harms_nobody() -> None:
    victim = node()
    async with victim.run():
        multistream = b"\x13/multistream/1.0.0\n"
        for garbage in (
            os.urandom(300),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(5000),
            multistream + b"\x07/noise\n" + os.urandom(500),
            multistream + b"\x03ls\n" * 50,
            multistream + b"\x05\xff\xfe\xfd\xfc\n",
            b"",
        ):
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(victim))
            await stream.send_all(garbage)
            await stream.aclose()

        await until(lambda: victim.counters().get("handshakes failed", 0) >= 6)
        await stays_useful(victim)


async def test_half_open_connections_are_dropped_after_the_handshake_limit() -> None:
    victim = node(Limits(handshake_s=0.5, handshakes_per_ip=4))
    async with victim.run():
        idle = [await trio.open_tcp_stream("127.0.0.1", port_of(victim)) for _ in range(6)]
        for stream in idle:
            with trio.fail_after(10):
                while await stream.receive_some():
                    pass
            await stream.aclose()
        assert victim.counters()["handshakes failed"] >= 1
        assert victim.counters()["connections refused: too many handshakes"] >= 1
        await stays_useful(victim)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ((MAX_MESSAGE_BYTES + 1).to_bytes(8, "little"), "too large"),
        (b"\xff" * 8, "too large"),
        (bytes(8), "bad frame"),
        (b"\x05\x00", "bad frame"),
    ],
)
async def test_a_frame_that_is_not_one_is_reset_and_counted(header: bytes, why: str) -> None:
    victim = node()
    victim.handle(ROOT, _ignore)
    async with victim.run():
        async with attacker(victim) as (host, peer):
            stream = await host.new_stream(peer, [TProtocol(ROOT)])
            await stream.write(header)
            await stream.close()
            await until(lambda: victim.counters().get(f"messages dropped: {why}") == 1)
        await stays_useful(victim)


async def test_a_message_that_trickles_in_is_given_up() -> None:
    victim = node(Limits(read_s=0.2))
    victim.handle(ROOT, _ignore)
    async with victim.run(), attacker(victim) as (host, peer):
        stream = await host.new_stream(peer, [TProtocol(ROOT)])
        await stream.write(encode_frame(bytes(1000))[:500])
        await until(lambda: victim.counters().get("messages dropped: too slow") == 1)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_peer_cannot_take_more_than_its_share_of_the_handlers(*, kept: bool) -> None:
    victim = node(Limits(handlers_per_peer=2))
    gate, started = trio.Event(), list[bytes]()

    async def stuck(_sender: PeerID, data: bytes) -> None:
        started.append(data)
        await gate.wait()

    victim.handle(ROOT, stuck)
    async with victim.run():
        greedy, modest = node(keep_streams=kept), node()
        async with greedy.run(), modest.run():
            for each in (greedy, modest):
                await each.connect(victim.listen_addresses[0])
            for number in (1, 2):
                await greedy.send(victim.peer_id, ROOT, b"greedy")
                await until(lambda wanted=number: len(started) == wanted)  # type: ignore[misc]
            with contextlib.suppress(PeerUnreachable):  # it may or may not learn that its stream was reset
                await greedy.send(victim.peer_id, ROOT, b"greedy")
            if not kept:  # on a stream for many messages they wait
                await until(lambda: victim.counters().get("messages dropped: too many at once") == 1)
            await modest.send(victim.peer_id, ROOT, b"modest")
            await until(lambda: b"modest" in started)
            assert started.count(b"greedy") == 2
            gate.set()


async def test_a_peer_cannot_open_streams_without_end() -> None:
    victim = node(Limits(streams_per_peer=8))
    victim.handle(ROOT, _ignore)
    async with victim.run():
        async with attacker(victim) as (host, peer):
            for _ in range(8):
                await host.new_stream(peer, [TProtocol(ROOT)])
            for _ in range(4):
                with pytest.raises(Exception, match="failed to open a stream"):
                    await host.new_stream(peer, [TProtocol(ROOT)])
        assert victim.counters()["streams refused"] >= 4
        await stays_useful(victim)


async def test_connections_leave_no_tasks_behind() -> None:
    hub = node()
    async with hub.run(), trio.open_nursery() as nursery:
        visitors = [node() for _ in range(5)]
        over = trio.Event()
        for visitor in visitors:
            nursery.start_soon(_run_until, visitor, over)
        await until(lambda: all(visitor.listen_addresses for visitor in visitors))
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = _living_tasks()

        async with trio.open_nursery() as cycles:
            for visitor in visitors:
                cycles.start_soon(_come_and_go, visitor, hub, 10)

        assert hub.counters()["peers connected"] == 50
        await until(lambda: _living_tasks() <= before)
        over.set()


async def test_a_running_network_leaves_no_tasks_behind() -> None:
    before = _living_tasks()
    a, b = node(), node()
    async with a.run(), b.run():
        await b.connect(a.listen_addresses[0])
        await b.ping(a.peer_id)

    await until(lambda: _living_tasks() <= before)


# tools ---------------------------------------------------------------------------------------------------------------


class Cable:
    """A TCP proxy that can stop passing anything on, as a frozen machine behind it would."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._frozen = False

    async def plug(self, nursery: trio.Nursery) -> int:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, self._serve, [listener])
        return int(listener.socket.getsockname()[1])

    def freeze(self) -> None:
        self._frozen = True

    async def _serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, near, far)
            nursery.start_soon(self._pass_on, far, near)

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some():
                if self._frozen:
                    await trio.sleep_forever()
                await sink.send_all(data)
        except trio.BrokenResourceError:
            return


def _living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def _ignore(_sender: PeerID, _data: bytes) -> None:
    return


async def _visit(victim: Libp2pNetwork) -> None:
    async with attacker(victim):
        pass


async def _run_until(network: Libp2pNetwork, over: trio.Event) -> None:
    async with network.run():
        await over.wait()


async def _come_and_go(visitor: Libp2pNetwork, hub: Libp2pNetwork, times: int) -> None:
    for _ in range(times):
        await visitor.connect(hub.listen_addresses[0])
        await visitor.disconnect(hub.peer_id)
        await until(lambda: not hub.is_connected(visitor.peer_id))
