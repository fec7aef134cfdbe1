"""One level of a token as it travels: what was read is what is signed, to the byte, or it takes the careful way."""

from __future__ import annotations

import pytest

from dms.capability.token import decode_token
from dms.capability.wire import decode_level, encode_unsigned
from dms.testing.parties import Party

ORG, USER, PEER = Party("org"), Party("user"), Party("peer")


def test_what_is_signed_is_encoded_anew_around_the_chain_as_it_came() -> None:
    token = USER.issue(PEER, "/a/ä", parent=ORG.issue(USER, "/a"))
    assert encode_unsigned(decode_level(token.json)) == token.body.unsigned_json
    assert encode_unsigned(decode_level(b'{"dms":%b}' % token.body.unsigned_json)) == token.body.unsigned_json


@pytest.mark.parametrize("odd", ["<", ">", "&", "\u2028", "\u2029"])
def test_what_must_be_escaped_is_left_to_the_careful_encoder(odd: str) -> None:
    token = ORG.issue(USER, f"/a{odd}")
    assert encode_unsigned(decode_level(token.json)) is None
    assert decode_token(token.json).body.unsigned_json == token.body.unsigned_json


def test_a_chain_with_white_space_is_signed_over_without_it() -> None:
    """Only the re-encoding counts: so what came differs from what is verified, and what is verified is canonical."""
    token = USER.issue(PEER, "/a", parent=ORG.issue(USER, "/a"))
    spaced = token.json.replace(b'"chain":{', b'"chain": {')
    assert spaced != token.json
    again = decode_token(spaced)
    assert again.body.unsigned_json == token.body.unsigned_json
    assert again.json == token.json
