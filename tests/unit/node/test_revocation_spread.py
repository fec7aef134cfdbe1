"""Revocations on the way from node to node, on the virtual network."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from dms.actor.handle import handle_of_peer
from dms.capability.store import load_context
from dms.capability.token import Action, Token, TokenList, issue, issue_revocation
from dms.identity.ids import NO_DID, did_of
from dms.identity.trust import Provider, TrustContext
from dms.node.capabilities import REVOCATION_TOPIC, REVOKE_BROADCAST
from dms.node.capability_payloads import CapReply, MissedReply, MissedRequest, TokenRequest
from dms.node.payloads import Hello
from dms.node.revocation_spread import MISSED, SpreadOptions
from dms.node.revocations import BUCKETS, DIGEST_BYTES, Limits
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.actors import MEMBER_CAPS, MEMBER_TOPICS, YEAR_NS, key_of, wall_clock_ns
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.errors import DMSError
from dms.types.ids import Capability

ANSWER_S = 3.0
SPREAD_S = 2.0
"""More than gossip, or a question to a newcomer, takes here."""


async def is_admitted(caller: SimulatedNode, at: SimulatedNode) -> bool:
    """Whether ``at`` answers ``caller``."""
    try:
        await caller.node.root.invoke(at.node.root.handle, "/public/hello", None, Hello, timeout_s=ANSWER_S)
    except DMSError:
        return False
    return True


def membership(node: SimulatedNode) -> Token:
    (token,) = node.node.anchors.context.list_roots()[2].tokens
    return token


def organisation(cluster: Cluster) -> Provider:
    return Provider.of_key(cluster.organisation.key)


def expelled(cluster: Cluster, node: SimulatedNode) -> Token:
    """The revocation of a membership, by the organisation."""
    return issue_revocation(organisation(cluster), membership(node))


def invented(issuer: str, count: int) -> list[Token]:
    """Revocations of tokens that never existed."""
    provider, expiry_ns = Provider.of_key(key_of(issuer)), wall_clock_ns() + YEAR_NS
    some = [issue(provider, Action.DELEGATE, NO_DID, NO_DID, (), ["/x"], expiry_ns) for _ in range(count)]
    return [issue_revocation(provider, token) for token in some]


async def publish(node: SimulatedNode, *tokens: Token) -> None:
    request = TokenRequest(token=TokenList.of(*tokens))
    await node.node.root.publish(REVOCATION_TOPIC, REVOKE_BROADCAST, request)


def held(node: SimulatedNode) -> set[Token]:
    return set(node.node.anchors.context.list_roots()[3].tokens)


# spread --------------------------------------------------------------------------------------------------------------


async def test_a_published_revocation_is_in_force_everywhere(cluster: Cluster, autojump_clock: MockClock) -> None:
    alice, bob, carol, mallory = [await cluster.start(name) for name in ("alice", "bob", "carol", "mallory")]
    assert [await is_admitted(mallory, node) for node in (bob, carol)] == [True, True]
    await publish(alice, expelled(cluster, mallory))
    await trio.sleep(SPREAD_S)
    assert [await is_admitted(mallory, node) for node in (bob, carol)] == [False, False]
    assert [await is_admitted(bob, node) for node in (alice, carol)] == [True, True]
    assert mallory.node.anchors.context.list_roots()[2].tokens == ()  # it heard, too


async def test_a_node_that_was_away_learns_what_it_missed(cluster: Cluster, autojump_clock: MockClock) -> None:
    alice, bob, carol = [await cluster.start(name) for name in ("alice", "bob", "carol")]
    mallory = await cluster.start("mallory", capability_file=True)
    revocation = expelled(cluster, mallory)
    await mallory.stop()  # it keeps its token: nobody depends on what it would tell or drop
    await bob.stop()
    await publish(alice, revocation)
    await trio.sleep(3600)
    await bob.start()
    await trio.sleep(SPREAD_S)
    assert held(bob) == held(carol) == {revocation}
    await mallory.start()
    await trio.sleep(0.1)
    assert membership(mallory).body.sub == did_of(mallory.key.public)
    assert not await is_admitted(mallory, bob)


async def test_after_a_partition_both_sides_know_what_either_knew(cluster: Cluster, autojump_clock: MockClock) -> None:
    nodes = [await cluster.start(name) for name in ("alice", "bob", "carol", "dave")]
    alice, bob, carol, dave = nodes
    cluster.network.partition([alice.peer, bob.peer], [carol.peer, dave.peer])
    await trio.sleep(60)
    ours, theirs = invented("organisation", 2)
    await publish(alice, ours)
    await publish(carol, theirs)
    await trio.sleep(60)
    assert (held(bob), held(dave)) == ({ours}, {theirs})
    cluster.network.heal_all()
    await trio.sleep(60)
    assert held(bob) == held(dave) == {ours, theirs}


async def test_what_no_other_way_brought_comes_by_asking_now_and_then(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    alice, bob = await cluster.start("alice"), await cluster.start("bob")
    await trio.sleep(60)
    (revocation,) = invented("organisation", 1)
    await alice.node.anchors.change(lambda context: context.add_roots(revoke=TokenList.of(revocation)))
    await trio.sleep(60)
    assert held(bob) == set()
    await trio.sleep(SpreadOptions().interval_s[1])
    assert held(bob) == {revocation}


async def test_a_revocation_survives_a_restart(cluster: Cluster, autojump_clock: MockClock) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", capability_file=True)
    mallory = await cluster.start("mallory")
    revocation = expelled(cluster, mallory)
    await publish(alice, revocation)
    await trio.sleep(SPREAD_S)
    await bob.kill()
    await alice.stop()
    await bob.start()
    await trio.sleep(SPREAD_S)
    assert held(bob) == {revocation}
    assert not await is_admitted(mallory, bob)


async def test_it_is_remembered_until_the_revoked_token_would_have_ended(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    alice, bob = await cluster.start("alice"), await cluster.start("bob")
    provider = organisation(cluster)
    token = issue(provider, Action.DELEGATE, NO_DID, NO_DID, (), ["/x"], wall_clock_ns() + 3600 * 10**9)
    await publish(alice, issue_revocation(provider, token))
    await trio.sleep(3500)
    assert len(held(bob)) == 1
    assert len(bob.node.revocations.summary()) == 1
    await trio.sleep(200)
    assert held(bob) == set()
    assert len(bob.node.revocations.summary()) == 0
    late = await cluster.start("carol")
    await trio.sleep(SPREAD_S)
    assert held(late) == set()


async def test_hundreds_come_page_by_page(cluster: Cluster, autojump_clock: MockClock) -> None:
    alice = await cluster.start("alice")
    many = invented("organisation", 600)
    await alice.node.anchors.change(lambda context: context.add_roots(revoke=TokenList.of(*many)))
    bob = await cluster.start("bob")
    await trio.sleep(SPREAD_S)
    assert held(bob) == set(many)
    assert alice.node.revocations.counters["answered"] == 3
    assert await bob.node.revocations.ask(alice.peer)
    assert alice.node.revocations.counters["answered"] == 4
    assert bob.node.revocations.counters["judged.known"] == 0  # what is there already is not sent


async def test_a_middle_link_that_is_revoked_ends_what_rests_on_it_and_leaves_the_rest(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    """The organisation admitted a person, the person a node; the person expels the node while it has work running."""
    person = key_of("person")
    provider, expiry_ns = Provider.of_key(person), wall_clock_ns() + YEAR_NS // 2
    admitted = issue(
        organisation(cluster), Action.DELEGATE, provider.did, NO_DID, MEMBER_TOPICS, MEMBER_CAPS, expiry_ns
    )
    bob = await cluster.start("bob", offers=FOUR_CORES)
    olga = await cluster.start("olga", is_member=False)
    link = issue(
        provider,
        Action.DELEGATE,
        did_of(olga.key.public),
        NO_DID,
        MEMBER_TOPICS,
        MEMBER_CAPS,
        expiry_ns,
        parent=admitted,
    )
    accepted = cluster.organisation.acceptance(olga.node.anchors.context, expiry_ns)
    olga.node.anchors.context.add_roots(require=accepted, provide=TokenList.of(link))
    alice = await cluster.start("alice")
    job = await olga.user.deploy(ensemble({"n1": {"web": "service"}}))
    await olga.wait_for(job, Phase.RUNNING)
    assert await is_admitted(olga, bob)

    await publish(alice, issue_revocation(provider, link))
    await trio.sleep(SPREAD_S)
    assert not await is_admitted(olga, bob)
    another = await olga.user.deploy(ensemble({"n1": {"count": "task"}}))
    await olga.wait_for(another, Phase.FAILED)
    # what bob agreed to stays agreed: bob's own word, not the membership, lets olga end it
    assert bob.hosted_state(job, "n1.web") == "running"
    await olga.user.shutdown(job)
    await olga.wait_until_settled(job)
    assert bob.holdings() == {}
    assert await is_admitted(alice, bob)


# who may say what ----------------------------------------------------------------------------------------------------


async def test_a_forged_revocation_is_not_believed_and_costs_its_publisher_the_rest(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    alice, bob, mallory = [await cluster.start(name) for name in ("alice", "bob", "mallory")]
    genuine = expelled(cluster, alice)
    forged = Token(dms=msgspec.structs.replace(genuine.body, sig=bytes(64)))
    by_another = Token(
        dms=msgspec.structs.replace(genuine.body, sig=Provider.of_key(mallory.key).sign(genuine.body.signed_bytes()))
    )
    for token in (forged, by_another):
        await publish(mallory, token, *invented("organisation", 3))
    await trio.sleep(SPREAD_S)
    assert held(bob) == set()
    assert await is_admitted(alice, bob)
    spread = bob.node.revocations
    assert (spread.counters["refused.forged"], spread.counters["refused.rate"]) == (1, 1)
    await publish(alice, genuine)
    await trio.sleep(SPREAD_S)
    assert held(bob) == {genuine}


async def test_what_a_peer_answers_is_verified_like_everything(cluster: Cluster, autojump_clock: MockClock) -> None:
    """A liar may leave revocations out, and nothing worse."""
    mallory = await cluster.start("mallory")
    good = invented("organisation", 1)
    bad = [Token(dms=msgspec.structs.replace(token.body, sig=bytes(64))) for token in invented("organisation", 2)]

    async def lie(_message: object) -> MissedReply:
        return MissedReply(ok=True, token=TokenList(tok=(None, *good, *bad)), next=b"\0")

    mallory.node.root.on(MISSED, lie, payload=MissedRequest)
    bob = await cluster.start("bob")
    await trio.sleep(SPREAD_S)
    assert held(bob) == set()
    assert bob.node.revocations.counters["refused.forged"] >= 1


async def test_an_answer_that_never_ends_is_ended(cluster: Cluster, autojump_clock: MockClock) -> None:
    mallory = await cluster.start("mallory")
    asked = 0

    async def go_on(_message: object) -> MissedReply:
        nonlocal asked
        asked += 1
        return MissedReply(ok=True, next=asked.to_bytes(8, "big"))

    mallory.node.root.on(MISSED, go_on, payload=MissedRequest)
    bob = await cluster.start("bob")
    await trio.sleep(30)
    assert await bob.node.revocations.ask(mallory.peer)
    assert asked == 2 * 64


async def test_whoever_lacks_the_capability_publishes_and_asks_in_vain(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    bob = await cluster.start("bob")
    stranger = await cluster.start("stranger", is_member=False)
    await publish(stranger, *invented("organisation", 1))
    await trio.sleep(SPREAD_S)
    assert held(bob) == set()
    with pytest.raises(DMSError):
        await stranger.node.root.invoke(
            handle_of_peer(bob.peer), MISSED, MissedRequest(), MissedReply, timeout_s=ANSWER_S
        )


async def test_a_flood_by_one_issuer_or_under_many_names_leaves_room_for_the_organisation(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    limits = Limits(total=60, strangers=20, per_stranger=5, strangers_per_peer=10)
    alice, mallory = await cluster.start("alice"), await cluster.start("mallory")
    bob = await cluster.start("bob", spread=SpreadOptions(limits=limits))
    await publish(mallory, *invented("sybil", 50))
    await trio.sleep(SPREAD_S)
    assert len(held(bob)) == limits.per_stranger
    await publish(mallory, *(token for n in range(50) for token in invented(f"sybil {n}", 1)))
    await trio.sleep(SPREAD_S)
    assert len(held(bob)) == limits.strangers_per_peer
    expulsion = expelled(cluster, mallory)
    await publish(alice, expulsion, *invented("organisation", 30))
    await trio.sleep(SPREAD_S)
    assert expulsion in held(bob)
    assert len(held(bob)) == limits.strangers_per_peer + 31


async def test_a_peer_publishes_and_asks_at_a_bounded_rate(cluster: Cluster, autojump_clock: MockClock) -> None:
    mallory = await cluster.start("mallory")
    bob = await cluster.start("bob", spread=SpreadOptions(brought=(10.0, 1.0), asked=(3.0, 0.1)))
    await trio.sleep(60)
    for token in invented("organisation", 30):
        await publish(mallory, token)
    await trio.sleep(SPREAD_S)
    assert 10 <= len(held(bob)) < 15
    await trio.sleep(60)
    request, handle = MissedRequest(), handle_of_peer(bob.peer)
    replies = [await mallory.node.root.invoke(handle, MISSED, request, MissedReply) for _ in range(5)]
    assert [reply.ok for reply in replies] == [True] * 3 + [False] * 2
    assert replies[-1].error == "rate limit exceeded"


async def test_a_summary_is_made_at_most_once_a_second(cluster: Cluster, autojump_clock: MockClock) -> None:
    bob = await cluster.start("bob")
    first = bob.node.revocations.summary()
    bob.node.anchors.context.add_roots(revoke=TokenList.of(*invented("organisation", 1)))
    assert bob.node.revocations.summary() is first
    await trio.sleep(SPREAD_S)
    assert len(bob.node.revocations.summary()) == 1


async def test_digests_that_are_none_are_refused(cluster: Cluster, autojump_clock: MockClock) -> None:
    bob, mallory = await cluster.start("bob"), await cluster.start("mallory")
    for digests in (b"x", bytes(BUCKETS * DIGEST_BYTES + 1)):
        reply = await mallory.node.root.invoke(
            handle_of_peer(bob.peer), MISSED, MissedRequest(digests=digests), MissedReply
        )
        assert not reply.ok
        assert "digests" in reply.error


# the disk ------------------------------------------------------------------------------------------------------------


async def test_what_was_published_is_on_the_disk_before_anybody_is_told_so(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    alice, bob = await cluster.start("alice"), await cluster.start("bob", capability_file=True)
    tokens = TokenList.of(*invented("organisation", 3))
    reply = await alice.node.root.invoke(
        handle_of_peer(bob.peer), REVOKE_BROADCAST, TokenRequest(token=tokens), CapReply, timeout_s=10
    )
    assert reply.ok
    file = cluster.work_dir / "bob" / "dms.cap"
    kept = load_context(file, TrustContext(), need_provider=False, clock_ns=wall_clock_ns).list_roots()[3]
    assert set(kept.tokens) == set(tokens.tokens)


async def test_many_that_come_at_once_are_written_together(cluster: Cluster, autojump_clock: MockClock) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", capability_file=True)
    changes = 0
    change = bob.node.anchors.change

    async def counted(edit: object) -> object:
        nonlocal changes
        changes += 1
        return await change(edit)  # type: ignore[arg-type]

    bob.node.anchors.change = counted  # type: ignore[method-assign, assignment]
    tokens = invented("organisation", 40)
    for token in tokens:
        await publish(alice, token)
    await trio.sleep(SPREAD_S)
    assert held(bob) == set(tokens)
    assert changes <= 3


async def test_while_the_disk_is_full_they_are_in_force_and_they_are_written_later(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", capability_file=True, spread=SpreadOptions(write_retry_s=5.0))
    file = cluster.work_dir / "bob" / "dms.cap"
    kept = file.read_bytes()
    file.unlink()
    file.mkdir()  # nothing can be written in its place
    (revocation,) = invented("organisation", 1)
    request = TokenRequest(token=TokenList.of(revocation))
    reply = await alice.node.root.invoke(handle_of_peer(bob.peer), REVOKE_BROADCAST, request, CapReply, timeout_s=20)
    assert not reply.ok
    assert "could not be written" in reply.error
    assert held(bob) == {revocation}
    file.rmdir()
    file.write_bytes(kept)
    await trio.sleep(20)
    written = load_context(file, TrustContext(), need_provider=False, clock_ns=wall_clock_ns)
    assert set(written.list_roots()[3].tokens) == {revocation}


async def test_what_is_anchored_by_whoever_rules_the_node_is_durable_and_unlimited(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    limits = Limits(total=60, strangers=5, per_stranger=2, strangers_per_peer=5)
    bob = await cluster.start("bob", capability_file=True, spread=SpreadOptions(limits=limits))
    request = TokenRequest(token=TokenList.of(*invented("stranger", 10)))
    reply = await bob.user.invoke("/dms/cap/revoke/anchor", request, CapReply)
    assert reply.ok
    assert len(held(bob)) == 10
    mallory = await cluster.start("mallory")
    request = TokenRequest(token=TokenList.of(*invented("sybil", 10)))
    reply = await mallory.node.root.invoke(handle_of_peer(bob.peer), "/dms/cap/revoke/anchor", request, CapReply)
    assert (reply.ok, reply.error) == (False, "too many revocations of issuers that no anchor here names")
    assert len(held(bob)) == 10
    assert Capability("/dms/cap/revoke") in MEMBER_CAPS
