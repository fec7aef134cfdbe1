"""People and nodes for tests: a key made from a name, and a capability context with a clock that stands still."""

from __future__ import annotations

import hashlib
from typing import Final

from dms.capability.context import CapabilityContext
from dms.capability.token import Action, Token, issue
from dms.identity.ids import DID, NO_DID, ActorID, did_of
from dms.identity.keys import KeyType, PrivateKey
from dms.identity.trust import Provider, TrustContext

NOW_NS: Final = 1_700_000_000_000_000_000
HOUR_NS: Final = 3600 * 10**9


class StoppedClock:
    """A wall clock in UNIX nanoseconds that moves only when told to."""

    def __init__(self, now_ns: int = NOW_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """The time."""
        return self.now_ns

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        self.now_ns += nanoseconds


class Party:
    """Somebody with a key: the same name is always the same key."""

    def __init__(self, name: str, *, clock: StoppedClock | None = None, kind: KeyType = KeyType.ED25519) -> None:
        self.name = name
        self.clock = clock or StoppedClock()
        self.key = PrivateKey(kind, hashlib.sha256(name.encode()).digest())
        self.did = did_of(self.key.public)
        self.id = ActorID.of(self.key.public)
        self.provider = Provider.of_key(self.key)
        self.trust = TrustContext(self.provider)
        self.context = CapabilityContext(name, self.did, self.trust, clock_ns=self.clock)

    def issue(
        self,
        subject: Party,
        *caps: str,
        act: str = Action.DELEGATE,
        audience: DID = NO_DID,
        topics: tuple[str, ...] = (),
        expiry_ns: int = 0,
        depth: int = 0,
        parent: Token | None = None,
    ) -> Token:
        """A token signed by this party, whether its rules hold or not; it lives an hour unless told otherwise."""
        expiry_ns = expiry_ns or self.clock() + HOUR_NS
        return issue(self.provider, act, subject.did, audience, topics, caps, expiry_ns, depth=depth, parent=parent)
