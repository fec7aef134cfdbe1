"""Parsed tokens are found again by their bytes, within bounds."""

from __future__ import annotations

import msgspec

from dms.capability.parsed import ParsedTokens
from dms.capability.token import decode_token
from dms.testing.parties import Party

ORG, USER = Party("org"), Party("user")


def test_the_least_recently_used_bytes_go_first() -> None:
    tokens = [ORG.issue(USER, f"/{n}") for n in range(3)]
    parsed = ParsedTokens(max_bytes=2 * len(tokens[0].json) + 1)
    assert [parsed.keep(token.json, token) for token in (tokens[0], tokens[1], tokens[0])] == [True, True, False]
    assert parsed.get(tokens[0].json) is tokens[0]
    parsed.keep(tokens[2].json, tokens[2])
    assert parsed.get(tokens[1].json) is None
    assert parsed.get(tokens[0].json) is tokens[0]
    assert len(parsed) == 2


def test_what_comes_twice_is_recurring_while_not_too_much_came_between() -> None:
    parsed = ParsedTokens()
    assert [parsed.is_recurring(b"a"), parsed.is_recurring(b"a")] == [False, True]
    for number in range(100_000):
        parsed.is_recurring(number.to_bytes(4, "big"))
    assert not parsed.is_recurring(b"a")


def test_a_changed_copy_is_not_verified() -> None:
    """What was noted on a token must not go over to another one."""
    token, trust = decode_token(ORG.issue(USER, "/a").json), object()
    token.body.note_verified(trust)
    assert token.body.was_verified(trust)
    assert not token.body.was_verified(object())
    assert not msgspec.structs.replace(token.body, cap=("/",)).was_verified(trust)
    assert not decode_token(token.json).body.was_verified(trust)
