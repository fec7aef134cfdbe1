"""Tokens that were parsed before, by the bytes that they were parsed from.

The delegations on which a peer rests are the same in every one of its messages. Finding them here costs one hash of
their bytes, and what was computed about them (levels, issuers, canonical bytes, fingerprints) is still there.

Only bytes that were verified are put in (:func:`dms.capability.verification.examine`), so that nobody without authority
can push out what others need; and a token that nothing rests on only when it comes a second time, because most of them
never do. A hit says nothing about validity: it is the result of parsing, no more.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dms.capability.token import Token

MAX_BYTES: Final = 2 * 2**20
"""Of JSON; the parsed form takes about four times as much."""
_SEEN: Final = 4096
"""Places; of digests that share one, the last is remembered."""


class ParsedTokens:
    """The most recently used ones, up to a number of bytes."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._tokens: OrderedDict[bytes, Token] = OrderedDict()
        self._seen = array("q", bytes(8 * _SEEN))

    def get(self, data: bytes) -> Token | None:
        """What ``data`` parses to, if that is known."""
        token = self._tokens.get(data)
        if token is not None:
            self._tokens.move_to_end(data)
        return token

    def keep(self, data: bytes, token: Token) -> bool:
        """Remember what ``data`` parses to; whether that is new."""
        if data in self._tokens:
            return False
        self._tokens[data] = token
        self._bytes += len(data)
        while self._bytes > self._max_bytes:
            old, _ = self._tokens.popitem(last=False)
            self._bytes -= len(old)
        return True

    def is_recurring(self, data: bytes) -> bool:
        """Whether this was asked about ``data`` before, not too long ago. A wrong yes costs memory only."""
        digest = hash(data)
        place = digest % _SEEN
        if self._seen[place] == digest:
            return True
        self._seen[place] = digest
        return False

    def __len__(self) -> int:
        return len(self._tokens)
