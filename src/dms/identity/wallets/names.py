"""What a context name says about its signer and its file (``spec/security.md`` 4.5).

``ledger``, ``ledger:2``, ``ledger:savings`` and ``eternl:main`` mean wallets; every other name means the key of that
name in the keystore. The word must stand alone or before a colon: ``ledgerbook`` is a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dms.identity.errors import BadName, IdentityError, NoProvider
from dms.identity.ids import DID, public_key_of_did
from dms.identity.keys import KeyType


class Signer(StrEnum):
    """Who signs for a context."""

    KEY = "key"
    LEDGER = "ledger"
    ETERNL = "eternl"


@dataclass(frozen=True, slots=True)
class ContextName:
    """A context name and what it means. ``part`` is what follows the colon of a wallet's name, or empty."""

    text: str
    signer: Signer
    part: str

    @classmethod
    def parse(cls, text: str) -> ContextName:
        """Take a name apart.

        :raises BadName: a wallet's name with nothing, or with another colon, after the colon.
        """
        word, colon, part = text.partition(":")
        if word not in (Signer.LEDGER, Signer.ETERNL):
            return cls(text, Signer.KEY, "")
        if colon and (not part or ":" in part):
            raise BadName(f"The context name {text[:80]!r} cannot be used.", hint=f"write {word} or {word}:NAME")
        return cls(text, Signer(word), part)

    @property
    def is_wallet(self) -> bool:
        """Whether a wallet signs, and no private key can be had."""
        return self.signer is not Signer.KEY

    @property
    def file_names(self) -> tuple[str, ...]:
        """Under which names its file may lie: the one under which it is made comes first."""
        return (self.part, self.text) if self.part else (self.text,)

    def could_own(self, did: DID) -> bool:
        """Whether a context of ``did`` may be this one: a wallet's file may have the name of another context."""
        if not self.is_wallet:
            return True
        try:
            return public_key_of_did(did).type is _KEY_TYPES[self.signer]
        except IdentityError:
            return False


def check_daemon_context(text: str) -> str:
    """``text`` if the context can be a daemon's, which needs a private key of its own.

    :raises NoProvider: it is a wallet's.
    """
    if ContextName.parse(text).is_wallet:
        raise NoProvider(
            f"no provider for a daemon: the context {text!r} is a wallet's, and its private key stays there",
            hint="run the node with a key of the keystore, and anchor the wallet's DID in its context",
        )
    return text


_KEY_TYPES = {Signer.LEDGER: KeyType.ETH, Signer.ETERNL: KeyType.CARDANO}
