"""Tokens that we issued for messages and use again for the next ones.

Two actors that talk send the same statement over and over: this key may invoke that path there, resting on that
delegation. Issued anew for each message it costs a signature here and one verification there. Issued once for a little
longer than the message lives, it is the same bytes in every message, which a receiver recognises
(:mod:`dms.capability.parsed`).

What the longer life gives to a thief: nothing without a key. A token names the key of the actor that may use it, and a
receiver obeys it only in an envelope that this key has signed, which lives as long as before and counts once. Whoever
holds that key can sign envelopes anyway; the token outlives the message that carried it by :data:`EXTRA_LIFE_NS` at
most, never what it rests on, and falls with it when that is revoked. It is also why the extra life is short: a
receiver's own require anchor must outlive the token, or lends it no trust.

Replies are not kept: they rest on a delegation for a path that is used once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from dms.capability.token import Token
from dms.identity.ids import DID

EXTRA_LIFE_NS: Final = 120 * 10**9
MAX_LEAVES: Final = 1024


class LeafKey(NamedTuple):
    """What such a token says, but for its expiry."""

    action: str
    subject: DID
    audience: DID
    topics: tuple[str, ...]
    caps: tuple[str, ...]
    parent: bytes
    """The canonical JSON of the token that it rests on, empty if it rests on none."""


class Leaves:
    """The tokens issued last, by what they say."""

    def __init__(self, max_leaves: int = MAX_LEAVES) -> None:
        self._max_leaves = max_leaves
        self._leaves: dict[LeafKey, tuple[Token, int]] = {}

    def get(self, key: LeafKey, now_ns: int, expiry_ns: int, limit_ns: int, make: Callable[[int], Token]) -> Token:
        """A token good until ``expiry_ns``: one that was issued before and has half of its life left, or a new one.

        :param limit_ns: it may not live longer.
        :param make: issues it with the expiry that it is given.
        """
        found = self._leaves.pop(key, None)
        if found is not None:
            token, issued_ns = found
            exp = token.body.exp
            if expiry_ns <= exp <= expiry_ns + EXTRA_LIFE_NS and 0 <= now_ns - issued_ns <= (exp - issued_ns) // 2:
                self._leaves[key] = found
                return token
        while len(self._leaves) >= self._max_leaves:
            del self._leaves[next(iter(self._leaves))]
        token = make(max(expiry_ns, min(expiry_ns + EXTRA_LIFE_NS, limit_ns)))
        self._leaves[key] = (token, now_ns)
        return token

    def collect_garbage(self, now_ns: int) -> None:
        """Forget what has expired."""
        for key in [key for key, (token, _) in self._leaves.items() if token.expires_before(now_ns)]:
            del self._leaves[key]

    def clear(self) -> None:
        """Forget all: what they rest on may have changed."""
        self._leaves.clear()

    def __len__(self) -> int:
        return len(self._leaves)
