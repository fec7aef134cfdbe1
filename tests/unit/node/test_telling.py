"""Who is told why there is no bid, how often, and what."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.rates import Rate
from dms.capability.token import Action, TokenList
from dms.node.reasons import Reason, Rule
from dms.node.telling import UNTOLD, Teller, refusal_message
from dms.orchestrator.bidding.refusals import MAX_GROUPS, MAX_NODES, RefusalMessage
from dms.orchestrator.messages import BID, BID_REQUEST, BID_REQUEST_TOPIC, BidRequest
from dms.testing.actors import World
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble
from dms.types.ids import Capability, EnsembleID

ID = EnsembleID("e" * 64)
REQUEST = BidRequest(id=ID, nonce="n", request=(), wants_reasons=True)
FULL = Reason(Rule.FREE, "not enough free resources now")


async def bob_hears(cluster: Cluster, *, offers_cores: float, tells: bool = True) -> list[dict[str, object]]:
    """What alice hears from bob, who has too little, about a node of four cores; the events of that kind."""
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.node.provider.bidder._teller.is_willing = tells
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}}, cores=offers_cores))
    state = await alice.wait_until_settled(job)
    assert state.phase.value == "Failed"
    return [event.detail for event in await alice.user.events(job) if event.kind == "bid_declined"]


async def test_who_asked_for_bids_is_told_once_why_there_is_none(autojump_clock: MockClock, cluster: Cluster) -> None:
    told = await bob_hears(cluster, offers_cores=5.0)
    assert [(t["peer"], t["rule"]) for t in told] == [(cluster.nodes["bob"].peer, "machine")], "not in every round"
    assert "n1" in str(told[0]["nodes"])
    assert "5 cores wanted, 4 there" in str(told[0]["reason"])
    assert told[0]["hint"] == "ask for less, or for another machine"


async def test_the_owner_can_keep_it_to_himself(autojump_clock: MockClock, cluster: Cluster) -> None:
    assert await bob_hears(cluster, offers_cores=5.0, tells=False) == []


async def test_a_peer_that_offers_nothing_says_nothing(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("idle")
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.wait_until_settled(job)
    assert not [event for event in await alice.user.events(job) if event.kind == "bid_declined"]


def test_every_rule_has_a_hint_for_whoever_asked() -> None:
    assert all(Reason(rule, "x").hint for rule in Rule)
    assert set(Rule) > UNTOLD


def test_an_answer_is_bounded() -> None:
    many = {Reason(Rule.MACHINE, f"{n} cores"): [f"n{i}" for i in range(300)] for n in range(50)}
    refused = refusal_message(REQUEST, many).refusals.refused
    assert len(refused) <= MAX_GROUPS
    assert sum(len(group.nodes) for group in refused) == MAX_NODES


@pytest.mark.parametrize(("held", "is_told"), [("/dms/deployment", True), ("/dms", True), (BID_REQUEST, False)])
async def test_who_may_only_ask_for_bids_is_not_told(autojump_clock: MockClock, held: str, is_told: bool) -> None:
    world = World()
    async with world.node("bob") as bob, world.node("carol", is_member=False) as carol:
        answers = await _heard(bob, Teller(bob.security))
        did, expiry_ns = carol.security.did, carol.security.now_ns() + 10**12
        given = bob.security.capabilities.grant(
            Action.DELEGATE, did, bob.security.did, (), expiry_ns, 0, [Capability(held)]
        )
        carol.security.capabilities.add_roots((), TokenList(), given, TokenList())
        await carol.send(bob.handle, BID_REQUEST, REQUEST, reply_to=BID)
        await trio.sleep(1)
        assert [answer is not None for answer in answers] == [is_told]


async def test_nobody_is_told_who_did_not_ask_or_asks_too_often(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("alice") as alice, world.node("bob") as bob:
        answers = await _heard(bob, Teller(bob.security, rate=Rate(1.0, 2.0)))
        silent = BidRequest(id=ID, nonce="n", request=())
        for request in (REQUEST, silent, REQUEST, REQUEST):
            await alice.send(bob.handle, BID_REQUEST, request, reply_to=BID)
        await trio.sleep(0.5)
        assert [answer is not None for answer in answers] == [True, False, True, False]
        assert answers[0] is not None
        assert answers[0].refusals.refused[0].text == FULL.text


async def _heard(bob: Actor, teller: Teller) -> list[RefusalMessage | None]:
    """What the teller answers to requests for a node for which bob has no room; filled as they come."""
    answers: list[RefusalMessage | None] = []

    async def on_request(message: Message[BidRequest]) -> None:
        answers.append(teller.answer(message, {FULL: ["n1"]}, trio.current_time()))

    bob.on(BID_REQUEST, on_request, payload=BidRequest, topic=BID_REQUEST_TOPIC)
    return answers
