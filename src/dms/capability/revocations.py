"""What has been revoked, until it would have expired anyway (``spec/security.md`` 3.7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from dms.capability.errors import TooManyRevocations
from dms.capability.token import Token, TokenKey


class Revocations:
    """Verified revocations by what they revoke."""

    def __init__(self, max_per_issuer: int) -> None:
        self._max_per_issuer = max_per_issuer
        self._tokens: dict[TokenKey, Token] = {}

    def with_more(self, tokens: Iterable[Token]) -> Revocations:
        """A copy with ``tokens``.

        :raises TooManyRevocations: too many of one issuer.
        """
        more = Revocations(self._max_per_issuer)
        more._tokens = self._tokens | {token.key: token for token in tokens}
        issuer, count = Counter(key.issuer for key in more._tokens).most_common(1)[0]
        if count > self._max_per_issuer:
            raise TooManyRevocations(f"too many revocations by one issuer: {issuer}")
        return more

    def remove(self, key: TokenKey) -> bool:
        """Forget that a token was revoked; whether it was."""
        return self._tokens.pop(key, None) is not None

    def covers(self, token: Token) -> bool:
        """Whether ``token`` or one that it rests on was revoked."""
        return bool(self._tokens) and any(level.key in self._tokens for level in token.levels)

    def collect_garbage(self, now_ns: int) -> int:
        """Drop what has expired; how much that was."""
        over = [key for key, token in self._tokens.items() if token.expires_before(now_ns)]
        for key in over:
            del self._tokens[key]
        return len(over)

    def __contains__(self, key: object) -> bool:
        return key in self._tokens

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens.values())

    def __len__(self) -> int:
        return len(self._tokens)
