"""How many revocations are kept, and whose (spec/security.md 3.7, 8)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from dms.capability.context import CapabilityContext
from dms.capability.errors import NotAuthorized, TooManyRevocations
from dms.capability.revocations import Revocations
from dms.capability.token import NO_TOKENS, Action, Token, TokenList, encode_token_list, issue, issue_revocation
from dms.identity.errors import SignatureFailed
from dms.identity.ids import DID, NO_DID
from dms.testing.parties import HOUR_NS, NOW_NS, Party, StoppedClock
from dms.types.ids import Capability

CLOCK = StoppedClock()
NODE, USER, ORG, PEER = (Party(name, clock=CLOCK) for name in ("node", "user", "org", "peer"))
EXP = NOW_NS + HOUR_NS


def revocation(
    issuer: Party, *, expiry_ns: int = EXP, nonce: bytes | None = None, caps: tuple[str, ...] = ("/a",)
) -> Token:
    return issue_revocation(
        issuer.provider, issue(issuer.provider, Action.DELEGATE, USER.did, NO_DID, (), caps, expiry_ns, nonce=nonce)
    )


def fill(revocations: Revocations, tokens: Iterable[Token], *known: DID) -> None:
    new = revocations.unknown_among(tokens)
    revocations.check_room(new, lambda: known)
    revocations.add(new)


def test_strangers_share_half_of_the_room_and_cannot_keep_out_those_whom_we_know() -> None:
    revocations = Revocations(max_per_issuer=4, max_total=8)
    strangers = [Party(f"stranger{n}") for n in range(5)]
    fill(revocations, [revocation(stranger) for stranger in strangers[:4]])
    with pytest.raises(TooManyRevocations, match="not known here"):
        fill(revocations, [revocation(strangers[4])])
    fill(revocations, [revocation(ORG) for _ in range(4)], ORG.did)
    with pytest.raises(TooManyRevocations, match="by one issuer"):
        fill(revocations, [revocation(ORG)], ORG.did)
    with pytest.raises(TooManyRevocations, match=r"too many revocations$"):
        fill(revocations, [revocation(PEER)], ORG.did, PEER.did)
    assert len(revocations) == 8, "nothing that was taken was dropped"


def test_one_stranger_has_a_small_quota() -> None:
    revocations = Revocations()
    many = [revocation(PEER) for _ in range(257)]
    fill(revocations, many[:256])
    with pytest.raises(TooManyRevocations, match=str(PEER.did)):
        fill(revocations, many[256:])
    fill(revocations, many[256:], PEER.did)
    assert revocations.remove(many[0].key)
    assert not revocations.remove(many[0].key)
    assert len(revocations) == 256


def test_revocations_of_huge_tokens_count_for_more() -> None:
    revocations = Revocations(max_per_issuer=3)
    fill(revocations, [revocation(PEER, caps=("/" + "x" * 2048,))])
    with pytest.raises(TooManyRevocations):
        fill(revocations, [revocation(PEER)])


def test_room_comes_back_when_revocations_expire_or_are_removed() -> None:
    revocations = Revocations(max_per_issuer=1)
    fill(revocations, [revocation(PEER)])
    assert revocations.collect_garbage(EXP) == 0
    assert revocations.collect_garbage(EXP + 1) == 1
    one = revocation(PEER)
    fill(revocations, [one])
    revocations.remove(one.key)
    fill(revocations, [revocation(PEER)])


def test_a_known_revocation_is_new_only_if_it_lasts_longer() -> None:
    revocations = Revocations(max_per_issuer=1)
    short, long = (revocation(PEER, nonce=b"n", expiry_ns=EXP + more) for more in (0, 5))
    fill(revocations, [short, short])
    assert revocations.unknown_among([short]) == []
    assert revocations.unknown_among([short, long, short]) == [long]
    fill(revocations, [long])
    fill(revocations, [short])
    assert list(revocations) == [long]


# in a context ---------------------------------------------------------------------------------------------------------


def context(**bounds: int) -> CapabilityContext:
    return CapabilityContext("node", NODE.did, NODE.trust, clock_ns=CLOCK, **bounds)


def test_adding_a_known_revocation_again_does_nothing_and_tells_nobody() -> None:
    """Flooding a network with the same revocations ends at the first node that has them."""
    told: list[int] = []
    node = context(max_revocations_per_issuer=1)
    token = revocation(ORG)
    node.subscribe_changes(lambda: told.append(len(node.list_roots()[3])))
    for _ in range(3):
        node.add_roots(revoke=TokenList.of(token, token))
    assert told == [1]
    assert node.list_roots()[3] == TokenList.of(token)


def test_anchors_are_known_issuers_wherever_they_stand_in_a_chain() -> None:
    node = context(max_revocations=4)
    for number in range(2):
        node.add_roots(revoke=TokenList.of(revocation(Party(f"s{number}"))))
    with pytest.raises(TooManyRevocations):
        node.add_roots(revoke=TokenList.of(revocation(ORG)))
    node.add_roots(
        require=TokenList.of(NODE.issue(USER, "/a", parent=ORG.issue(NODE, "/a"))), revoke=TokenList.of(revocation(ORG))
    )
    node.add_roots(revoke=TokenList.of(revocation(USER)))
    with pytest.raises(TooManyRevocations):
        node.add_roots(revoke=TokenList.of(revocation(USER)))


def test_what_was_kept_on_disk_has_room() -> None:
    node = context(max_revocations_per_issuer=1)
    tokens = TokenList.of(revocation(ORG), revocation(ORG))
    with pytest.raises(TooManyRevocations):
        node.add_roots(revoke=tokens)
    node.restore(tokens)
    assert node.list_roots()[3] == tokens
    with pytest.raises(SignatureFailed):
        node.restore(TokenList.of(Token(dms=msgspec.structs.replace(revocation(ORG).body, sub=PEER.did))))


def test_a_revocation_reaches_the_middle_of_a_chain_that_was_used_before() -> None:
    """Admitted, remembered as verified, and recognised by its bytes: revoked all the same."""
    node = context()
    node.add_roots([ORG.did])
    grant = ORG.issue(USER, "/a")
    middle = USER.issue(PEER, "/a", parent=grant)
    blob = encode_token_list(TokenList.of(PEER.issue(PEER, "/a", act=Action.INVOKE, parent=middle)))
    caps = [Capability("/a")]
    for _ in range(3):
        carried = node.consume(PEER.did, blob, sender=PEER.id)
        node.require(NODE.did, PEER.id, NODE.id, caps)
        node.discard(carried)
    node.consume(PEER.did, blob, sender=PEER.id)
    revoked = TokenList.of(issue_revocation(USER.provider, middle))
    node.add_roots(revoke=revoked)
    with pytest.raises(NotAuthorized):
        node.require(NODE.did, PEER.id, NODE.id, caps)
    node.consume(PEER.did, blob, sender=PEER.id)
    assert node.decide(NODE.did, PEER.id, NODE.id, caps).rule == "revoked"
    assert node.decide(NODE.did, PEER.id, NODE.id, caps).considered[0].level == 1
    node.remove_roots(revoke=revoked)
    node.require(NODE.did, PEER.id, NODE.id, caps)


def test_revocations_and_grants_are_told_to_subscribers_until_they_leave() -> None:
    told: list[str] = []
    node = context()
    leave = node.subscribe_changes(lambda: told.append("a"))
    node.subscribe_changes(lambda: told.append("b"))
    node.add_roots([ORG.did])
    leave()
    leave()
    node.remove_roots([ORG.did])
    node.remove_roots([ORG.did])
    node.add_roots(require=NO_TOKENS)
    assert told == ["a", "b", "b"]
