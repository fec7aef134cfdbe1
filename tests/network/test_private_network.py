"""Networks with a key: who lacks it stays outside, and is told why in one line."""

from __future__ import annotations

import itertools
import random

import pytest
import trio
from tests.network.waiting import until
from trio.testing import MockClock

from dms.network import PeerUnreachable
from dms.network.libp2p import Libp2pNetwork
from dms.network.libp2p.connections.private import GREETING, OtherNetwork, fence
from dms.network.swarm_key import SwarmKey, new_swarm_key
from dms.types.ids import PeerID

ROOT = "actor/root/messages/0.0.1"
TOPIC = "/nunet/hello"

_seeds = itertools.count(1 << 65)


def node(key: SwarmKey | None) -> Libp2pNetwork:
    seed = next(_seeds).to_bytes(32, "big")
    return Libp2pNetwork(seed=seed, listen=["/ip4/127.0.0.1/tcp/0"], explore=False, swarm_key=key)


async def test_nodes_with_the_same_key_talk() -> None:
    key = new_swarm_key()
    a, b = node(key), node(SwarmKey(key.secret))
    got = list[bytes]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.append(data)

    a.handle(ROOT, keep)
    async with a.run(), b.run():
        await a.subscribe(TOPIC, keep)
        await b.connect(a.listen_addresses[0])
        await b.ping(a.peer_id)
        await b.send(a.peer_id, ROOT, bytes(1_000_000))
        await b.publish(TOPIC, b"broadcast")
        await until(lambda: sorted(got) == [bytes(1_000_000), b"broadcast"])


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        (True, False, "the other node has no network key, this one has"),
        (False, True, "private network whose key this one lacks"),
        (True, True, "the other node has another network key than this one"),
    ],
)
async def test_nodes_without_our_key_do_not_connect_and_one_line_says_why(ours: bool, theirs: bool, why: str) -> None:
    dialler = node(new_swarm_key() if ours else None)
    listener = node(new_swarm_key() if theirs else None)
    async with dialler.run(), listener.run():
        with trio.fail_after(5), pytest.raises(PeerUnreachable, match=why) as caught:
            await dialler.connect(listener.listen_addresses[0])
        assert "\n" not in caught.value.message
        await until(lambda: listener.counters().get("handshakes failed") == 1)
        assert listener.counters().get("connections refused: other network key", 0) == int(theirs)
        assert listener.peers() == dialler.peers() == ()


async def test_an_end_that_waits_for_more_is_told_from_one_that_is_slow(mock_clock: MockClock) -> None:
    mock_clock.rate = 20  # the limit on this is seconds
    dialler, stranger = node(new_swarm_key()), node(None).peer_id
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, dialler.run():
        with pytest.raises(PeerUnreachable, match="says nothing: it may have no network key"):
            await dialler.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{stranger}")


async def test_nothing_on_the_wire_tells_what_listens() -> None:
    private = node(new_swarm_key())
    async with private.run():
        port = int(private.listen_addresses[0].split("/")[4])
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            seen = b""
            while len(seen) < 44:  # a nonce, and what would be the greeting
                seen += await stream.receive_some()
        assert b"multistream" not in seen
        assert len(set(seen)) > 16


async def test_garbage_on_the_port_of_a_private_network_keeps_no_member_out() -> None:
    key, rng = new_swarm_key(), random.Random(5)
    private, member = node(key), node(key)
    async with private.run(), member.run():
        port = int(private.listen_addresses[0].split("/")[4])
        for size in [0, 1, 19, 20, 23, 24, 25, 43, 44, 45, 100, 5000] * 3:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all((GREETING + rng.randbytes(size))[rng.choice((0, len(GREETING))) :])
        await until(lambda: private.counters().get("handshakes failed") == 36)
        await member.connect(private.listen_addresses[0])
        await member.ping(private.peer_id, timeout_s=5)
        assert private.counters().get("tasks failed", 0) == 0


async def test_two_connections_never_share_a_stream_of_the_cipher() -> None:
    private = node(new_swarm_key())
    async with private.run():
        port = int(private.listen_addresses[0].split("/")[4])
        begins = set[bytes]()
        for _ in range(4):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                begins.add(await stream.receive_some(24))
    assert len(begins) == 4


def test_a_connection_that_cannot_be_fenced_is_refused_not_opened() -> None:
    with pytest.raises(OtherNetwork, match="cannot be protected"):
        fence(object(), new_swarm_key())  # type: ignore[arg-type]
