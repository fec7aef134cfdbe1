"""Broadcast between real nodes: what a flooder gains, what scores tell, and what leaving a topic leaves behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tests.network.waiting import until

from dms.network.libp2p import Libp2pNetwork  # isort: skip  # before anything of the library

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from dms.network import Verdict
from dms.network.gossip import Packet
from dms.network.libp2p.connections.limits import Limits
from dms.network.libp2p.gossip.signing import Signer
from dms.network.libp2p.gossip.wire import encode
from dms.types.ids import PeerID

TOPIC = "/nunet/hello"
ROOT = "actor/root/messages/0.0.1"

_seeds = itertools.count(1200)


def node(app_score: Callable[[PeerID], float] = lambda _: 0.0, limits: Limits | None = None) -> Libp2pNetwork:
    return Libp2pNetwork(
        seed=next(_seeds).to_bytes(32, "big"),
        listen=["/ip4/127.0.0.1/tcp/0"],
        app_score=app_score,
        explore=False,
        limits=limits,
    )


class Ear:
    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def __call__(self, _sender: PeerID, data: bytes) -> None:
        self.got.append(data)


def no_bad(_relay: PeerID, data: bytes) -> Verdict:
    if data.startswith(b"stale"):
        return Verdict.IGNORE
    return Verdict.REJECT if data.startswith(b"bad") else Verdict.ACCEPT


async def test_a_flooder_of_rejected_broadcasts_is_not_heard_but_its_messages_and_all_others_are() -> None:
    victim, flooder, honest = node(), node(), node()
    ear, mail = Ear(), Ear()
    await victim.subscribe(TOPIC, ear, no_bad)
    victim.handle(ROOT, mail)
    async with victim.run(), flooder.run(), honest.run():
        for other in (flooder, honest):
            await other.connect(victim.listen_addresses[0])
        await flooder.publish(TOPIC, b"good while it lasts")
        await until(lambda: ear.got)
        for number in range(100):
            await flooder.publish(TOPIC, b"bad %d" % number)
        await until(lambda: victim.scores()[flooder.peer_id].total < -2500)
        await flooder.publish(TOPIC, b"good but late")
        await flooder.send(victim.peer_id, ROOT, b"direct")
        await honest.publish(TOPIC, b"of somebody else")
        await until(lambda: len(ear.got) == 2 and mail.got)
        await until(lambda: victim.counters().get("gossip packets dropped: graylisted", 0) > 10)
        assert ear.got == [b"good while it lasts", b"of somebody else"]
        assert victim.counters()["gossip in: reject"] < 10
        assert victim.scores()[honest.peer_id].total >= 0
        assert victim.is_connected(flooder.peer_id)


async def test_whoever_broadcasts_too_much_waits_and_nobody_else_does() -> None:
    victim, flooder, honest = node(limits=Limits(gossip_per_s=40, gossip_burst=10)), node(), node()
    ear = Ear()
    await victim.subscribe(TOPIC, ear)
    async with victim.run(), flooder.run(), honest.run():
        for other in (flooder, honest):
            await other.connect(victim.listen_addresses[0])
        await flooder.publish(TOPIC, b"first")
        await until(lambda: ear.got)
        for number in range(60):
            await flooder.publish(TOPIC, b"%d" % number)
        await until(lambda: victim.counters().get("gossip slowed down"))
        await honest.publish(TOPIC, b"honest")
        await until(lambda: len(ear.got) == 62)
        assert ear.got.index(b"honest") < 50
        assert victim.scores()[flooder.peer_id].total >= 0


async def test_stale_broadcasts_are_not_held_against_anybody() -> None:
    victim, other = node(), node()
    ear = Ear()
    await victim.subscribe(TOPIC, ear, no_bad)
    async with victim.run(), other.run():
        await other.connect(victim.listen_addresses[0])
        for number in range(20):
            await other.publish(TOPIC, b"stale %d" % number)
        await other.publish(TOPIC, b"fresh")
        await until(lambda: ear.got)
        assert ear.got == [b"fresh"]
        assert victim.counters()["gossip in: ignore"] == 20
        assert victim.scores()[other.peer_id].total >= 0


async def test_scores_tell_their_parts() -> None:
    liked: dict[PeerID, float] = {}
    a, b = node(lambda peer: liked.get(peer, 0.0)), node()
    liked[b.peer_id] = 5.0
    for one in (a, b):
        await one.subscribe(TOPIC, Ear())
    async with a.run(), b.run():
        await b.connect(a.listen_addresses[0])
        await until(lambda: a.scores().get(b.peer_id) and a.scores()[b.peer_id].topics)
        score = a.scores()[b.peer_id]
        assert score.app_specific == 5
        assert score.total >= 5
        assert score.ip == "127.0.0.1"
        assert score.ip_colocation == score.behaviour == 0
        assert score.topics[TOPIC].mesh_s > 0


async def test_our_own_broadcast_comes_to_each_of_our_handlers_once() -> None:
    a, b = node(), node()
    first, second, far = Ear(), Ear(), Ear()
    await a.subscribe(TOPIC, first)
    await a.subscribe(TOPIC, second)
    await b.subscribe(TOPIC, far)
    async with a.run(), b.run():
        await b.connect(a.listen_addresses[0])
        await a.publish(TOPIC, b"x")
        await until(lambda: far.got)
        await b.publish(TOPIC, b"y")
        await until(lambda: len(first.got) == 2)
        assert sorted(first.got) == sorted(second.got) == sorted(far.got) == [b"x", b"y"]


async def test_the_topic_is_left_with_the_last_subscription_and_nothing_keeps_running() -> None:
    a, b = node(), node()
    ear, far = Ear(), Ear()
    async with a.run(), b.run():
        await b.connect(a.listen_addresses[0])
        await b.subscribe(TOPIC, far)
        first = await a.subscribe(TOPIC, ear)
        second = await a.subscribe(TOPIC, ear)
        assert second > first
        await until(lambda: b.scores()[a.peer_id].topics)
        await a.unsubscribe(first)
        await b.publish(TOPIC, b"still")
        await until(lambda: ear.got)
        await a.unsubscribe(second)
        await until(
            lambda: not b.scores()[a.peer_id].topics.get(TOPIC) or not b.scores()[a.peer_id].topics[TOPIC].mesh_s
        )
        steps = trio.lowlevel.current_statistics().tasks_living
        for _ in range(20):
            await a.unsubscribe(await a.subscribe(TOPIC, ear))
        assert trio.lowlevel.current_statistics().tasks_living <= steps + 2
        await b.publish(TOPIC, b"gone")
        await until(lambda: far.got == [b"still", b"gone"])
        assert ear.got == [b"still"]


async def test_a_forged_broadcast_is_rejected_and_the_genuine_one_is_heard() -> None:
    victim, other = node(), node()
    ear = Ear()
    await victim.subscribe(TOPIC, ear)
    async with victim.run(), other.run():
        await other.connect(victim.listen_addresses[0])
        live = other._live
        assert live is not None
        host = live.host
        message = Signer(host.get_id().to_bytes(), host.get_private_key(), 1).make(TOPIC, b"genuine")
        forged = message.raw.replace(b"genuine", b"forgery")
        assert len(forged) == len(message.raw)
        neighbour = live.gossip._neighbours[victim.peer_id]
        for raw in (forged, message.raw):
            bent = type(message)(message.id, message.origin, message.topic, message.data, raw)
            assert encode(Packet(messages=[bent]), lambda _: b"")
            neighbour.push(Packet(messages=[bent]))
        await until(lambda: ear.got)
        assert ear.got == [b"genuine"]
        assert victim.counters()["gossip in: reject"] == 1


async def test_a_broadcast_survives_the_end_of_the_connection_that_carried_its_stream() -> None:
    a, b = node(), node()
    ear = Ear()
    await b.subscribe(TOPIC, ear)
    await a.subscribe(TOPIC, Ear())  # peers in the mesh are not told of what they should have got
    async with a.run(), b.run():
        await a.connect(b.listen_addresses[0])
        await a.publish(TOPIC, b"first")
        await until(lambda: ear.got)
        await until(lambda: a.scores()[b.peer_id].topics)
        assert a._live is not None
        swarm, peer = a._live.swarm, ID.from_base58(b.peer_id)
        (carrier,) = swarm.get_connections(peer)
        second = await swarm.dial_at(peer, [Multiaddr(b.listen_addresses[0].rpartition("/p2p/")[0])])
        await until(lambda: len(swarm.get_connections(peer)) == 2)
        await carrier.close()
        await until(lambda: swarm.get_connections(peer) == [second])
        await a.publish(TOPIC, b"second")
        await until(lambda: ear.got == [b"first", b"second"])
        await b.unsubscribe(await b.subscribe("/other", ear))
        assert a.is_connected(b.peer_id)
        assert a.counters().get("peers disconnected", 0) == 0
