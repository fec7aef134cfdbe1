"""Nodes that must be near each other: measured where it matters, and only there."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.ensemble.config import EdgeConfig, EnsembleConfig
from dms.node.edges import PROTOCOL
from dms.orchestrator import messages as m
from dms.orchestrator.bidding.edge_messages import EDGE, EdgeReply, EdgeRequest
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.actors import key_of
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID, PeerID

ID = EnsembleID("e" * 64)


def linked(config: EnsembleConfig, *edges: EdgeConfig) -> EnsembleConfig:
    return EnsembleConfig(v1=replace(config.v1, edges=edges))


async def providers(cluster: Cluster, *names: str) -> dict[str, SimulatedNode]:
    return {name: await cluster.start(name, offers=FOUR_CORES) for name in names}


PAIR = ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}}, cores=3.0)


async def test_nodes_are_placed_where_the_round_trip_between_them_is_short_enough(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = await providers(cluster, "bob", "carol", "dave")
    for a, b, delay_s in (("bob", "carol", 0.1), ("bob", "dave", 0.1), ("carol", "dave", 0.01)):
        cluster.network.set_link(nodes[a].network, nodes[b].network, delay_s=delay_s)
    job = await alice.user.deploy(linked(PAIR, EdgeConfig(s="n1", t="n2", rtt=50)))
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert {str(record.peer) for record in state.allocations.values()} == {nodes["carol"].peer, nodes["dave"].peer}
    found = {frozenset((pair.a, pair.b)): pair.rtt_ms for pair in state.measured}
    assert found[frozenset((nodes["carol"].peer, nodes["dave"].peer))] == pytest.approx(20, abs=1)
    events = [entry.kind for entry in await alice.node.deployments.events(job, 0)]
    assert "edges_measured" in events
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()


async def test_round_trips_as_long_as_a_satellites_are_waited_for_where_they_are_allowed(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Pings were given up after a second, whatever the edge allowed."""
    alice = await cluster.start("alice")
    nodes = await providers(cluster, "bob", "carol")
    cluster.network.set_link(nodes["bob"].network, nodes["carol"].network, delay_s=0.6)
    job = await alice.user.deploy(linked(PAIR, EdgeConfig(s="n1", t="n2", rtt=1400)))
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert [pair.rtt_ms for pair in state.measured] == [pytest.approx(1200, abs=1)]
    await alice.wait_until_settled(job)


async def test_a_deployment_whose_edges_hold_nowhere_says_so(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await providers(cluster, "bob", "carol")
    job = await alice.user.deploy(linked(PAIR, EdgeConfig(s="n1", t="n2", rtt=5)))
    state = await alice.wait_for(job, Phase.FAILED)
    assert "edge n1–n2 (at most 5 ms)" in state.error


async def test_what_could_not_be_measured_is_measured_again_in_the_next_round(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = await providers(cluster, "bob", "carol")
    cluster.network.cut(nodes["bob"].network, nodes["carol"].network)
    job = await alice.user.deploy(linked(PAIR, EdgeConfig(s="n1", t="n2", rtt=50)))
    await trio.sleep(15.0)
    assert "edges_measured" in [entry.kind for entry in await alice.node.deployments.events(job, 0)]
    cluster.network.heal(nodes["bob"].network, nodes["carol"].network)
    await alice.wait_for(job, Phase.COMPLETED)
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()


async def test_bandwidth_is_measured_by_sending(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    nodes = await providers(cluster, "bob", "carol", "dave")
    slow, fast = 8e6, 800e6
    for a, b, bps in (("bob", "carol", slow), ("bob", "dave", slow), ("carol", "dave", fast)):
        cluster.network.link(nodes[a].peer, nodes[b].peer).bandwidth_bps = bps
    job = await alice.user.deploy(linked(PAIR, EdgeConfig(s="n1", t="n2", bw=100_000_000)))
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert {str(record.peer) for record in state.allocations.values()} == {nodes["carol"].peer, nodes["dave"].peer}
    measured = {frozenset((pair.a, pair.b)): pair.bandwidth_bps for pair in state.measured}
    for (a, b), bps in ((("carol", "dave"), fast), (("bob", "carol"), slow)):
        found = measured.get(frozenset((nodes[a].peer, nodes[b].peer)))
        assert found is None or found == pytest.approx(bps, rel=0.3)


async def test_an_orchestrator_killed_while_edges_are_measured_goes_on(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    await providers(cluster, "bob", "carol")
    job = await alice.user.deploy(linked(PAIR, EdgeConfig(s="n1", t="n2", rtt=50)))
    await alice.wait_for(job, Phase.GENERATING)
    await alice.restart()
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert state.measured
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()


# abuse -----------------------------------------------------------------------------------------------------------------


class Asker:
    """An orchestrator that asks providers about edges, as it likes."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.bids: dict[PeerID, bytes] = {}

    async def on_bid(self, message: object) -> None:
        envelope = message.envelope  # type: ignore[attr-defined]
        self.bids[envelope.from_.addr.host] = bytes(envelope.msg)

    async def get_bid(self, provider: SimulatedNode, id_: EnsembleID = ID) -> None:
        wanted = m.NodeRequest(node_id="n1", executors=("null",))
        request = m.BidRequest(id=id_, nonce="1", request=(m.VersionedNodeRequest(v1=wanted),))
        await self.actor.send(provider.node.root.handle, m.BID_REQUEST, request, reply_to=m.BID)
        await trio.sleep(1)

    async def ask(self, source: SimulatedNode, target: SimulatedNode, **members: object) -> EdgeReply:
        s, t = source.peer, target.peer
        request = EdgeRequest(ensemble_id=ID, s=s, t=t, rtt_ms=50, t_bid=self.bids.get(t, b""))
        request = replace(request, **members)
        return await self.actor.invoke(source.node.root.handle, EDGE, request, EdgeReply, timeout_s=20)


async def asker(node: SimulatedNode, inbox: str = "asker") -> Asker:
    actor = await node.node.root.create_child(inbox, key_of(f"{node.name}/{inbox}"))
    found = Asker(actor)
    actor.on(m.BID, found.on_bid)
    return found


def pings(node: SimulatedNode) -> list[PeerID]:
    """Of whom this node has measured a round trip by itself."""
    return [info.peer for info in node.network.peers() if info.rtt_s is not None]


async def test_nobody_is_pinged_but_those_who_bid_for_the_same_ensemble_and_for_whom_they_bid(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = await providers(cluster, "bob", "carol", "dave")
    bob, carol, dave = nodes.values()
    one, two = await asker(alice), await asker(alice, "two")
    reply = await one.ask(bob, carol)
    assert (reply.ok, reply.error) == (False, f"no bid requests for ensemble id: {ID}")
    await one.get_bid(bob)
    assert (await one.ask(bob, carol)).error == "the bid of T is missing"
    assert (await one.ask(bob, carol, t_bid=one.bids[bob.peer])).error == "the bid is not that of T"
    assert "failed to decode" in (await one.ask(bob, carol, t_bid=b"{}")).error
    await two.get_bid(dave, EnsembleID("f" * 64))
    assert (await one.ask(bob, dave, t_bid=two.bids[dave.peer])).error == "bid for another ensemble"
    assert (await two.ask(bob, dave)).error == f"no bid requests for ensemble id: {ID}"
    await one.get_bid(carol)
    assert (await one.ask(bob, bob)).error == "S and T are the same peer"
    assert (await one.ask(bob, carol, s=dave.peer)).error == "S is another peer"
    assert pings(bob) == []
    good = await one.ask(bob, carol)
    assert good.ok
    assert good.rtt_ms == pytest.approx(10)
    assert pings(bob) == [carol.peer]
    await trio.sleep(301)
    assert "expired" in (await one.ask(bob, carol)).error or "no bid" in (await one.ask(bob, carol)).error


async def test_asking_again_and_again_measures_once_a_minute(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob, carol = (await providers(cluster, "bob", "carol")).values()
    one = await asker(alice)
    await one.get_bid(bob)
    await one.get_bid(carol)
    await one.ask(bob, carol, bandwidth_kbps=1)
    sent = bob.network.counters()["messages out"]
    for _ in range(100):
        assert (await one.ask(bob, carol, bandwidth_kbps=1)).ok
    assert bob.network.counters()["messages out"] - sent == 100, "the answers alone"


async def test_what_nobody_bid_for_is_not_acknowledged_and_floods_are_cut_off(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob, carol = (await providers(cluster, "bob", "carol")).values()
    one = await asker(alice)
    filling = b'{"number":1,"ensemble":"' + ID.encode() + b'"}\n' + bytes(1 << 19)
    await carol.network.send(bob.peer, PROTOCOL, filling)
    await trio.sleep(1)
    assert bob.node.root.counters["edges.unwanted"] == 1
    await one.get_bid(bob)
    for _ in range(200):
        await carol.network.send(bob.peer, PROTOCOL, filling)
    await trio.sleep(1)
    assert bob.node.root.counters["edges.too_much"] > 100
    for nonsense in (b"x", b"\n", b"{}", b"\xff" * 5000, b'{"number":1,"is_ack":true}'):
        await carol.network.send(bob.peer, PROTOCOL, nonsense)
    await trio.sleep(1)
    assert bob.node.root.counters["edges.malformed"] == 3, "an empty object has all members, as Go sees it"


async def test_a_stranger_measures_nothing(autojump_clock: MockClock, cluster: Cluster) -> None:
    mallory = await cluster.start("mallory", is_member=False)
    bob, carol = (await providers(cluster, "bob", "carol")).values()
    one = await asker(mallory)
    with trio.move_on_after(60), pytest.raises(Exception):  # noqa: B017, PT011  refused or unanswered
        await one.ask(bob, carol)
    assert pings(bob) == []
