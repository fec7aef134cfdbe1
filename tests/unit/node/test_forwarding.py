"""Connections with what somebody deployed: who may, to whom, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from dms.actor.errors import InvocationTimeout
from dms.network.errors import StreamEnded
from dms.node.connections import MAX_OF_PEER
from dms.node.endpoints import Endpoint
from dms.node.errors import NoTicket
from dms.node.forwarding import LIFETIME_S
from dms.node.metric_names import METRICS
from dms.node.network_metrics import connection_samples
from dms.orchestrator.errors import NotAllocated
from dms.orchestrator.lifecycle.state import Phase
from dms.subnet.connecting import PROTOCOL, Wanted, dial
from dms.subnet.errors import NotConnected
from dms.subnet.pipes import Pipe, TrioPipe
from dms.testing.actors import key_of
from dms.testing.node_user import UserClient
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID

Json = dict[str, Any]
PORTS = {"n1": [{"allocation": "web", "public": 18000, "private": 80}]}


class Service:
    """Answers whatever is said to it in capitals, and ends when the other side does."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.asked: list[Endpoint] = []

    async def connect(self, endpoint: Endpoint) -> Pipe:
        self.asked.append(endpoint)
        ours, theirs = memory_stream_pair()

        async def serve() -> None:
            async with theirs:
                async for data in theirs:
                    await theirs.send_all(bytes(data).upper())

        self.nursery.start_soon(serve)
        return TrioPipe(ours)


async def running(cluster: Cluster, **more: Any) -> tuple[SimulatedNode, SimulatedNode, EnsembleID, Service]:
    service = Service(cluster.nursery)
    alice = await cluster.start("alice", connect=service.connect)
    bob = await cluster.start("bob", offers=FOUR_CORES, connect=service.connect)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, ports=PORTS, **more))
    await alice.wait_for(job, Phase.RUNNING)
    return alice, bob, job, service


async def ticket(node: SimulatedNode, job: str, *ports: int, **more: Any) -> Json:
    return await node.user.call("forward", {"id": job, "allocation": "web", "ports": ports, **more}, Json)


async def test_bytes_go_both_ways_and_each_direction_ends_on_its_own(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, _, job, service = await running(cluster)
    told = await ticket(alice, job[:8], 80)
    assert (told["ok"], told["allocation"], told["lifetime_s"]) == (True, "n1.web", LIFETIME_S)
    pipe = await alice.node.forwarding.open(told["ticket"], 80)
    await pipe.write(b"hello")
    assert await pipe.read(100) == b"HELLO"
    await pipe.write(b"and")
    await pipe.close()
    assert await pipe.read(100) == b"AND"
    assert await pipe.read(100) == b""
    assert service.asked == [Endpoint("127.0.0.1", 18000)]
    events = {event.kind: event.detail for event in await alice.user.events(job)}
    assert events["ports_forwarded"]["ports"] == [80]


async def test_an_allocation_on_the_orchestrators_own_machine_is_reached_too(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    service = Service(cluster.nursery)
    alice = await cluster.start("alice", offers=FOUR_CORES, connect=service.connect)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, ports=PORTS, peers={"n1": alice.peer}))
    await alice.wait_for(job, Phase.RUNNING)
    pipe = await alice.node.forwarding.open((await ticket(alice, job, 18000))["ticket"], 18000)
    await pipe.write(b"hello")
    assert await pipe.read(100) == b"HELLO"
    await pipe.reset()


async def test_a_ticket_is_for_its_ports_and_for_two_minutes(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, job, _ = await running(cluster)
    first = (await ticket(alice, job, 80))["ticket"]
    for secret, port in ((first, 81), ("x", 80), ("", 80)):
        with pytest.raises(NoTicket):
            await alice.node.forwarding.open(secret, port)
    await trio.sleep(LIFETIME_S - 10)
    second = (await ticket(alice, job, 80, renews=first))["ticket"]
    with pytest.raises(NoTicket):
        await alice.node.forwarding.open(first, 80)
    pipe = await alice.node.forwarding.open(second, 80)
    await trio.sleep(LIFETIME_S + 10)
    with pytest.raises(NoTicket):
        await alice.node.forwarding.open(second, 80)
    await pipe.write(b"still")
    assert await pipe.read(9) == b"STILL"
    kinds = [event.kind for event in await alice.user.events(job)]
    assert kinds.count("ports_forwarded") == 1
    await pipe.reset()


async def test_what_cannot_be_is_told(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, job, _ = await running(cluster)
    assert (await ticket(alice, job))["error"] == "between 1 and 64 ports are forwarded at once, from 1 to 65535"
    assert "between 1 and 64" in (await ticket(alice, job, 70000))["error"]
    unknown = await alice.user.call("forward", {"id": job, "allocation": "x", "ports": [1]}, Json)
    assert (unknown["error"], unknown["hint"]) == ("allocation not found: x", "this deployment has n1.web")
    secret = (await ticket(alice, job, 79))["ticket"]
    with pytest.raises(NotConnected, match="no port of the machine leads to it"):
        await alice.node.forwarding.open(secret, 79)
    await alice.user.shutdown(job)
    await alice.wait_for(job, Phase.COMPLETED)
    assert "it must run for this" in (await ticket(alice, job, 80)).get("hint", "")
    with pytest.raises((NotAllocated, NotConnected)):
        await alice.node.forwarding.open(secret, 79)


async def test_only_the_owner_gets_a_ticket(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, job, service = await running(cluster)
    live = alice.node.deployments.live(job)
    live.state = type(live.state)(**{f: getattr(live.state, f) for f in live.state.__struct_fields__} | {"owner": "x"})
    refused = await ticket(alice, job, 80)
    assert (refused["ok"], refused["error"]) == (False, "only who submitted the deployment may do this")
    stranger = UserClient(alice, key_of("stranger"))
    with pytest.raises(InvocationTimeout):
        await stranger.call("forward", {"id": job, "allocation": "web", "ports": [80]}, Json, timeout_s=5)
    assert service.asked == []


async def test_a_node_that_has_no_part_in_it_is_told_nothing(autojump_clock: MockClock, cluster: Cluster) -> None:
    _, bob, job, service = await running(cluster)
    carol = await cluster.start("carol")
    for subnet, to in ((job, f"{job}_n1.web"), (job, "10.1.2.3"), ("none", "10.1.2.3"), ("none", "none_n1.web")):
        with pytest.raises(NotConnected) as caught:
            await dial(carol.network.streams, bob.peer, Wanted(subnet, to, 80))
        assert caught.value.message == "nobody is here at this address whom you may talk with"
    assert service.asked == []


async def test_a_member_reaches_others_at_their_addresses_and_not_by_their_ids(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    service = Service(cluster.nursery)
    alice, bob, carol = [
        await cluster.start(name, offers=None if name == "alice" else FOUR_CORES, connect=service.connect)
        for name in ("alice", "bob", "carol")
    ]
    peers = {"n1": bob.peer, "n2": carol.peer}
    described = {"n1": {"web": "service"}, "n2": {"web2": "service"}}
    job = await alice.user.deploy(ensemble(described, ports=PORTS, peers=peers))
    await alice.wait_for(job, Phase.RUNNING)
    known = carol.node.networks.find(job)
    assert known is not None
    address = next(address for address, peer in known.table.items() if peer == bob.peer)
    pipe = await dial(carol.network.streams, bob.peer, Wanted(job, address, 80))
    await pipe.write(b"hello")
    assert await pipe.read(9) == b"HELLO"
    await pipe.reset()
    with pytest.raises(NotConnected):
        await dial(carol.network.streams, bob.peer, Wanted(job, f"{job}_n1.web", 80))


async def test_one_machine_has_a_bounded_number_of_connections(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob, job, _ = await running(cluster)
    secret = (await ticket(alice, job, 80))["ticket"]
    pipes = [await alice.node.forwarding.open(secret, 80) for _ in range(MAX_OF_PEER)]
    with pytest.raises(NotConnected, match="too many connections"):
        await alice.node.forwarding.open(secret, 80)
    assert measured(bob)["serving"] == MAX_OF_PEER
    for pipe in pipes:
        await pipe.reset()
    await trio.sleep(1)
    last = await alice.node.forwarding.open(secret, 80)
    await last.write(b"hello")
    assert await last.read(9) == b"HELLO"
    await last.reset()
    await trio.sleep(1)
    assert measured(bob) == {
        "served": MAX_OF_PEER + 1,
        "refused": 1,
        "malformed": 0,
        "opened": 0,
        "failed": 0,
        "serving": 0,
        "bytes": 10,
    }
    assert measured(alice)["opened"] == MAX_OF_PEER + 1
    assert measured(alice)["failed"] == 1


def measured(node: SimulatedNode) -> dict[str, float]:
    """Its metrics of connections."""
    samples = list(connection_samples(node.node.connections))
    told = {sample.labels.get("outcome") or sample.metric.name.rpartition(".")[2]: sample.value for sample in samples}
    names = {one for one in METRICS["Private networks"] if "connections" in one.name}
    assert {sample.metric for sample in samples} == names
    return told


async def test_a_stream_that_is_none_of_ours_is_reset_and_counted(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob, _, _ = await running(cluster)
    for data in (b"\xff\xff" + b"x" * 3000, b"\x02\x00[]", b""):
        stream = await alice.network.streams.open(bob.peer, PROTOCOL)
        await stream.write(data)
        if data != b"":
            with pytest.raises(StreamEnded):
                await stream.read(1)
            continue
        with pytest.raises(StreamEnded):  # after a while
            await stream.read(1)
    assert bob.node.connections.counts["malformed"] == 2
