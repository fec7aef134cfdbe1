"""What an actor answers to: names, what they require, and the message as a handler sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from dms.actor.envelope import Envelope
from dms.actor.errors import UnknownBehaviour
from dms.actor.handle import Handle
from dms.capability.errors import NotAuthorized
from dms.types.ids import Capability, PeerID

P = TypeVar("P")


class Message(msgspec.Struct, Generic[P], frozen=True):
    """A verified, authorised message with its payload decoded."""

    envelope: Envelope
    payload: P

    @property
    def sender(self) -> Handle:
        """Who sent it; its DID is bound to the tokens that authorised it."""
        return self.envelope.from_

    @property
    def peer(self) -> PeerID:
        """The host it came from."""
        return self.envelope.from_.addr.host

    @property
    def expiry_ns(self) -> int:
        """Until when the sender waits, UNIX nanoseconds."""
        return self.envelope.opt.exp


Handler = Callable[[Message[Any]], Awaitable[object]]
"""Returns the reply's payload, or ``None`` for no reply. Payload types differ from behaviour to behaviour, hence Any."""

ErrorReply = Callable[[str], object]
"""Builds the behaviour's own error payload from a one-line text."""

OnDenied = Callable[[Envelope, NotAuthorized], None]
"""Hears of a message whose signature is good and whose sender may not do this. Whom it claims to act for is a claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One name that an actor answers to.

    ``capabilities``: any one of them admits the sender (default: the name itself). ``topic``: also reachable by
    broadcast. ``expiry_ns``: wall clock, 0 = for ever. ``one_shot``: gone after the first message it admits.
    ``is_answer``: what comes answers requests of this actor, until whose expiry they live (``reply_to``), and says which.
    ``expected``: a message from this very actor needs no token: the name was told to nobody else, and its signature shows
    that it is the one.
    """

    name: str
    handler: Handler
    payload: Any
    capabilities: tuple[Capability, ...]
    topic: str = ""
    expiry_ns: int = 0
    one_shot: bool = False
    is_answer: bool = False
    error_reply: ErrorReply | None = None
    expected: Handle | None = None
    on_denied: OnDenied | None = None

    def expects(self, sender: Handle) -> bool:
        """Whether it waits for a message of ``sender``."""
        return self.expected is not None and sender.id == self.expected.id and sender.did == self.expected.did


class Behaviours:
    """A registry with exact matching; registering a name again replaces it (``spec/security.md`` 5.6)."""

    def __init__(self) -> None:
        self._by_name: dict[str, Behaviour] = {}

    def __iter__(self) -> Iterator[Behaviour]:
        return iter(tuple(self._by_name.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def add(self, behaviour: Behaviour) -> None:
        """Register."""
        self._by_name[behaviour.name] = behaviour

    def remove(self, name: str) -> None:
        """Forget; unknown names are ignored."""
        self._by_name.pop(name, None)

    def use_up(self, behaviour: Behaviour) -> None:
        """Forget a one-shot behaviour, now that a message is admitted to it.

        :raises UnknownBehaviour: another message came first.
        """
        if self._by_name.get(behaviour.name) is not behaviour:
            raise UnknownBehaviour(f"unknown behaviour: {behaviour.name}")
        del self._by_name[behaviour.name]

    def find(self, name: str, now_ns: int) -> Behaviour | None:
        """The behaviour of that name, unless it has expired (then it is forgotten)."""
        found = self._by_name.get(name)
        if found is not None and found.expiry_ns and found.expiry_ns < now_ns:
            del self._by_name[name]
            return None
        return found

    def sweep(self, now_ns: int) -> None:
        """Forget what has expired."""
        for name in [b.name for b in self._by_name.values() if b.expiry_ns and b.expiry_ns < now_ns]:
            del self._by_name[name]
