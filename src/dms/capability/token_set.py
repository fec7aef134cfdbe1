"""An ordered set of verified tokens, found by issuer or subject, in which no token makes another useless."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from dms.capability.rules import subsumes
from dms.capability.token import Token, TokenKey
from dms.identity.ids import DID


class TokenSet:
    """Tokens in the order of their arrival; adding keeps only those that no other subsumes."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, Token] = {}
        self._by_subject: dict[str, dict[bytes, Token]] = {}

    def add(self, token: Token) -> bool:
        """Add ``token`` unless one that is here subsumes it; drop those that it subsumes. Whether it was added."""
        neighbours = self._by_subject.get(token.body.sub.uri, {})
        if any(subsumes(held, token) for held in neighbours.values()):
            return False
        for held in [held for held in neighbours.values() if subsumes(token, held)]:
            self._drop(held)
        self._tokens[token.fingerprint] = token
        self._by_subject.setdefault(token.body.sub.uri, {})[token.fingerprint] = token
        return True

    def remove(self, key: TokenKey) -> int:
        """Remove the tokens of this issuer and nonce; how many there were."""
        return self.drop(lambda token: token.key.issuer == key.issuer and token.key.nonce == key.nonce)

    def drop(self, condition: Callable[[Token], bool]) -> int:
        """Remove the tokens for which ``condition`` holds; how many there were."""
        doomed = [token for token in self._tokens.values() if condition(token)]
        for token in doomed:
            self._drop(token)
        return len(doomed)

    def of_subject(self, subject: DID) -> Collection[Token]:
        """The tokens given to ``subject``."""
        found = self._by_subject.get(subject.uri)
        return () if found is None else found.values()

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens.values())

    def __len__(self) -> int:
        return len(self._tokens)

    def _drop(self, token: Token) -> None:
        del self._tokens[token.fingerprint]
        neighbours = self._by_subject[token.body.sub.uri]
        del neighbours[token.fingerprint]
        if not neighbours:
            del self._by_subject[token.body.sub.uri]
