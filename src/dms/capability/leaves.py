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

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from dms.capability.token import Token
from dms.identity.ids import DID

EXTRA_LIFE_NS: Final = 30 * 10**9
MAX_BUNCHES: Final = 512


class LeafKey(NamedTuple):
    """What such tokens say, but for their expiry and for what they rest on."""

    action: str
    subject: DID
    audience: DID
    topics: tuple[str, ...]
    caps: tuple[str, ...]


class Bunch:
    """The tokens of one kind of message: those that rest on our provide anchors, and last the one that rests on nothing."""

    __slots__ = ("issued_ns", "json", "last_use_ns", "latest_ns", "tokens")

    def __init__(self, tokens: tuple[Token, ...], issued_ns: int) -> None:
        self.tokens = tokens
        self.issued_ns = issued_ns
        self.json = b",".join(token.json for token in tokens)
        self.latest_ns = min(token.body.exp for token in tokens)
        """The latest expiry of a message that all of them outlive."""
        self.last_use_ns = min(issued_ns + (token.body.exp - issued_ns) // 2 for token in tokens)
        """From then on one has less than half of its life left."""

    def fits(self, now_ns: int, expiry_ns: int) -> bool:
        """Whether a message until ``expiry_ns`` may carry it: never one that is much shorter than the one it was made for."""
        return (
            self.issued_ns <= now_ns <= self.last_use_ns
            and expiry_ns <= self.latest_ns
            and self.tokens[-1].body.exp <= expiry_ns + EXTRA_LIFE_NS
        )


def expiry_of_leaf(expiry_ns: int, limit_ns: int) -> int:
    """How long a token for a message until ``expiry_ns`` lives when it may not outlive ``limit_ns``."""
    return max(expiry_ns, min(expiry_ns + EXTRA_LIFE_NS, limit_ns))


class Leaves:
    """The tokens issued last, by what they say."""

    def __init__(self, max_bunches: int = MAX_BUNCHES) -> None:
        self._max_bunches = max_bunches
        self._bunches: OrderedDict[LeafKey, Bunch] = OrderedDict()

    def get(self, key: LeafKey, now_ns: int, expiry_ns: int, make: Callable[[], Iterable[Token]]) -> Bunch:
        """Tokens good until ``expiry_ns``: those that were issued before, if they may be used again, or new ones."""
        found = self._bunches.pop(key, None)
        if found is None or not found.fits(now_ns, expiry_ns):
            while len(self._bunches) >= self._max_bunches:
                self._bunches.popitem(last=False)
            found = Bunch(tuple(make()), now_ns)
        self._bunches[key] = found
        return found

    def collect_garbage(self, now_ns: int) -> None:
        """Forget what has expired."""
        for key in [key for key, bunch in self._bunches.items() if bunch.latest_ns < now_ns]:
            del self._bunches[key]

    def clear(self) -> None:
        """Forget all: what they rest on may have changed."""
        self._bunches.clear()

    def __len__(self) -> int:
        return len(self._bunches)
