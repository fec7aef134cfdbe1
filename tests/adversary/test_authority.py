"""No chain says more than what it rests on: not in length, not in capabilities, audience, topics, nor after a revocation."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from tests.adversary.attacker import Json, Person, chain_of, write_json
from tests.adversary.scene import SETTLE_S, TOPIC, Scene, Target, Wire, tokens_of
from trio.testing import MockClock

from dms.capability.token import Token, TokenList
from dms.identity.ids import DID
from dms.types import gojson
from dms.types.errors import DMSError

NOTE = "/public/note"


async def _try(scene: Scene, target: Target, wire: Wire, tokens: Sequence[Json] | bytes, behaviour: str = NOTE) -> int:
    """How many messages with these tokens were handled: 0 or 1."""
    before = len(target.handled)
    await wire.send(target, wire.person.sign(scene.request(wire.person, target.handle, behaviour, tokens=tokens)))
    return len(target.handled) - before


# length ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "handled"), [(2, 1), (15, 1), (16, 1), (17, 0), (24, 0), (64, 0)])
async def test_a_chain_must_not_have_more_than_sixteen_tokens(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, length: int, handled: int
) -> None:
    people = [Person("organisation"), *(Person(f"member {n}") for n in range(length - 2)), mallory.person]
    chain = chain_of(people, ["/public"], exp=scene.exp())
    token = mallory.person.token("invoke", mallory.person.did, [NOTE], exp=scene.exp(), chain=chain)
    assert await _try(scene, victim, mallory, [token]) == handled
    assert await _try(scene, victim, mallory, [token]) == handled, "once more, now that parts of it may be remembered"


async def test_a_chain_of_64_must_not_be_taken_from_a_file_either(
    autojump_clock: MockClock, scene: Scene, victim: Target
) -> None:
    """There the size of the list is no obstacle."""
    people = [victim.person, *(Person(f"member {n}") for n in range(63)), victim.person]
    chain = chain_of(people, ["/"], exp=scene.exp())
    file = TokenList(tok=(gojson.decode(write_json(chain), Token),))
    with pytest.raises(DMSError):
        victim.context.add_roots(require=file)
    with pytest.raises(DMSError):
        victim.context.add_roots(provide=file)


@pytest.mark.parametrize(
    ("depth", "passes", "handled"), [(1, 0, 1), (1, 1, 0), (2, 1, 1), (2, 2, 0), (3, 2, 1), (3, 3, 0)]
)
async def test_a_depth_limit_must_not_be_passed_by_one(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, depth: int, passes: int, handled: int
) -> None:
    people = [*(Person(f"member {n}") for n in range(passes)), mallory.person]
    chain = scene.membership(people[0], depth=depth)
    for giver, taker in itertools.pairwise(people):
        chain = giver.token("delegate", taker.did, ["/public"], exp=scene.exp(), chain=chain)
    token = mallory.person.token("invoke", mallory.person.did, [NOTE], exp=scene.exp(), chain=chain)
    assert await _try(scene, victim, mallory, [token]) == handled


@pytest.mark.parametrize("raised", [2, 16, 2**63, 2**64 - 1])
async def test_a_depth_limit_must_not_be_raised_by_who_it_binds(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, raised: int
) -> None:
    alice = Person("alice")
    bound = scene.membership(alice, depth=1)
    wider = alice.token("delegate", mallory.person.did, ["/public"], exp=scene.exp(), chain=bound, depth=raised)
    token = mallory.person.token("invoke", mallory.person.did, [NOTE], exp=scene.exp(), chain=wider)
    assert await _try(scene, victim, mallory, [token]) == 0


# links -------------------------------------------------------------------------------------------------------------


async def test_a_chain_must_not_have_a_gap(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """Principal misalignment: each issuer must be the subject of what it rests on."""
    thief, alice, bob = mallory.person, Person("alice"), Person("bob")
    to_bob = alice.token("delegate", bob.did, ["/public"], exp=scene.exp(), chain=scene.membership(alice))
    gap = thief.token("delegate", thief.did, ["/public"], exp=scene.exp(), chain=to_bob)
    for chain in (to_bob, gap):
        assert await _try(scene, victim, mallory, [scene.invocation(thief, NOTE, chain=chain)]) == 0


async def test_a_chain_must_not_rest_on_what_is_no_delegation(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    for act in ("invoke", "broadcast", "revoke", "", "Delegate", "delegate\0", "use"):
        root = scene.organisation.token(act, thief.did, ["/public"], exp=scene.exp())
        middle = thief.token(act, thief.did, ["/public"], exp=scene.exp(), chain=scene.membership(thief))
        for chain in (root, middle):
            assert await _try(scene, victim, mallory, [scene.invocation(thief, NOTE, chain=chain)]) == 0, act


async def test_a_delegation_must_not_be_used_as_an_invocation(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    member = scene.membership(mallory.person)
    own = mallory.person.token("delegate", mallory.person.did, [NOTE], exp=scene.exp(), chain=member)
    broadcast = mallory.person.token(
        "broadcast", mallory.person.did, [NOTE], exp=scene.exp(), chain=member, topics=[TOPIC]
    )
    for tokens in ([member], [own], [broadcast], [member, own, broadcast]):
        assert await _try(scene, victim, mallory, tokens) == 0


async def test_pieces_of_several_chains_must_not_add_up(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """One token is trusted but for something else, one is for the right thing but of nobody; and a good one helps itself only."""
    thief = mallory.person
    trusted = scene.invocation(thief, "/public/ping")
    grand = thief.token("invoke", thief.did, ["/"], exp=scene.exp())
    for behaviour in ("/dms/node/secret", NOTE):
        assert await _try(scene, victim, mallory, [trusted, grand], behaviour) == 0
        assert await _try(scene, victim, mallory, [grand, trusted], behaviour) == 0


async def test_the_tokens_of_one_message_must_not_be_there_for_the_next(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    assert await _try(scene, victim, mallory, [scene.invocation(mallory.person, NOTE)]) == 1
    assert await _try(scene, victim, mallory, b"") == 0
    assert await _try(scene, victim, mallory, [scene.invocation(mallory.person, NOTE)], "/public/ping") == 0
    assert await _try(scene, victim, mallory, b"", "/publicity/note") == 0
    assert await _try(scene, victim, mallory, b"") == 0


# capabilities ------------------------------------------------------------------------------------------------------

ESCAPES = [
    (["/public"], "/publicity/note"),
    (["/public/"], "/public/note"),
    (["/public/note/"], "/public/note"),
    (["/public/not"], "/public/note"),
    (["/public/note/../.."], "/dms/node/secret"),
    (["/public/../dms/node"], "/dms/node/secret"),
    (["/public/*"], "/public/note"),
    (["/*"], "/public/note"),
    (["*"], "/public/note"),
    (["//"], "/public/note"),
    ([""], "/public/note"),
    (["."], "/public/note"),
    (["/."], "/public/note"),
    (["public"], "/public/note"),
    (["/PUBLIC"], "/public/note"),
    (["/public/note\0"], "/public/note"),
    (["/public\u2215note"], "/public/note"),
    (["/public%2fnote"], "/public/note"),
    ([" /public"], "/public/note"),
    ([], "/public/note"),
    (None, "/public/note"),
]


@pytest.mark.parametrize(("caps", "behaviour"), ESCAPES)
async def test_a_capability_must_not_reach_beside_or_above_itself(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, caps: list[str] | None, behaviour: str
) -> None:
    """Here the user, who may do everything, grants exactly this; then it is invoked, narrowed, and asked for in full."""
    thief = mallory.person
    granted = scene.user.token("delegate", thief.did, caps, exp=scene.exp())
    for asked in (caps, [behaviour], ["/"], [*(caps or ()), behaviour]):
        token = thief.token("invoke", thief.did, asked, exp=scene.exp(), chain=granted)
        assert await _try(scene, victim, mallory, [token], behaviour) == 0
    direct = scene.user.token("invoke", thief.did, caps, exp=scene.exp())
    assert await _try(scene, victim, mallory, [direct], behaviour) == 0


@pytest.mark.parametrize(
    "behaviour", ["/public/../dms/node/secret", "/public/note/..", "/public//note", "/public/note/", ""]
)
async def test_a_behaviour_must_not_be_found_under_another_spelling(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, behaviour: str
) -> None:
    token = scene.invocation(mallory.person, behaviour, caps=["/public"])
    assert await _try(scene, victim, mallory, [token], behaviour) == 0


async def test_a_link_of_a_chain_must_not_widen_capabilities(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief, alice = mallory.person, Person("alice")
    narrow = scene.membership(alice, caps=("/public/ping",))
    for caps in (["/"], ["/public"], ["/public/ping", "/public/note"], ["/public/note"]):
        wider = alice.token("delegate", thief.did, caps, exp=scene.exp(), chain=narrow)
        assert await _try(scene, victim, mallory, [scene.invocation(thief, NOTE, chain=wider)]) == 0
        direct = scene.invocation(thief, NOTE, chain=scene.membership(thief, caps=("/public/ping",)), caps=caps)
        assert await _try(scene, victim, mallory, [direct]) == 0


async def test_a_member_must_not_do_what_the_node_granted_nobody(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """The organisation can hand out what it likes; the node lent its trust to some capabilities only (side chain)."""
    everything = scene.organisation.token("delegate", mallory.person.did, ["/"], exp=scene.exp())
    for caps in (["/"], ["/dms"], ["/dms/node/secret"], [NOTE, "/dms/node/secret"]):
        token = scene.invocation(mallory.person, "/dms/node/secret", chain=everything, caps=caps)
        assert await _try(scene, victim, mallory, [token], "/dms/node/secret") == 0


# audience ----------------------------------------------------------------------------------------------------------


async def test_a_token_for_one_audience_must_not_be_used_at_another(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief, elsewhere = mallory.person, Person("elsewhere").did
    for_elsewhere = scene.membership(thief, aud=elsewhere)
    lists = [
        [scene.invocation(thief, NOTE, aud=elsewhere)],
        [scene.invocation(thief, NOTE, chain=for_elsewhere)],
        [scene.invocation(thief, NOTE, chain=for_elsewhere, aud=victim.person.did)],
        [scene.invocation(thief, NOTE, chain=for_elsewhere, aud=elsewhere)],
        [scene.user.token("invoke", thief.did, [NOTE], exp=scene.exp(), aud=elsewhere)],
        [scene.invocation(thief, NOTE, aud="did:key:z")],
    ]
    for tokens in lists:
        assert await _try(scene, victim, mallory, tokens) == 0
    assert await _try(scene, victim, mallory, [scene.invocation(thief, NOTE, aud=victim.person.did)]) == 1


async def test_what_one_node_grants_must_not_open_another(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    async with scene.node("second") as second:
        for audience in ("", second.person.did, victim.person.did):
            grant = second.person.token("delegate", thief.did, ["/"], exp=scene.exp(), aud=audience)
            token = scene.invocation(thief, NOTE, chain=grant, caps=["/"], aud=audience)
            assert await _try(scene, victim, mallory, [token], "/dms/node/secret") == 0
    assert victim.handled == []


# topics ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"topics": ["/nunet/other"]},
        {"topics": ["/nunet/hello/more"]},
        {"topics": ["/nunet/hell"]},
        {"topics": ["/nunet/"]},
        {"topics": ["/nunet/*"]},
        {"topics": ["NUNET"]},
        {"topics": []},
        {"topics": ["/"]},
        {"topics": ["/nunet", "/other"]},
        {"aud": "victim"},
        {"caps": ["/public"]},
        {"caps": ["/broad"]},
        {"act": "invoke"},
        {"act": "delegate"},
    ],
    ids=str,
)
async def test_a_broadcast_must_not_leave_its_topic_or_capability(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, change: dict[str, Any]
) -> None:
    thief = mallory.person
    members: dict[str, Any] = {"topics": [TOPIC], "exp": scene.exp(), "chain": scene.membership(thief)}
    honest = thief.token("broadcast", thief.did, ["/broadcast/hello"], **members)
    members |= change
    if members.get("aud"):
        members["aud"] = victim.person.did
    forged = thief.token(
        members.pop("act", "broadcast"), thief.did, members.pop("caps", ["/broadcast/hello"]), **members
    )
    await trio.sleep(SETTLE_S)
    for token, handled in ((forged, 0), (honest, 1)):
        await mallory.network.publish(TOPIC, thief.sign(scene.broadcast(thief, tokens=[token])))
        await trio.sleep(SETTLE_S)
        assert len(victim.handled) == handled


async def test_a_member_of_some_topics_must_not_broadcast_on_others(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    await trio.sleep(SETTLE_S)
    thief = mallory.person
    for topics in (["/nunet/status"], ["/nunetwork"], [], ["/nunet/hello/sub"]):
        chain = scene.membership(thief, topics=topics)
        for asked in ([TOPIC], topics, [*topics, TOPIC]):
            token = thief.token(
                "broadcast", thief.did, ["/broadcast/hello"], topics=asked, exp=scene.exp(), chain=chain
            )
            await mallory.network.publish(TOPIC, thief.sign(scene.broadcast(thief, tokens=[token])))
    everything = scene.organisation.token("delegate", thief.did, ["/"], topics=["/"], exp=scene.exp())
    token = thief.token("broadcast", thief.did, ["/"], topics=["/"], exp=scene.exp(), chain=everything)
    await mallory.network.publish(TOPIC, thief.sign(scene.broadcast(thief, tokens=[token])))
    await trio.sleep(SETTLE_S)
    assert victim.handled == []


# revocation --------------------------------------------------------------------------------------------------------


def _revocation(giver: Person, victim: Json, **changes: Any) -> Json:
    body = victim["dms"]
    members = {"exp": body["exp"], "nonce": body["nonce"]} | changes
    return giver.token("revoke", members.pop("subject", body["sub"]["uri"]), body["cap"], **members)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
async def test_a_revoked_link_must_not_hold_whatever_hangs_on_it(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, level: int
) -> None:
    """Level 0 is the organisation's grant; the others lie in the middle, the last is the attacker's own."""
    people = [scene.organisation, Person("alice"), Person("bob"), mallory.person, mallory.person]
    links, chain = [], None
    for giver, taker in itertools.pairwise(people):
        chain = giver.token("delegate", taker.did, ["/public"], exp=scene.exp(), chain=chain)
        links.append((giver, chain))
    tokens = [scene.invocation(mallory.person, NOTE, chain=chain)]
    assert await _try(scene, victim, mallory, tokens) == 1
    giver, revoked = links[level]
    victim.context.add_roots(revoke=tokens_of(_revocation(giver, revoked)))
    assert await _try(scene, victim, mallory, tokens) == 0, "what was verified before"
    again = [scene.invocation(mallory.person, NOTE, chain=chain)]
    assert await _try(scene, victim, mallory, again) == 0, "and what is new"
    side = [scene.invocation(mallory.person, NOTE)]
    assert await _try(scene, victim, mallory, side) == 1, "what does not hang on it holds"


async def test_a_revocation_must_not_be_accepted_from_anybody_but_the_issuer(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    member = scene.membership(alice.person)
    tokens = [scene.invocation(alice.person, NOTE, chain=member)]
    forged = [
        _revocation(mallory.person, member),
        _revocation(mallory.person, member, issuer=scene.organisation.did),
        _revocation(scene.organisation, member, signer=mallory.person),
        _revocation(scene.organisation, member, subject=mallory.person.did),
    ]
    for one in forged:
        with contextlib.suppress(DMSError):
            victim.context.add_roots(revoke=tokens_of(one))
    assert await _try(scene, victim, alice, tokens) == 1
    victim.context.add_roots(revoke=tokens_of(_revocation(scene.organisation, member)))
    assert await _try(scene, victim, alice, tokens) == 0


async def test_a_revocation_must_not_serve_as_authority(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    member = scene.membership(mallory.person)
    revocation = _revocation(scene.organisation, member)
    assert await _try(scene, victim, mallory, [revocation]) == 0
    assert await _try(scene, victim, mallory, [scene.invocation(mallory.person, NOTE, chain=revocation)]) == 0
    with pytest.raises(DMSError):
        victim.context.add_roots(require=tokens_of(revocation))


async def test_a_removed_anchor_must_not_admit_anybody(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    token = scene.user.token("invoke", thief.did, ["/dms/node/secret"], exp=scene.exp())
    assert await _try(scene, victim, mallory, [token], "/dms/node/secret") == 1
    victim.context.remove_roots([DID(uri=scene.user.did)])
    assert await _try(scene, victim, mallory, [token], "/dms/node/secret") == 0
    _, require, _, _ = victim.context.list_roots()
    victim.context.remove_roots(require=require)
    assert await _try(scene, victim, mallory, [scene.invocation(thief, NOTE)]) == 0
