"""How near peers are, told by a running node; and deploying to the near ones only."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.node import payloads as p
from dms.node.nearness_payloads import LATENCY, PeerChoice, PeerDistances
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble
from dms.types.ids import EnsembleID


async def test_the_table_is_told_the_nearest_first(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob, carol = [await cluster.start(name) for name in ("alice", "bob", "carol")]
    cluster.network.set_link(alice.network, bob.network, delay_s=0.05)
    await trio.sleep(60)
    told = await alice.user.invoke(LATENCY, PeerChoice(), PeerDistances)
    assert [peer.id for peer in told.peers] == [carol.peer, bob.peer]
    assert 10_000 <= told.peers[0].smoothed_us < told.peers[1].smoothed_us <= 100_000
    assert all(peer.samples and peer.estimated_us and peer.place for peer in told.peers)
    assert told.place is not None
    near = await alice.user.invoke(LATENCY, PeerChoice(max_rtt_us=30_000), PeerDistances)
    assert [peer.id for peer in near.peers] == [carol.peer]
    one = await alice.user.invoke(LATENCY, PeerChoice(nearest=1), PeerDistances)
    assert [peer.id for peer in one.peers] == [carol.peer]
    assert not (await alice.user.invoke(LATENCY, PeerChoice(connected_for_ms=10**9), PeerDistances)).peers
    assert (await alice.user.invoke(LATENCY, PeerChoice(nearest=-1), PeerDistances)).error


@pytest.mark.parametrize(("max_rtt_us", "host"), [(30_000, "carol"), (0, "")])
async def test_a_deployment_asks_only_those_that_are_near(
    autojump_clock: MockClock, cluster: Cluster, max_rtt_us: int, host: str
) -> None:
    alice = await cluster.start("alice")
    bob, carol = [await cluster.start(name, offers=FOUR_CORES) for name in ("bob", "carol")]
    cluster.network.set_link(alice.network, bob.network, delay_s=0.05)
    order = p.NewDeployment(ensemble=ensemble({"n1": {"a": "task"}}), choice=PeerChoice(max_rtt_us=max_rtt_us))
    reply = await alice.user.call("new", order, p.NewDeploymentReply, timeout_s=135.0)
    assert reply.status == "OK", reply.error
    state = await alice.wait_for(EnsembleID(reply.ensemble_id), Phase.COMPLETED)
    assert state.only_peers == ((carol.peer,) if host else ())


async def test_a_choice_that_leaves_nobody_is_refused_at_once(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob", offers=FOUR_CORES)
    order = p.NewDeployment(ensemble=ensemble({"n1": {"a": "task"}}), choice=PeerChoice(max_rtt_us=100))
    reply = await alice.user.call("new", order, p.NewDeploymentReply, timeout_s=135.0)
    assert (reply.status, reply.error) == ("ERROR", "no peer is within 0.1 ms")
    assert "nunet peers latency" in reply.hint
