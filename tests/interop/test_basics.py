"""js-libp2p and this node: each dials the other, and identify, ping, messages, broadcasts and network keys work both ways."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import trio
from tests.interop.javascript import JavaScriptFailed
from tests.interop.nodes import NodeMaker, Pair, connect, python_node, until

from dms.network import MAX_MESSAGE_BYTES, PeerUnreachable
from dms.network.framing import HEADER_BYTES
from dms.network.swarm_key import SwarmKey
from dms.types.ids import PeerID

pytestmark = pytest.mark.interop

SIZES = (1, 1000, 100_000, MAX_MESSAGE_BYTES - HEADER_BYTES)
FILL = 0x2A

_numbers = itertools.count()


def inbox() -> str:
    """The protocol of an inbox that nobody else has."""
    return f"actor/interop{next(_numbers)}/messages/0.0.1"


@pytest.mark.row("Noise and yamux, identify")
async def test_each_learns_who_the_other_is(pair: Pair) -> None:
    await until(
        lambda: any(info.protocols and pair.javascript.address in info.addresses for info in pair.python.peers())
    )
    (info,) = pair.python.peers()
    assert info.peer == pair.javascript.peer
    assert {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.1.0"} <= set(info.protocols)

    told = await pair.javascript.event("identified", peer=pair.python.peer_id)
    assert {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.1.0"} <= set(told["protocols"])
    assert pair.python.listen_addresses[0].startswith(told["addresses"][0])


@pytest.mark.row("Ping, both ways")
async def test_each_answers_the_pings_of_the_other(pair: Pair) -> None:
    assert await pair.python.ping(PeerID(pair.javascript.peer), timeout_s=10) > 0
    assert (await pair.javascript.do("ping", peer=pair.python.peer_id))["ms"] >= 0


@pytest.mark.row("Messages of 1 B to 1 MiB, from Python")
async def test_messages_arrive_in_javascript(pair: Pair) -> None:
    protocol = inbox()
    await pair.javascript.do("handle", protocol=protocol)
    for size in SIZES:
        data = bytes([FILL]) * size
        await pair.python.send(PeerID(pair.javascript.peer), protocol, data)
        got = await pair.javascript.event("message", protocol=protocol, bytes=size)
        assert got["from"] == pair.python.peer_id
        assert got["announced"] == size
        assert got["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.row("Messages of 1 B to 1 MiB, from JavaScript")
async def test_messages_arrive_in_python(pair: Pair) -> None:
    protocol, got = inbox(), list[tuple[PeerID, bytes]]()

    async def keep(sender: PeerID, data: bytes) -> None:
        got.append((sender, data))

    pair.python.handle(protocol, keep)
    for size in SIZES:
        await pair.javascript.do("send", peer=pair.python.peer_id, protocol=protocol, bytes=size, fill=FILL)
    await until(lambda: len(got) == len(SIZES))
    assert sorted(got, key=lambda one: len(one[1])) == [(pair.javascript.peer, bytes([FILL]) * size) for size in SIZES]


@pytest.mark.row("Broadcast with strict signatures, from Python")
@pytest.mark.parametrize("topic", ["/nunet/hello", "/nunet/deployment"])
async def test_broadcasts_arrive_in_javascript(pair: Pair, topic: str) -> None:
    data = b"from Python %d" % next(_numbers)
    await pair.javascript.do("subscribe", topic=topic)
    with trio.fail_after(15):
        while not pair.javascript.has_seen("broadcast", topic=topic, data=data.hex()):
            await pair.python.publish(topic, data)  # until it has heard of the subscription
            await trio.sleep(0.2)
    got = await pair.javascript.event("broadcast", topic=topic, data=data.hex())
    assert got["from"] == pair.python.peer_id
    assert got["signed"]


@pytest.mark.row("Broadcast with strict signatures, from JavaScript")
@pytest.mark.parametrize("topic", ["/nunet/hello", "/nunet/deployment"])
async def test_broadcasts_arrive_in_python(pair: Pair, topic: str) -> None:
    data, got = b"from JavaScript", set[tuple[PeerID, bytes]]()

    async def keep(sender: PeerID, data: bytes) -> None:
        got.add((sender, data))

    await pair.python.subscribe(topic, keep)
    with trio.fail_after(15):
        while pair.python.peer_id not in (await pair.javascript.do("subscribers", topic=topic))["peers"]:  # noqa: ASYNC110
            await trio.sleep(0.1)
    await pair.javascript.do("publish", topic=topic, data=data.hex())
    await until(lambda: got)
    assert got == {(pair.javascript.peer, data)}


# private networks ----------------------------------------------------------------------------------------------------


@pytest.mark.row("The same network key: ping and a message of 1 MiB, both ways")
async def test_a_private_network_has_members_of_both_kinds(
    javascript: NodeMaker, swarm_key: SwarmKey, dialler: str
) -> None:
    protocol, got = inbox(), list[bytes]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.append(data)

    async with python_node(swarm_key=swarm_key) as python, javascript(private=True).attached() as remote:
        await connect(python, remote, dialler)
        python.handle(protocol, keep)
        await remote.do("handle", protocol=protocol)
        assert (await remote.do("ping", peer=python.peer_id))["ms"] >= 0
        await python.send(PeerID(remote.peer), protocol, bytes([FILL]) * SIZES[-1])
        assert (await remote.event("message", protocol=protocol))["bytes"] == SIZES[-1]
        await remote.do("send", peer=python.peer_id, protocol=protocol, bytes=SIZES[-1], fill=FILL)
        await until(lambda: got == [bytes([FILL]) * SIZES[-1]])


@pytest.mark.row("Refused: one has a network key, the other has none")
@pytest.mark.parametrize("python_has_it", [True, False])
async def test_who_lacks_the_key_of_a_private_network_stays_outside(
    javascript: NodeMaker, swarm_key: SwarmKey, dialler: str, python_has_it: bool
) -> None:
    mine = swarm_key if python_has_it else None
    async with python_node(swarm_key=mine) as python, javascript(private=not python_has_it).attached() as remote:
        with pytest.raises((PeerUnreachable, JavaScriptFailed)) as caught:
            await connect(python, remote, dialler)
        if isinstance(caught.value, PeerUnreachable):
            assert "network key" in caught.value.message or "private network" in caught.value.message
        assert python.peers() == ()
