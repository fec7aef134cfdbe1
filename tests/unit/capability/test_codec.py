"""The two ways in which tokens are read give the same, whatever comes: level by level, and tolerantly as a whole."""

from __future__ import annotations

import base64
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.capability.errors import BadToken
from dms.capability.token import (
    MAX_BLOB_BYTES,
    Action,
    Token,
    TokenList,
    decode_token,
    decode_token_list,
    encode_token_list,
    issue,
)
from dms.capability.verification import verify
from dms.identity.ids import NO_DID
from dms.identity.trust import TrustContext
from dms.testing.parties import HOUR_NS, NOW_NS, Party
from dms.types import gojson
from dms.types.errors import BadJSON

ORG, USER, NODE = (Party(name) for name in ("org", "user", "node"))
EXP = NOW_NS + HOUR_NS
paths = st.lists(st.text(max_size=10), min_size=1, max_size=3)


def chain(caps: list[list[str]], topics: list[str]) -> Token:
    token: Token | None = None
    parties = (ORG, USER, NODE)
    for number, held in enumerate(caps):
        giver, taker = parties[number % 3], parties[(number + 1) % 3]
        token = issue(giver.provider, Action.DELEGATE, taker.did, NO_DID, topics, held, EXP, parent=token)
    assert token is not None
    return token


def whole(blob: bytes) -> TokenList | None:
    """As the tolerant reader sees it."""
    try:
        return gojson.decode(blob, TokenList)
    except BadJSON:
        return None


def read(blob: bytes) -> TokenList | None:
    try:
        return decode_token_list(blob)
    except BadToken:
        return None


@settings(max_examples=60, deadline=None)
@given(st.lists(paths, min_size=1, max_size=4), st.lists(st.text(max_size=8), max_size=2))
def test_a_chain_survives_the_wire_and_is_encoded_as_go_encodes_it(caps: list[list[str]], topics: list[str]) -> None:
    token = chain(caps, topics)
    blob = encode_token_list(TokenList.of(token, token))
    assert blob == gojson.encode(TokenList.of(token, token))
    assert decode_token_list(blob) == TokenList.of(token, token) == whole(blob)
    again = decode_token_list(blob).tokens[0]
    assert [level.signed_bytes() for level in again.levels] == [level.signed_bytes() for level in token.levels]
    assert (again.issuers, again.earliest_expiry_ns) == (token.issuers, token.earliest_expiry_ns)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_a_token_written_by_somebody_else_is_re_encoded_as_it_was_signed(seed: int) -> None:
    """Other spacing, letter case, order and unknown or doubled members: the signature covers none of it."""
    rng = random.Random(seed)
    token = chain([["/a<b", "/\u2028"], ["/a<b"]], ["t&"])

    def rewritten(value: object) -> str:
        if not isinstance(value, dict):
            return json.dumps(value, ensure_ascii=rng.random() < 0.5)
        members = [(key, rewritten(member)) for key, member in value.items()]
        rng.shuffle(members)
        if members and rng.random() < 0.5:
            members.insert(0, (members[-1][0], members[-1][1]))
        if rng.random() < 0.5:
            members.append(("unknown", "[1,{}]"))
        space = rng.choice(["", " ", "\n\t"])
        return (
            "{"
            + ",".join(f'{space}"{rng.choice([key, key.upper(), key.title()])}"{space}:{text}' for key, text in members)
            + "}"
        )

    blob = rewritten(json.loads(encode_token_list(TokenList.of(token)))).encode()
    found = decode_token_list(blob)
    assert found == TokenList.of(token)
    assert encode_token_list(found) == encode_token_list(TokenList.of(token))
    verify(found.tokens[0], TrustContext(), NOW_NS)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**16), st.binary(min_size=1, max_size=6), st.booleans())
def test_both_readers_agree_on_damaged_lists(at: int, noise: bytes, is_inserted: bool) -> None:
    blob = encode_token_list(TokenList.of(chain([["/a"], ["/a"]], ["t"]), chain([["/b"]], [])))
    at %= len(blob)
    blob = blob[:at] + noise + blob[at + (0 if is_inserted else len(noise)) :]
    assert read(blob) == whole(blob)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["tok", "dms", "chain", "cap", "exp", "nonce", "iss", "uri", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_both_readers_agree_on_any_json(value: object) -> None:
    for shaped in (
        value,
        {"tok": value},
        {"tok": [value]},
        {"tok": [{"dms": value}]},
        {"tok": [{"dms": {"chain": value}}]},
    ):
        blob = json.dumps(shaped).encode()
        if len(blob) <= MAX_BLOB_BYTES:
            assert read(blob) == whole(blob)


def test_null_chains_are_no_chains_and_empty_ones_are_bad() -> None:
    body = b'"act":"invoke","iss":{},"sub":{},"aud":{},"cap":null,"nonce":null,"exp":1'
    none, null, empty = (
        b'{"tok":[{"dms":{%b%b}}]}' % (body, chain) for chain in (b"", b',"chain":null', b',"chain":{}')
    )
    assert decode_token_list(none) == decode_token_list(null)
    assert not decode_token_list(empty).tokens[0].is_well_formed


def test_bytes_are_base64_with_padding_or_the_list_is_bad() -> None:
    token = chain([["/a"]], [])
    nonce = base64.b64encode(token.body.nonce or b"")
    for wrong in (b"!!!!", nonce[:-1] + b"\xff"):
        blob = encode_token_list(TokenList.of(token)).replace(nonce, wrong)
        assert read(blob) is None
        assert whole(blob) is None


@pytest.mark.parametrize("cap", ["/a", "/<a>&", "/\u2028\u2029", "/ä\U0001f600", '/"\\'])
def test_what_was_signed_is_canonical_however_the_token_came(cap: str) -> None:
    org, user, peer = Party("org"), Party("user"), Party("peer")
    token = user.issue(peer, cap, parent=org.issue(user, cap))
    raw = json.dumps(json.loads(token.json), ensure_ascii=False)
    sorted_keys = json.dumps(json.loads(token.json), indent=1, sort_keys=True)
    for form in (token.json, raw.encode(), raw.replace(": ", ":").replace(", ", ",").encode(), sorted_keys.encode()):
        read = decode_token(form)
        assert read.body.signed_bytes() == token.body.signed_bytes()
        assert [level.json for level in read.levels] == [level.json for level in token.levels]
        verify(read, TrustContext(), NOW_NS)
