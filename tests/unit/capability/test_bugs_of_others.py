"""Bugs that other implementations of capability tokens shipped, and the classes of the UCAN 1.0 conformance fixtures.

One sentence for each. UCAN's "not yet active" has no counterpart in the format: there is no time before which a token
is not valid. What stands for it is that whoever wants to grant something later issues it later; the clock of a node may
jump, and then the same rules hold for the new time.
"""

from __future__ import annotations

import json

import msgspec
import pytest

from dms.capability.context import CapabilityContext
from dms.capability.decision import Rule
from dms.capability.errors import BadToken, CapabilityExpired, NotAuthorized
from dms.capability.token import Action, Token, TokenList, decode_token, encode_token_list, issue, issue_revocation
from dms.capability.verification import verify
from dms.identity.errors import IdentityError, InvalidDID, SignatureFailed
from dms.identity.ids import DID, NO_DID, did_of
from dms.identity.keys import KeyType
from dms.identity.trust import TrustContext
from dms.testing.parties import HOUR_NS, NOW_NS, Party, StoppedClock
from dms.types.errors import BadInput, Denied
from dms.types.ids import Capability

EXP = NOW_NS + HOUR_NS
PUBLIC = Capability("/public")


class World:
    """A node that trusts an organisation; a user and a peer with keys of their own."""

    def __init__(self) -> None:
        self.clock = StoppedClock()
        self.node, self.peer, self.user, self.org = (
            Party(name, clock=self.clock) for name in ("node", "peer", "user", "org")
        )
        self.node.context.add_roots([self.org.did])

    def rule(self, *tokens: Token, cap: Capability = PUBLIC, sender: Party | None = None) -> Rule:
        """The rule by which the node decides about an invocation that carries ``tokens``."""
        who, context, blob = sender or self.peer, self.node.context, encode_token_list(TokenList.of(*tokens))
        carried = context.consume(who.did, blob, sender=who.id)
        try:
            return context.decide(self.node.did, who.id, self.node.id, [cap]).rule
        finally:
            context.discard(carried)

    def invoke(self, parent: Token | None = None, cap: str = "/public", **more: object) -> Token:
        return self.peer.issue(self.peer, cap, act=Action.INVOKE, parent=parent, **more)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


# tokens ---------------------------------------------------------------------------------------------------------------


def test_the_time_of_a_delegation_lies_inside_that_of_its_proof(world: World) -> None:
    """ucanto #198."""
    proof = world.org.issue(world.peer, "/public", expiry_ns=EXP)
    assert world.rule(world.invoke(proof, expiry_ns=EXP)) is Rule.ALLOWED
    assert world.rule(world.invoke(proof, expiry_ns=EXP + 1)) is Rule.OUTLIVES


def test_a_proof_without_an_end_does_not_make_the_token_endless(world: World) -> None:
    """fission-server #196: the expiry that counts is the earliest of the chain, however far the others are."""
    endless = world.org.issue(world.peer, "/public", expiry_ns=2**64 - 1)
    short = world.invoke(endless, expiry_ns=NOW_NS + 1)
    assert world.rule(short) is Rule.ALLOWED
    world.clock.advance(2)
    assert world.rule(short) is Rule.EXPIRED
    assert world.rule(world.invoke(endless, expiry_ns=2**64 - 1)) is Rule.ALLOWED


def test_an_expiry_of_zero_is_the_past_not_for_ever(world: World) -> None:
    token = issue(world.org.provider, Action.INVOKE, world.peer.did, NO_DID, (), ["/public"], 0)
    assert world.rule(token) is Rule.EXPIRED


def test_a_claim_is_for_the_resource_that_it_names_and_no_other(world: World) -> None:
    """w3up #1555: neither another behaviour nor another machine."""
    here = world.org.issue(world.peer, "/public", audience=world.node.did)
    there = world.org.issue(world.peer, "/public", audience=world.user.did)
    assert world.rule(world.invoke(here, audience=world.node.did)) is Rule.ALLOWED
    assert world.rule(world.invoke(there, audience=world.user.did)) is Rule.AUDIENCE
    assert world.rule(world.invoke(there, audience=world.node.did)) is Rule.LINK
    assert world.rule(world.invoke(here, audience=world.node.did), cap=Capability("/private")) is Rule.CAPABILITY


def test_no_token_is_issued_that_could_never_verify(world: World) -> None:
    """ts-odd #130."""
    user, grant = world.user.context, world.org.issue(world.user, "/public", depth=1, expiry_ns=EXP)
    user.add_roots(provide=TokenList.of(grant))
    wrong = [
        (NO_DID, (), EXP + 1, [PUBLIC]),
        (NO_DID, (), EXP, [Capability("/private")]),
        (NO_DID, ("/t",), EXP, [PUBLIC]),
        (NO_DID, (), EXP, [PUBLIC]),  # too deep
    ]
    for audience, topics, expiry_ns, caps in wrong:
        with pytest.raises(NotAuthorized):
            user.delegate(world.peer.did, audience, topics, expiry_ns, 0, caps)
    blob = user.provide(world.node.did, world.user.id, world.node.id, EXP, [PUBLIC])
    for value in json.loads(blob)["tok"]:
        verify(decode_token(json.dumps(value).encode()), TrustContext(), NOW_NS)


def test_tokens_without_capabilities_or_beyond_the_numbers_are_not_issued(world: World) -> None:
    for caps, expiry_ns, depth in (([], EXP, 0), (["/a"], 2**64, 0), (["/a"], -1, 0), (["/a"], EXP, 2**64)):
        with pytest.raises(BadToken):
            issue(world.org.provider, Action.DELEGATE, world.peer.did, NO_DID, (), caps, expiry_ns, depth=depth)


def test_nobody_issues_in_the_name_of_another(world: World) -> None:
    """Issuer spoof: the name of a trusted issuer over one's own signature."""
    own = world.invoke()
    spoofed = msgspec.structs.replace(own.body, iss=world.org.did, sig=b"")
    spoofed = msgspec.structs.replace(spoofed, sig=world.peer.key.sign(spoofed.signed_bytes()))
    assert world.rule(Token(dms=spoofed)) is Rule.SIGNATURE


def test_a_capability_cannot_escape_through_dots_slashes_or_case(world: World) -> None:
    """Capability escape: paths are compared as they are, never normalised."""
    grant = world.org.issue(world.peer, "/public")
    for path in ("/public/../private", "//public", "/PUBLIC", "/public ", "/", "", "/pub", "public", "/private"):
        rule = world.rule(world.invoke(grant, path), cap=Capability("/private"))
        assert rule is not Rule.ALLOWED, path
    assert world.rule(world.invoke(grant, "/public/../private"), cap=Capability("/public/../private")) is Rule.ALLOWED
    assert world.rule(world.org.issue(world.peer, "", act=Action.INVOKE)) is Rule.CAPABILITY


def test_public_does_not_cover_publicity(world: World) -> None:
    token = world.org.issue(world.peer, "/public", act=Action.INVOKE)
    assert world.rule(token, cap=Capability("/publicity")) is Rule.CAPABILITY
    assert world.rule(token, cap=Capability("/public/city")) is Rule.ALLOWED
    grant = world.org.issue(world.peer, "/public")
    assert world.rule(world.invoke(grant, "/publicity"), cap=Capability("/publicity")) is Rule.LINK


def test_depth_is_not_off_by_one(world: World) -> None:
    for depth in (1, 2, 3):
        parties = [world.org, *(Party(f"link{n}", clock=world.clock) for n in range(depth)), world.peer]
        for links, allowed in ((depth, True), (depth + 1, False)):
            token = world.org.issue(parties[1], "/public", depth=depth)
            for level in range(1, links):
                token = parties[level].issue(
                    parties[level + 1] if level + 1 < links else world.peer, "/public", parent=token
                )
            if links == 1:
                token = world.org.issue(world.peer, "/public", depth=depth)
            assert (world.rule(world.invoke(token)) is Rule.ALLOWED) is allowed, (depth, links)


def test_a_nonce_that_is_used_twice_gives_nobody_elses_token_away(world: World) -> None:
    """Nonce reuse: another issuer's or subject's token of the same nonce is another token, revoked or not."""
    nonce = b"n" * 12
    one, same, other_subject = (
        issue(world.org.provider, Action.INVOKE, sub, NO_DID, (), caps, EXP, nonce=nonce)
        for sub, caps in (
            (world.peer.did, ["/public"]),
            (world.peer.did, ["/private"]),
            (world.user.did, ["/public"]),
        )
    )
    assert world.rule(one) is Rule.ALLOWED
    assert world.rule(same) is Rule.CAPABILITY, "it is not taken for the other"
    claimed = issue(world.user.provider, Action.REVOKE, world.peer.did, NO_DID, (), ["/public"], EXP, nonce=nonce)
    world.node.context.add_roots(revoke=TokenList.of(claimed))
    assert world.rule(one) is Rule.ALLOWED, "a revocation by another issuer means another token"
    world.node.context.add_roots(revoke=TokenList.of(issue_revocation(world.org.provider, one)))
    assert world.rule(one) is Rule.REVOKED
    assert world.rule(other_subject, sender=world.user) is Rule.ALLOWED


def test_tokens_that_we_issue_never_share_a_nonce(world: World) -> None:
    assert len({world.org.issue(world.peer, "/public").key for _ in range(200)}) == 200


def test_a_revoked_middle_link_stops_all_below_it_and_nothing_above(world: World) -> None:
    top = world.org.issue(world.user, "/public")
    middle = world.user.issue(world.peer, "/public", parent=top)
    beside = world.user.issue(world.peer, "/public", parent=top)
    world.node.context.add_roots(revoke=TokenList.of(issue_revocation(world.user.provider, middle)))
    assert world.rule(world.invoke(middle)) is Rule.REVOKED
    assert world.rule(world.invoke(beside)) is Rule.ALLOWED


def test_a_jump_of_the_clock_ends_tokens_and_brings_none_back_that_was_collected(world: World) -> None:
    token = world.org.issue(world.peer, "/public", act=Action.INVOKE)
    assert world.rule(token) is Rule.ALLOWED
    world.clock.advance(2 * HOUR_NS)
    assert world.rule(token) is Rule.EXPIRED
    world.clock.advance(-2 * HOUR_NS)
    assert world.rule(token) is Rule.ALLOWED, "a clock that was wrong does no lasting harm"
    revocation = TokenList.of(issue_revocation(world.org.provider, token))
    world.node.context.add_roots(revoke=revocation)
    world.clock.advance(-2 * HOUR_NS)
    world.node.context.collect_garbage()
    assert world.rule(token) is Rule.REVOKED, "a revocation lasts at least as long as what it revokes, at any time"


def test_of_duplicate_keys_the_last_one_is_judged_and_signed(world: World) -> None:
    """A filter that reads the first and a judge that reads the last would be two opinions; there is one reader."""
    token = world.org.issue(world.peer, "/public", act=Action.INVOKE)
    for first in (b'"cap":["/"],', b'"sub":{"uri":"did:key:zNobody"},', b'"exp":1,'):
        wire = token.json.replace(b'{"dms":{', b'{"dms":{' + first, 1)
        assert decode_token(wire) == token
        verify(decode_token(wire), TrustContext(), NOW_NS)
    last = token.json.replace(b',"sig"', b',"cap":["/"],"sig"', 1)
    assert decode_token(last).body.cap == ("/",)
    with pytest.raises(SignatureFailed):
        verify(decode_token(last), TrustContext(), NOW_NS)


def test_an_expiry_beyond_64_bits_is_refused(world: World) -> None:
    token = world.org.issue(world.peer, "/public")
    with pytest.raises(BadToken):
        verify(decode_token(token.json.replace(b'"exp":', b'"exp":99999999999999999999,"x":', 1)), TrustContext(), 0)


def test_keys_of_unknown_kinds_are_refused_not_guessed(world: World) -> None:
    token = world.org.issue(world.peer, "/public")
    p256 = "did:key:zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv"
    for uri in (p256, "did:web:example.com", "did:key:z6Mk", "did:key:f00", "did:key", ""):
        with pytest.raises(IdentityError):
            verify(Token(dms=msgspec.structs.replace(token.body, iss=DID(uri=uri))), TrustContext(), NOW_NS)
    with pytest.raises(InvalidDID, match="unknown kind"):
        TrustContext().anchor(DID(uri=p256))


def test_a_signature_of_one_kind_of_key_does_not_pass_for_another() -> None:
    ed, secp = Party("x"), Party("x", kind=KeyType.SECP256K1)
    token = ed.issue(ed, "/a")
    body = msgspec.structs.replace(token.body, iss=did_of(secp.key.public))
    for sig in (token.body.sig, secp.key.sign(token.body.signed_bytes()), b"", b"\x30" * 64):
        with pytest.raises(SignatureFailed):
            verify(Token(dms=msgspec.structs.replace(body, sig=sig)), TrustContext(), NOW_NS)


# the original ---------------------------------------------------------------------------------------------------------


def test_null_tokens_and_null_chains_crash_nothing(world: World) -> None:
    good = world.org.issue(world.peer, "/public", act=Action.INVOKE)
    for blob in (b'{"tok":[null]}', b'{"tok":[null,{"dms":null},{"dms":{"chain":{"dms":null}}},%b]}' % good.json):
        carried = world.node.context.consume(world.peer.did, blob, sender=world.peer.id)
        world.node.context.discard(carried)
    blob = b'{"tok":[{"dms":{"act":"invoke","chain":null}},%b]}' % good.json
    world.node.context.consume(world.peer.did, blob, sender=world.peer.id)
    assert world.node.context.decide(world.node.did, world.peer.id, world.node.id, [PUBLIC]).allowed


def test_a_wider_anchor_is_not_thrown_away_for_a_narrower_one(world: World) -> None:
    """In the original, topics, depth and action were not compared."""
    wide = world.node.issue(world.org, "/public", topics=("/nunet",))
    narrow = world.node.issue(world.org, "/public", topics=())
    for order in ((wide, narrow), (narrow, wide)):
        context = CapabilityContext("n", world.node.did, world.node.trust, clock_ns=world.clock)
        for token in order:
            context.add_roots(require=TokenList.of(token))
        assert wide in context.list_roots()[1].tokens


def test_tokens_for_others_are_not_kept_whoever_sends_them(world: World) -> None:
    """In the original, any token anchored on the claimed sender was stored."""
    foreign = world.org.issue(world.user, "/public", act=Action.INVOKE)
    world.node.context.consume(world.org.did, encode_token_list(TokenList.of(foreign)), sender=world.peer.id)
    assert world.node.context.ephemeral_count == 0
    assert world.rule(foreign) is Rule.SUBJECT


def test_the_same_token_is_held_once(world: World) -> None:
    token = world.org.issue(world.peer, "/public", act=Action.INVOKE)
    world.node.context.consume(world.peer.did, encode_token_list(TokenList.of(*[token] * 9)), sender=world.peer.id)
    assert world.node.context.ephemeral_count == 1


# UCAN 1.0 conformance -------------------------------------------------------------------------------------------------


def test_no_proof(world: World) -> None:
    """A self-signed token is well formed, and worth nothing where its issuer is not trusted."""
    assert world.rule(world.invoke()) is Rule.NOT_ANCHORED


def test_missing_proof(world: World) -> None:
    """A chain is inlined, so a proof that is left out is a change that its signature notices."""
    token = world.invoke(world.org.issue(world.peer, "/public"))
    without = Token(dms=msgspec.structs.replace(token.body, chain=None))
    assert world.rule(token) is Rule.ALLOWED
    assert world.rule(without) is Rule.NOT_ANCHORED
    with pytest.raises(SignatureFailed):
        verify(without, TrustContext(), NOW_NS)


def test_expired(world: World) -> None:
    assert world.rule(world.org.issue(world.peer, "/public", act=Action.INVOKE, expiry_ns=NOW_NS)) is Rule.ALLOWED
    assert world.rule(world.org.issue(world.peer, "/public", act=Action.INVOKE, expiry_ns=NOW_NS - 1)) is Rule.EXPIRED
    with pytest.raises(CapabilityExpired):
        world.node.context.add_roots(require=TokenList.of(world.node.issue(world.org, "/a", expiry_ns=NOW_NS - 1)))


def test_principal_misalignment(world: World) -> None:
    """The issuer of a token is not the one whom its proof was given to."""
    proof = world.org.issue(world.user, "/public")
    assert world.rule(world.invoke(proof)) is Rule.LINK


def test_subject_misalignment(world: World) -> None:
    """The one who acts is not the one whom the token names."""
    assert world.rule(world.org.issue(world.user, "/public", act=Action.INVOKE)) is Rule.SUBJECT


def test_bad_signature(world: World) -> None:
    token = world.org.issue(world.peer, "/public", act=Action.INVOKE)
    for place in (0, 31, 32, 63):
        sig = bytearray(token.body.sig)
        sig[place] ^= 0x10
        assert world.rule(Token(dms=msgspec.structs.replace(token.body, sig=bytes(sig)))) is Rule.SIGNATURE
    assert world.rule(token) is Rule.ALLOWED


def test_refusals_are_errors_of_two_kinds_only(world: World) -> None:
    """Whatever is wrong with a token, callers see bad input or a denial, never another exception."""
    grant = world.org.issue(world.user, "/public")
    for token in (Token(), world.invoke(grant), Token(dms=msgspec.structs.replace(grant.body, sig=b""))):
        with pytest.raises((BadInput, Denied)):
            verify(token, TrustContext(), NOW_NS)
