"""Rounds of bids in a network: few messages, no bid lost, and nothing for those who lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.ensemble.config import EnsembleConfig, Requirements
from dms.node.bidding import Bidder, Offerings
from dms.orchestrator import messages as m
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.bidding.assignment import assign
from dms.orchestrator.bidding.bid import Bid, BidMessage, PriceBid, sign_bid
from dms.orchestrator.bidding.bids import KEEP_S, MAX_BIDS_PER_NODE, MAX_NOTES, BidBook, collect_bids
from dms.orchestrator.bidding.wishes import wishes_of
from dms.orchestrator.errors import InvalidDeployment
from dms.orchestrator.lifecycle.machine import BID_WINDOW_S, begin
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.matching import Unmatched
from dms.resources.declared import declared
from dms.testing.actors import World, wall_clock_ns
from dms.testing.hardware import FixedMachine
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import CPU, GPU, RAM, Disk, Location, Resources

ID = EnsembleID("e" * 64)


async def kinds_of_events(node: SimulatedNode, job: EnsembleID) -> Counter[str]:
    return Counter(entry.kind for entry in await node.node.deployments.events(job, 0))


def grouped(count: int, **members: Any) -> EnsembleConfig:
    config = ensemble({"w": {"part": "task"}}, **members)
    return EnsembleConfig(v1=replace(config.v1, nodes={"w": replace(config.v1.nodes["w"], count=count)}))


async def test_a_group_takes_one_bid_of_each_peer(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol", "dave"):
        await cluster.start(name, offers=FOUR_CORES)
    job = await alice.user.deploy(grouped(10))
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert Counter(record.peer for record in state.allocations.values()).most_common(1)[0][1] <= 4
    events = await kinds_of_events(alice, job)
    assert events["bid_received"] == 3
    assert events["bids_requested"] == 1


async def test_nodes_that_share_a_gpu_are_committed_side_by_side(autojump_clock: MockClock, cluster: Cluster) -> None:
    gpus = (GPU(index=0, uuid="ten", vram=10 << 30), GPU(index=1, uuid="eight", vram=8 << 30))
    amounts = Resources(cpu=CPU(cores=8.0), ram=RAM(size=16 << 30), disk=Disk(size=100 << 30))
    machine = FixedMachine(replace(amounts, gpus=tuple(replace(gpu, vram=2 * gpu.vram) for gpu in gpus)))
    alice = await cluster.start("alice")
    await cluster.start("bob", offers=replace(FOUR_CORES, gpus=gpus), machine=machine)
    config = ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}, "n3": {"c": "task"}})
    sizes = {"a": 3 << 30, "b": 7 << 30, "c": 6 << 30}
    allocations = {
        name: replace(one, resources=replace(one.resources, gpus=(GPU(vram=sizes[name]),)))
        for name, one in config.v1.allocations.items()
    }
    job = await alice.user.deploy(EnsembleConfig(v1=replace(config.v1, allocations=allocations)))
    await alice.wait_for(job, Phase.COMPLETED)
    assert (await kinds_of_events(alice, job))["bids_requested"] == 1, "fits only with a and c together on the larger"


async def test_a_refused_commit_goes_to_another_bidder_without_asking_again(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol"):
        await cluster.start(name, offers=FOUR_CORES)
    refused: list[PeerID] = []

    async def refuse(message: Message[m.CommitRequest]) -> m.CommitReply:
        refused.append(message.envelope.to.addr.host)
        return m.CommitReply(ok=False, error="changed my mind")

    for name in ("bob", "carol"):
        root = cluster.nodes[name].node.root
        original = cluster.nodes[name].node.provider._on_commit

        async def once(message: Message[m.CommitRequest], original: Any = original) -> m.CommitReply:
            if not refused:
                return await refuse(message)
            reply: m.CommitReply = await original(message)
            return reply

        root.on(m.COMMIT, once, payload=m.CommitRequest)
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    state = await alice.wait_for(job, Phase.COMPLETED)
    events = await kinds_of_events(alice, job)
    assert events["bids_kept"] == 1
    assert [str(r.peer) for r in state.allocations.values()] != [str(peer) for peer in refused]
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()


async def test_a_deployment_may_name_whom_to_ask(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol", "dave"):
        await cluster.start(name, offers=FOUR_CORES)
    carol = cluster.nodes["carol"].peer
    deployments, expiry_ns = alice.node.deployments, wall_clock_ns() + 120 * 10**9
    job = await deployments.submit(ensemble({"n1": {"a": "task"}}), expiry_ns, only_peers=[carol, carol])
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert [str(record.peer) for record in state.allocations.values()] == [carol]
    assert (await kinds_of_events(alice, job))["bid_received"] == 1
    with pytest.raises(InvalidDeployment, match="not a peer id"):
        await deployments.submit(ensemble({"n1": {"a": "task"}}), expiry_ns, only_peers=["carol"])
    with pytest.raises(InvalidDeployment, match="1001 peers are to be asked"):
        await deployments.submit(ensemble({"n1": {"a": "task"}}), expiry_ns, only_peers=["x"] * 1001)


# many peers, that do nothing but bid ------------------------------------------------------------------------------------


class Fair:
    """An orchestrator among bidders; it is one round of bids that is looked at."""

    def __init__(self, config: EnsembleConfig, orchestrator: Actor, bidders: list[Actor]) -> None:
        self.config, self.orchestrator, self.bidders = config, orchestrator, bidders
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.book = BidBook()

    async def note(self, kind: str, detail: dict[str, object]) -> None:
        self.notes.append((kind, detail))

    def told(self, kind: str) -> list[dict[str, object]]:
        return [detail for known, detail in self.notes if known == kind]

    async def round(self, nonce: str = "1", **members: object) -> tuple[Bid, ...]:
        now_ns = wall_clock_ns()
        state = replace(begin(ID, self.config, now_ns=now_ns, deadline_ns=now_ns + 10**12), **members)
        return await collect_bids(Context(ID, self.config, self.orchestrator, self.note), state, nonce, self.book)


@dataclass
class Stand:
    """What one bidder has."""

    offering: Offerings | None

    async def offerings(self) -> Offerings | None:
        return self.offering


def offer(peer: PeerID, free: Resources = FOUR_CORES, **members: Any) -> Offerings:
    defaults: dict[str, Any] = {"executors": frozenset({"null"}), "location": Location()}
    return Offerings(peer=peer, machine=free, free=free, **(defaults | members))


@asynccontextmanager
async def fair(
    config: EnsembleConfig, count: int, offers: Callable[[int, PeerID], Offerings | None] | None = None
) -> AsyncIterator[Fair]:
    world = World()
    async with AsyncExitStack() as stack:
        orchestrator = await stack.enter_async_context(world.node("orchestrator"))
        bidders = []
        for number in range(count):
            actor = await stack.enter_async_context(world.node(f"bidder {number}"))
            peer = actor.network.peer_id
            bidder = Bidder(actor, Stand(offers(number, peer) if offers else offer(peer)))
            actor.on(m.BID_REQUEST, bidder.on_request, payload=m.BidRequest, topic=m.BID_REQUEST_TOPIC)
            await actor.subscribe(m.BID_REQUEST_TOPIC)
            bidders.append(actor)
        await trio.sleep(1)
        yield Fair(config, orchestrator, bidders)


def answers(found: Fair) -> int:
    return sum(actor.network.counters().get("messages out", 0) for actor in found.bidders)


ONE = ensemble({"n1": {"a": "task"}})


async def test_of_very_many_only_as_many_answer_as_are_needed(autojump_clock: MockClock) -> None:
    async with fair(ONE, 70) as found:
        bids = await found.round()
        assert 8 <= len(bids) <= MAX_BIDS_PER_NODE
        assert answers(found) < 50


async def test_what_only_few_have_is_found_among_many_in_one_round(autojump_clock: MockClock) -> None:
    def offers(number: int, peer: PeerID) -> Offerings | None:
        return offer(peer) if number == 57 else None

    async with fair(ONE, 70, offers) as found:
        began_s = trio.current_time()
        (bid,) = await found.round()
        assert bid.peer == found.bidders[57].network.peer_id
        assert trio.current_time() - began_s < BID_WINDOW_S


async def test_good_bids_are_kept_and_only_what_lacks_is_asked_again(autojump_clock: MockClock) -> None:
    config = ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}})
    resources = replace(config.v1.allocations["b"].resources, ram=RAM(size=1 << 40))
    config = EnsembleConfig(
        v1=replace(
            config.v1,
            allocations=config.v1.allocations | {"b": replace(config.v1.allocations["b"], resources=resources)},
        )
    )
    async with fair(config, 3) as found:
        heard: list[m.BidRequest] = []

        async def listen(message: Message[m.BidRequest]) -> None:
            heard.append(message.payload)

        found.bidders[0].on(m.BID_REQUEST, listen, payload=m.BidRequest, topic=m.BID_REQUEST_TOPIC)
        first = await found.round("1")
        assert {bid.node_id for bid in first} == {"n1"}
        assert len(first) == 2
        heard.clear()
        second = await found.round("2")
        assert second == first
        assert {entry.v1.node_id for request in heard for entry in request.request or ()} == {"n2"}
        await trio.sleep(KEEP_S)
        await found.round("3")
        assert {entry.v1.node_id for request in heard for entry in request.request or ()} == {"n1", "n2"}


async def test_a_given_list_of_peers_is_asked_and_nobody_else(autojump_clock: MockClock) -> None:
    async with fair(ONE, 6) as found:
        chosen = tuple(actor.network.peer_id for actor in found.bidders[:2])
        bids = await found.round(only_peers=chosen)
        assert {bid.peer for bid in bids} == set(chosen)
        assert found.orchestrator.network.counters().get("gossip out", 0) == 0
        assert answers(found) == 2


async def test_what_is_too_dear_is_not_taken(autojump_clock: MockClock) -> None:
    def offers(number: int, peer: PeerID) -> Offerings | None:
        return offer(peer, declared=declared(prices=(f"NTX {number}",)))

    node = replace(ONE.v1.nodes["n1"], requires=Requirements(prices=("NTX 1",)))
    async with fair(EnsembleConfig(v1=replace(ONE.v1, nodes={"n1": node})), 4, offers) as found:
        bids = await found.round()
        assert sorted(bid.prices[0].per_hour for bid in bids) == [0.0, 1.0]


# liars -------------------------------------------------------------------------------------------------------------------


def forge(actor: Actor, request: m.BidRequest, **members: Any) -> BidMessage:
    arguments: dict[str, Any] = {
        "ensemble": request.id,
        "node_id": "n1",
        "handle": actor.handle,
        "location": Location(),
        "addresses": (),
        "nonce": request.nonce,
        "expiry_ns": wall_clock_ns() + 10**11,
        "free": FOUR_CORES,
    }
    return sign_bid(members.pop("key", actor.security.key), **(arguments | members))


def lie(actor: Actor, messages: Callable[[Actor, m.BidRequest], Sequence[object]]) -> None:
    """Have a bidder answer whatever it likes."""

    async def answer(message: Message[m.BidRequest]) -> None:
        for payload in messages(actor, message.payload):
            await actor.reply(message.envelope, payload)

    actor.on(m.BID_REQUEST, answer, payload=m.BidRequest, topic=m.BID_REQUEST_TOPIC)


async def test_no_lie_gets_into_the_book(autojump_clock: MockClock) -> None:
    node = replace(ONE.v1.nodes["n1"], requires=Requirements(prices=("NTX 1",)))
    config = EnsembleConfig(v1=replace(ONE.v1, nodes={"n1": node}))
    async with fair(config, 3, lambda _number, _peer: None) as found:
        liar, other, _ = found.bidders
        dear = (PriceBid(currency="NTX", per_hour=2.0),)

        def lies(liar: Actor, request: m.BidRequest) -> list[object]:
            good = forge(liar, request, prices=(PriceBid(currency="NTX", per_hour=0.5),))
            assert good.offer is not None
            return [
                {"V1": 1},
                forge(liar, request),
                forge(liar, request, prices=dear),
                forge(liar, request, node_id="n2"),
                forge(liar, request, nonce="another round"),
                forge(liar, request, expiry_ns=1),
                forge(liar, request, ensemble=EnsembleID("f" * 64)),
                forge(liar, request, key=other.security.key, handle=other.handle),
                forge(liar, request, handle=replace(liar.handle, did=other.handle.did)),
                forge(liar, request, also=tuple(f"x{number}" for number in range(2_000))),
                replace(good, offer=replace(good.offer, free=Resources(cpu=CPU(cores=999.0)))),
                replace(good, offer=replace(good.offer, prices=())),
                replace(good, offer=replace(good.offer, nodes=("n2",))),
            ]

        lie(liar, lies)
        assert await found.round() == ()
        reasons = {str(detail["reason"]) for detail in found.told("bid_refused")}
        assert len(reasons) >= 8, reasons
        assert all(len(reason) < 300 for reason in reasons)


async def test_amounts_that_are_none_host_nothing(autojump_clock: MockClock) -> None:
    odd = (
        Resources(cpu=CPU(cores=-1.0), ram=RAM(size=1 << 60), disk=Disk(size=1 << 60)),
        Resources(cpu=CPU(cores=1e300), ram=RAM(size=1 << 60), disk=Disk(size=1 << 60)),
        Resources(cpu=CPU(cores=4.0), ram=RAM(size=-1), disk=Disk(size=1 << 60)),
    )
    async with fair(ONE, 3, lambda _number, _peer: None) as found:
        frees = {actor.network.peer_id: free for actor, free in zip(found.bidders, odd, strict=True)}
        for actor in found.bidders:
            lie(actor, lambda who, request: [forge(who, request, free=frees[who.network.peer_id])])
        await found.round()
        assert isinstance(assign(wishes_of(ONE), found.book), Unmatched)


def stage_of(request: m.BidRequest) -> int:
    return request.sampling.stage if request.sampling is not None else 0


async def test_who_bids_out_of_turn_is_refused(autojump_clock: MockClock) -> None:
    async with fair(ONE, 70, lambda _number, _peer: None) as found:
        for actor in found.bidders:
            lie(actor, lambda who, request: [] if stage_of(request) else [forge(who, request)])
        bids = await found.round()
        assert len(bids) <= MAX_BIDS_PER_NODE
        assert "the peer bid out of turn" in {detail["reason"] for detail in found.told("bid_refused")}


async def test_a_flood_of_bids_fills_neither_the_book_nor_the_events(autojump_clock: MockClock) -> None:
    async with fair(ONE, 4, lambda _number, _peer: None) as found:
        for actor in found.bidders:
            lie(
                actor, lambda who, request: [{"V1": {"NodeID": str(n)}} for n in range(60)] + [forge(who, request)] * 20
            )
        bids = await found.round()
        assert len(bids) <= 4
        assert len(found.notes) <= 2 * MAX_NOTES + 1
