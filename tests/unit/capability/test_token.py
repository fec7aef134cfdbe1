"""Structure, bytes and verification of tokens; each rule of spec/security.md 3.4 from both sides."""

from __future__ import annotations

import hashlib
import itertools
import json

import msgspec
import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.capability.errors import BadToken, BlobTooBig, CapabilityExpired, NotAuthorized
from dms.capability.token import (
    MAX_CHAIN,
    Action,
    DMSToken,
    Token,
    TokenList,
    decode_token,
    decode_token_list,
    encode_token_list,
    issue,
    issue_revocation,
)
from dms.capability.verification import verify
from dms.identity.errors import IdentityError, SignatureFailed
from dms.identity.ids import DID, NO_DID, did_of
from dms.identity.keys import KeyType, PublicKey
from dms.identity.trust import Anchor, TrustContext
from dms.testing.parties import HOUR_NS, NOW_NS, Party
from dms.types import gojson
from dms.types.errors import DMSError

ORG, USER, NODE, PEER = (Party(name) for name in ("org", "user", "node", "peer"))
EXP = NOW_NS + HOUR_NS


def check(token: Token, now_ns: int = NOW_NS) -> None:
    """Verify without what earlier tests remembered."""
    verify(token, TrustContext(), now_ns)


def altered(token: Token, **changes: object) -> Token:
    """The token with some members changed and its signature kept."""
    return Token(dms=msgspec.structs.replace(token.body, **changes))


def chain(*parties: Party, caps: str = "/a", depth: int = 0) -> Token:
    """Each party delegates to the next, the first from nothing."""
    token: Token | None = None
    for giver, taker in itertools.pairwise(parties):
        token = giver.issue(taker, caps, parent=token, depth=depth if token is None else 0)
    assert token is not None
    return token


# bytes ----------------------------------------------------------------------------------------------------------------


def test_the_signed_bytes_are_those_of_the_original() -> None:
    token = issue(ORG.provider, "delegate", USER.did, NO_DID, ["/nunet"], ["/a<b"], EXP, depth=2, nonce=b"\x01\x02\x03")
    expected = (
        f'dms:token:{{"act":"delegate","iss":{{"uri":"{ORG.did}"}},"sub":{{"uri":"{USER.did}"}},"aud":{{}},'
        f'"topic":["/nunet"],"cap":["/a\\u003cb"],"nonce":"AQID","exp":{EXP},"depth":2}}'
    ).encode()
    assert token.body.signed_bytes() == expected
    verifier = eddsa.new(ECC.import_key(_spki(ORG.key.public.raw)), "rfc8032")
    verifier.verify(expected, token.body.sig)  # raises where the signature does not fit


def _spki(raw: bytes) -> bytes:
    return bytes.fromhex("302a300506032b6570032100") + raw


def test_a_chain_is_inlined_with_its_signature_before_that_of_the_token() -> None:
    parent = ORG.issue(USER, "/a", depth=3)
    child = USER.issue(NODE, "/a/b", audience=PEER.did, parent=parent)
    members = json.loads(child.json)["dms"]
    assert list(members) == ["act", "iss", "sub", "aud", "cap", "nonce", "exp", "chain", "sig"]
    assert list(members["chain"]["dms"]) == ["act", "iss", "sub", "aud", "cap", "nonce", "exp", "depth", "sig"]
    assert child.json == gojson.encode(child)
    unsigned = msgspec.structs.replace(child.body, sig=b"")
    assert child.body.signed_bytes() == b"dms:token:" + gojson.encode(unsigned)


def test_null_and_empty_members_keep_their_difference() -> None:
    for member in ('"cap":null,"nonce":null', '"cap":[],"nonce":""'):
        text = '{"dms":{"act":"invoke","iss":{},"sub":{},"aud":{},' + member + ',"exp":1}}'
        assert decode_token(text.encode()).json == text.encode()


def test_tokens_of_others_are_read_tolerantly() -> None:
    token = decode_token(b'{"DMS":{"Act":"invoke","ISS":{"URI":"did:key:z"},"exp":18446744073709551615,"x":[1]}}')
    assert token.body.act == "invoke"
    assert token.body.iss == DID(uri="did:key:z")
    assert token.body.exp == 2**64 - 1
    assert token.body.cap is None


def test_an_empty_list_is_an_empty_object() -> None:
    assert encode_token_list(TokenList()) == b"{}"
    assert decode_token_list(b"{}") == decode_token_list(b"") == decode_token_list(b'{"tok":null}') == TokenList()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(max_size=12), min_size=1, max_size=4),
    st.lists(st.text(max_size=12), max_size=3),
    st.binary(max_size=16),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)
def test_tokens_survive_the_wire(caps: list[str], topics: list[str], nonce: bytes, exp: int, depth: int) -> None:
    parent = ORG.issue(USER, "/a")
    token = issue(
        USER.provider, "delegate", NODE.did, PEER.did, topics, caps, exp, depth=depth, parent=parent, nonce=nonce
    )
    blob = encode_token_list(TokenList.of(token, token))
    assert blob == gojson.encode(TokenList.of(token, token))
    again = decode_token_list(blob)
    assert again == TokenList.of(token, token)
    assert again.tokens[0].fingerprint == token.fingerprint
    assert again.tokens[0].body.signed_bytes() == token.body.signed_bytes()


# limits ---------------------------------------------------------------------------------------------------------------


def test_lists_of_more_than_16384_bytes_are_refused() -> None:
    assert decode_token_list(b"{}" + b" " * 16382) == TokenList()
    with pytest.raises(BlobTooBig, match=r"^capability blob too big"):
        decode_token_list(b"{}" + b" " * 16383)


@pytest.mark.parametrize(
    "blob",
    [
        b"{",
        b"[]",
        b"null x",
        b'{"tok":{}}',
        b'{"tok":[5]}',
        b'{"tok":[{"dms":{"exp":-1}}]}',
        b'{"tok":[{"dms":{"sig":"?"}}]}',
        b'{"tok":' + b"[" * 16000,
        b'{"tok":[' + b'{"dms":{"chain":' * 900 + b"{}" + b"}}" * 900 + b"]}",
    ],
)
def test_what_is_no_token_list_is_a_bad_token(blob: bytes) -> None:
    with pytest.raises(BadToken, match=r"^bad token"):
        _ = [token.levels for token in decode_token_list(blob).tokens]


@pytest.mark.parametrize("text", ["{}", "null", '{"ucan":{}}', '{"dms":{"chain":{}}}', '{"dms":{"chain":{"ucan":{}}}}'])
def test_empty_tokens_and_empty_chains_are_bad_tokens(text: str) -> None:
    with pytest.raises(BadToken):
        decode_token(text.encode())


def test_null_tokens_in_a_list_do_not_hide_the_others() -> None:
    token = ORG.issue(USER, "/a")
    tokens = decode_token_list(b'{"tok":[null,%b,{}]}' % token.json)
    assert len(tokens) == 3
    assert tokens.tokens[0] == token
    assert not tokens.tokens[1].is_well_formed


def test_chains_have_at_most_sixteen_tokens() -> None:
    parties = [Party(str(n)) for n in range(MAX_CHAIN + 2)]
    check(chain(*parties[:-1]))
    with pytest.raises(BadToken, match="more than 16"):
        check(chain(*parties))


def test_the_work_for_a_chain_grows_with_its_length_only() -> None:
    issuers: list[DID] = []

    class CountingTrust(TrustContext):
        def anchor(self, did: DID) -> Anchor:
            issuers.append(did)
            return super().anchor(did)

    trust = CountingTrust()
    token = chain(*[Party(str(n)) for n in range(MAX_CHAIN + 1)])
    verify(decode_token(token.json), trust, NOW_NS)
    assert len(issuers) == MAX_CHAIN
    verify(decode_token(token.json), trust, NOW_NS)
    assert len(issuers) == MAX_CHAIN + 1, "what it rests on is recognised"
    verify(decode_token(token.json), trust, NOW_NS)
    assert len(issuers) == MAX_CHAIN + 1, "at the second time so is the token itself"
    verify(decode_token(token.json), TrustContext(), NOW_NS)
    assert len(issuers) == MAX_CHAIN + 1
    other = CountingTrust()
    verify(decode_token(token.json), other, NOW_NS)
    assert len(issuers) == 2 * MAX_CHAIN + 1, "what one has verified is nothing to another"


# the rules of verification --------------------------------------------------------------------------------------------


def test_a_grant_and_what_rests_on_it_are_valid() -> None:
    grant = ORG.issue(USER, "/a", "/b", topics=("/nunet",))
    check(grant)
    delegated = USER.issue(NODE, "/a/x", topics=("/nunet/hello",), audience=PEER.did, parent=grant)
    check(delegated)
    check(NODE.issue(PEER, "/a/x/y", act=Action.INVOKE, audience=PEER.did, parent=delegated))


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.SECP256K1])
def test_both_kinds_of_keys_issue(kind: KeyType) -> None:
    check(Party("x", kind=kind).issue(USER, "/a"))


def test_rule_1_revocations_and_unknown_actions_are_not_links() -> None:
    for act in ("", "Delegate", "own"):
        with pytest.raises(BadToken):
            check(ORG.issue(USER, "/a", act=act))
    revocation = issue_revocation(ORG.provider, ORG.issue(USER, "/a"))
    with pytest.raises(BadToken):
        check(USER.issue(NODE, "/a", parent=revocation))


def test_rule_2_expired_tokens_and_ancestors() -> None:
    parent = ORG.issue(USER, "/a", expiry_ns=EXP)
    child = USER.issue(NODE, "/a", expiry_ns=EXP - 10, parent=parent)
    check(parent, EXP)
    check(child, EXP - 10)
    for token, now_ns in ((parent, EXP + 1), (child, EXP - 9)):
        with pytest.raises(CapabilityExpired, match=r"^capability expired"):
            check(token, now_ns)


def test_rule_3_of_a_revocation_only_the_signature_counts() -> None:
    revocation = issue_revocation(ORG.provider, ORG.issue(USER, "/a", depth=1, topics=("/t",), audience=PEER.did))
    check(revocation)
    body = revocation.body
    assert (body.aud, body.topic, body.depth, body.chain) == (NO_DID, (), 0, None)
    with pytest.raises(SignatureFailed):
        check(altered(revocation, sub=NODE.did))
    with pytest.raises(CapabilityExpired):
        check(revocation, EXP + 1)


def test_rule_4_depth_limits_the_levels_below() -> None:
    for depth, levels in ((1, 1), (2, 2), (3, 3)):
        parties = [ORG, USER, NODE, PEER, Party("a"), Party("b")]
        check(chain(*parties[: levels + 2], depth=depth))
        with pytest.raises(NotAuthorized, match="max depth exceeded"):
            check(chain(*parties[: levels + 3], depth=depth))


def test_rule_5_a_revoked_ancestor_kills_its_descendants() -> None:
    grant = ORG.issue(USER, "/a")
    child = USER.issue(NODE, "/a", parent=grant)
    revoked = {issue_revocation(ORG.provider, grant).key}
    for token in (grant, child):
        with pytest.raises(NotAuthorized, match="revoked"):
            verify(token, TrustContext(), NOW_NS, revoked)
    verify(ORG.issue(USER, "/a"), TrustContext(), NOW_NS, revoked)


def test_a_remembered_chain_is_still_checked_for_time_and_revocation() -> None:
    trust = TrustContext()
    grant = ORG.issue(USER, "/a")
    child = USER.issue(NODE, "/a", parent=grant)
    verify(child, trust, NOW_NS)
    with pytest.raises(NotAuthorized):
        verify(child, trust, NOW_NS, {grant.key})
    with pytest.raises(CapabilityExpired):
        verify(child, trust, EXP + 1)
    with pytest.raises(SignatureFailed):
        verify(altered(child, sig=child.body.sig[:-1] + bytes([child.body.sig[-1] ^ 1])), trust, NOW_NS)


@pytest.mark.parametrize("act", [Action.INVOKE, Action.BROADCAST])
def test_rule_6a_only_delegations_can_be_rested_on(act: str) -> None:
    with pytest.raises(NotAuthorized, match=f"for {act}"):
        check(USER.issue(NODE, "/a", parent=ORG.issue(USER, "/a", act=act)))


def test_rule_6b_no_token_outlives_its_parent() -> None:
    parent = ORG.issue(USER, "/a", expiry_ns=EXP)
    check(USER.issue(NODE, "/a", expiry_ns=EXP, parent=parent))
    with pytest.raises(CapabilityExpired, match="outlives"):
        check(USER.issue(NODE, "/a", expiry_ns=EXP + 1, parent=parent))


def test_rule_6c_a_forged_parent_spoils_the_child() -> None:
    forged = altered(ORG.issue(USER, "/a"), cap=("/",))
    with pytest.raises(SignatureFailed):
        check(USER.issue(NODE, "/z", parent=forged))


def test_rule_6d_only_the_subject_of_a_token_can_rest_on_it() -> None:
    with pytest.raises(NotAuthorized, match="was given to"):
        check(PEER.issue(NODE, "/a", parent=ORG.issue(USER, "/a")))


def test_rule_6e_audience_is_narrowed_once() -> None:
    free, bound = ORG.issue(USER, "/a"), ORG.issue(USER, "/a", audience=NODE.did)
    check(USER.issue(PEER, "/a", audience=NODE.did, parent=free))
    check(USER.issue(PEER, "/a", audience=NODE.did, parent=bound))
    for audience in (NO_DID, PEER.did):
        with pytest.raises(NotAuthorized, match="for use at"):
            check(USER.issue(PEER, "/a", audience=audience, parent=bound))


def test_rule_6e_every_topic_and_every_capability_is_implied() -> None:
    parent = ORG.issue(USER, "/a", topics=("/nunet",))
    check(USER.issue(NODE, "/a/b", "/a", topics=("/nunet/x",), parent=parent))
    with pytest.raises(NotAuthorized, match="topics"):
        check(USER.issue(NODE, "/a", topics=("/nunet", "/other"), parent=parent))
    for caps in (("/b",), ("/a", "/b"), ("/",), ("/ab",)):
        with pytest.raises(NotAuthorized, match="capabilities"):
            check(USER.issue(NODE, *caps, parent=parent))


def test_rule_7_every_byte_is_signed() -> None:
    token = ORG.issue(USER, "/a", topics=("/t",), depth=2, parent=PEER.issue(ORG, "/", topics=("/t",)))
    check(token)
    changes: list[dict[str, object]] = [
        {"act": "invoke"},
        {"sub": NODE.did},
        {"aud": NODE.did},
        {"topic": ()},
        {"cap": ("/a/b",)},
        {"nonce": b"x"},
        {"nonce": None},
        {"exp": token.body.exp - 1},
        {"depth": 3},
        {"chain": None},
        {"sig": b""},
    ]
    for change in changes:
        with pytest.raises(SignatureFailed, match=r"^signature verification failed"):
            check(altered(token, **change))


def test_issuers_that_cannot_be_resolved_are_errors_of_the_tree() -> None:
    token = ORG.issue(USER, "/a")
    for uri in ("", "did:prism:x", "did:key:zzz", "x"):
        with pytest.raises(IdentityError):
            check(altered(token, iss=DID(uri=uri)))


def test_a_wallet_can_be_the_root_of_a_chain() -> None:
    """The public network's root of trust is an Ethereum wallet."""
    secret = Party("wallet", kind=KeyType.SECP256K1)
    wallet = did_of(PublicKey(KeyType.ETH, secret.key.public.raw))
    body = DMSToken(act="delegate", iss=wallet, sub=USER.did, aud=NO_DID, cap=("/a",), nonce=b"n", exp=EXP)
    message = body.signed_bytes()
    from coincurve import PrivateKey as Scalar

    from dms.identity.secp256k1 import keccak256

    scalar = Scalar(hashlib.sha256(b"wallet").digest())
    digest = keccak256(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)
    grant = Token(dms=msgspec.structs.replace(body, sig=scalar.sign(digest, hasher=None)))
    check(USER.issue(NODE, "/a", act=Action.INVOKE, parent=grant))


def test_tokens_without_capabilities_are_refused() -> None:
    with pytest.raises(BadToken, match="no capabilities"):
        ORG.issue(USER)
    for cap in (None, ()):
        body = msgspec.structs.replace(ORG.issue(USER, "/a").body, cap=cap, sig=b"")
        token = Token(dms=msgspec.structs.replace(body, sig=ORG.key.sign(body.signed_bytes())))
        with pytest.raises(BadToken, match="no capabilities"):
            check(token)


def test_numbers_beyond_64_bits_are_refused() -> None:
    for change in ({"exp": 2**64}, {"depth": 2**64}):
        body = msgspec.structs.replace(ORG.issue(USER, "/a").body, sig=b"", **change)
        with pytest.raises(BadToken, match="out of range"):
            check(Token(dms=msgspec.structs.replace(body, sig=ORG.key.sign(body.signed_bytes()))))
    with pytest.raises(BadToken, match="out of range"):
        issue(ORG.provider, "delegate", USER.did, NO_DID, (), ["/a"], 2**64)


def test_only_the_issuer_can_revoke() -> None:
    with pytest.raises(NotAuthorized, match="only the issuer"):
        issue_revocation(USER.provider, ORG.issue(USER, "/a"))


PATH = st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/b"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PATH, PATH, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4))
def test_whatever_verifies_is_never_wider_than_any_of_its_ancestors(
    steps: list[tuple[str, str, int, int]],
) -> None:
    from dms.capability.paths import implies

    parties = [Party(str(n)) for n in range(len(steps) + 1)]
    token: Token | None = None
    for (cap, topic, sooner, depth), giver, taker in zip(steps, parties, parties[1:], strict=False):
        token = giver.issue(taker, cap, topics=(topic,), expiry_ns=EXP - sooner, depth=depth, parent=token)
    assert token is not None
    try:
        check(token)
    except DMSError:
        return
    for index, level in enumerate(token.levels):
        assert implies(next(iter(level.caps)), next(iter(token.body.caps)))
        assert implies(next(iter(level.topics)), next(iter(token.body.topics)))
        assert level.exp >= token.body.exp
        assert level.depth == 0 or index <= level.depth


def test_a_revocation_rests_on_nothing_and_is_small() -> None:
    """It is kept for long and passed on to everybody, so nothing may ride on it."""
    sound = issue_revocation(ORG.provider, ORG.issue(USER, "/a")).body
    for change in ({"chain": PEER.issue(ORG, "/a")}, {"topic": ("/t",)}, {"nonce": b"n" * 65}):
        body = msgspec.structs.replace(sound, sig=b"", **change)
        with pytest.raises(BadToken):
            check(Token(dms=msgspec.structs.replace(body, sig=ORG.key.sign(body.signed_bytes()))))
