"""Which revocations are kept, and how two nodes find out what one of them lacks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dms.capability.token import Action, DMSToken, Token, issue_revocation
from dms.identity.ids import DID
from dms.node.revocations import BUCKETS, DIGEST_BYTES, Allowance, Gate, Judgement, Limits, Summary
from dms.testing.parties import NOW_NS, Party
from dms.types.errors import BadInput
from dms.types.ids import PeerID

PEER, OTHER = PeerID("peer"), PeerID("other")
ORG, ALICE, BOB = Party("org"), Party("alice"), Party("bob")
SMALL = Limits(
    total=20,
    total_bytes=10_000,
    per_issuer=8,
    strangers=6,
    per_stranger=3,
    strangers_per_peer=4,
    token_bytes=2000,
    stranger_token_bytes=600,
)


def revocation(issuer: Party, *, expiry_ns: int = 0, caps: Sequence[str] = ("/public",)) -> Token:
    return issue_revocation(issuer.provider, issuer.issue(BOB, *caps, expiry_ns=expiry_ns))


def unsigned(number: int) -> Token:
    """As many as are wanted, at no cost: digests look at names only."""
    nonce = number.to_bytes(12, "big")
    body = DMSToken(
        act=Action.REVOKE, iss=ORG.did, sub=BOB.did, aud=DID(), cap=("/public",), nonce=nonce, exp=NOW_NS, sig=b"s"
    )
    return Token(dms=body)


def judge(
    gate: Gate, *tokens: Token | None, peer: PeerID = PEER, held: Sequence[Token] = (), **more: bool
) -> list[str]:
    known = {ORG.did}
    chosen, judged = gate.choose(tokens, peer, held=held, known=known, now_ns=NOW_NS, **more)
    assert len(chosen) == judged[Judgement.KEEP]
    return sorted(judgement.name for judgement in judged.elements())


# the gate ------------------------------------------------------------------------------------------------------------


def test_a_revocation_is_kept_whoever_issued_it() -> None:
    assert judge(Gate(SMALL), revocation(ORG), revocation(ALICE)) == ["KEEP", "KEEP"]


def test_what_is_no_revocation_is_refused() -> None:
    grant = ORG.issue(ALICE, "/public")
    chained = revocation(ORG)
    assert chained.dms is not None
    chained = Token(dms=replace(chained.dms, chain=grant))
    nameless = Token(dms=replace(revocation(ORG).body, nonce=b""))
    assert judge(Gate(SMALL), None, grant, Token(), chained, nameless) == ["MALFORMED"] * 5


def test_what_is_over_needs_no_room() -> None:
    assert judge(Gate(SMALL), revocation(ORG, expiry_ns=NOW_NS - 1)) == ["EXPIRED"]


def test_what_is_held_is_not_taken_twice_unless_it_lasts_longer() -> None:
    victim = ORG.issue(BOB, "/public")
    once = issue_revocation(ORG.provider, victim)
    shorter = Token(dms=replace(once.body, exp=NOW_NS + 1))
    assert judge(Gate(SMALL), once, once) == ["KEEP", "KNOWN"]
    assert judge(Gate(SMALL), once, shorter, held=[once]) == ["KNOWN", "KNOWN"]
    assert judge(Gate(SMALL), once, held=[shorter]) == ["KEEP"]


def test_an_issuer_has_its_share_and_no_more() -> None:
    assert judge(Gate(SMALL), *(revocation(ORG) for _ in range(10))) == ["KEEP"] * 8 + ["NO_ROOM_FOR_ISSUER"] * 2
    assert judge(Gate(SMALL), *(revocation(ALICE) for _ in range(5))) == ["KEEP"] * 3 + ["NO_ROOM_FOR_ISSUER"] * 2


def test_a_flood_of_strangers_leaves_room_for_those_we_know() -> None:
    gate = Gate(SMALL)
    held: list[Token] = []
    for number in range(40):
        token, peer = revocation(Party(f"sybil {number}")), PeerID(f"peer {number % 10}")
        chosen, _ = gate.choose([token], peer, held=held, known={ORG.did}, now_ns=NOW_NS)
        gate.note(chosen, peer, {ORG.did})
        held += chosen
    assert len(held) == SMALL.strangers
    assert judge(gate, *(revocation(ORG) for _ in range(8)), held=held) == ["KEEP"] * 8


def test_the_room_of_strangers_is_not_taken_by_those_we_know() -> None:
    others = [Party(f"member {number}") for number in range(4)]
    known = {party.did for party in others}
    tokens = [revocation(party) for party in others for _ in range(5)]
    chosen, judged = Gate(SMALL).choose(tokens, PEER, held=(), known=known, now_ns=NOW_NS)
    assert judged == {Judgement.KEEP: 14, Judgement.NO_ROOM: 6}
    assert judge(Gate(SMALL), revocation(ALICE), held=chosen) != ["KEEP"]  # the members are strangers to this one


def test_one_peer_cannot_fill_the_room_of_strangers() -> None:
    gate = Gate(SMALL)
    chosen, judged = gate.choose(
        [revocation(Party(f"sybil {n}")) for n in range(6)], PEER, held=(), known=(), now_ns=NOW_NS
    )
    assert judged == {Judgement.KEEP: 4, Judgement.NO_ROOM_FOR_PEER: 2}
    gate.note(chosen, PEER, ())
    assert judge(gate, revocation(ALICE), held=chosen) == ["NO_ROOM_FOR_PEER"]
    assert judge(gate, revocation(ALICE), peer=OTHER, held=chosen) == ["KEEP"]
    assert judge(gate, revocation(ALICE), held=[]) == ["KEEP"]  # once they have lapsed


def test_large_ones_are_refused_those_of_strangers_sooner() -> None:
    large = ["/" + "x" * 100 + str(n) for n in range(5)]
    huge = large * 4
    assert judge(Gate(SMALL), revocation(ORG, caps=large), revocation(ALICE, caps=large)) == ["KEEP", "TOO_LARGE"]
    assert judge(Gate(SMALL), revocation(ORG, caps=huge)) == ["TOO_LARGE"]


def test_bytes_are_bounded_in_all() -> None:
    limits = Limits(total_bytes=1500)
    judged = judge(Gate(limits), *(revocation(ORG) for _ in range(10)))
    assert 0 < judged.count("KEEP") < 10
    assert judged.count("NO_ROOM") == 10 - judged.count("KEEP")


def test_whoever_rules_the_node_is_not_held_to_the_share_of_strangers() -> None:
    tokens = [revocation(ALICE) for _ in range(8)]
    assert judge(Gate(SMALL), *tokens, is_trusted=True) == ["KEEP"] * 8


# who lacks what ------------------------------------------------------------------------------------------------------


def fetched(theirs: Summary, ours: Summary, **page: int) -> list[Token]:
    """All pages that ``ours`` has to offer to ``theirs``."""
    found: list[Token] = []
    after = b""
    while True:
        tokens, following = ours.page(theirs.digests, after, **page)
        found += tokens
        if not following:
            return found
        assert following > after
        after = following


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 400)), st.sets(st.integers(0, 400)), st.integers(1, 50))
def test_whoever_asks_learns_all_that_it_lacks(mine: set[int], yours: set[int], page: int) -> None:
    asker, answerer = Summary(map(unsigned, mine)), Summary(map(unsigned, yours))
    told = {int.from_bytes(token.body.nonce or b"", "big") for token in fetched(asker, answerer, max_tokens=page)}
    assert yours - mine <= told <= yours


def test_equal_sets_have_nothing_to_tell_each_other() -> None:
    numbers = range(1000)
    assert fetched(Summary(map(unsigned, reversed(numbers))), Summary(map(unsigned, numbers))) == []
    assert fetched(Summary(), Summary()) == []


def test_of_many_only_what_lies_near_the_difference_is_told() -> None:
    asker, answerer = Summary(map(unsigned, range(3999))), Summary(map(unsigned, range(4000)))
    assert 1 <= len(fetched(asker, answerer)) <= 4000 // BUCKETS * 3


def test_a_page_is_bounded_in_bytes_yet_never_empty() -> None:
    tokens = [unsigned(n) for n in range(10)]
    pages, _ = Summary(tokens).page(b"", b"", max_bytes=1)
    assert len(pages) == 1
    assert len(fetched(Summary(), Summary(tokens), max_bytes=1)) == 10


@pytest.mark.parametrize("size", [1, DIGEST_BYTES, BUCKETS * DIGEST_BYTES - 1, BUCKETS * DIGEST_BYTES + 1])
def test_digests_of_another_form_are_refused(size: int) -> None:
    with pytest.raises(BadInput, match="digests"):
        Summary([unsigned(1)]).page(b"x" * size, b"")


# allowances ----------------------------------------------------------------------------------------------------------


def test_an_allowance_comes_back_with_time() -> None:
    now = [0.0]
    allowance = Allowance(10, 2.0, lambda: now[0])
    assert allowance.take(PEER, 10)
    assert not allowance.take(PEER)
    assert allowance.take(OTHER)
    now[0] = 1.0
    assert allowance.take(PEER, 2)
    assert not allowance.take(PEER)
    now[0] = 100.0
    assert allowance.take(PEER, 1000), "more than the whole costs the whole"
    assert not allowance.take(PEER)
    allowance.forfeit(OTHER)
    now[0] = 104.0
    assert not allowance.take(OTHER)
    now[0] = 106.0
    assert allowance.take(OTHER)


def test_nobody_gets_a_new_allowance_by_coming_under_many_names() -> None:
    now = [0.0]
    allowance = Allowance(1, 0.001, lambda: now[0])
    taken = sum(allowance.take(PeerID(f"peer {n}")) for n in range(5000))
    assert taken == 4096
    assert not allowance.take(PeerID("peer 0"))
    now[0] = 1000.0
    assert allowance.take(PeerID("peer 4999"))


def test_the_limits_leave_most_of_the_room_to_known_issuers() -> None:
    limits = Limits()
    assert limits.strangers * 8 < limits.total
    assert limits.strangers_per_peer * 4 <= limits.strangers
    assert limits.total_bytes < 16 * 2**20, "the largest context file that is read"
