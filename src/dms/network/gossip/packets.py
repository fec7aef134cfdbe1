"""What peers tell each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from dms.types.ids import PeerID


@dataclass(frozen=True, slots=True)
class Message:
    """A broadcast. Its id is the publisher's and a sequence number; ``raw`` is its form on the wire, signature included."""

    id: bytes
    origin: PeerID
    topic: str
    data: bytes
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Offer:
    """A peer that somebody recommends, with its signed record if there is one."""

    peer: PeerID
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class Prune:
    """We are out of somebody's mesh, may come back after a while, and find others here."""

    topic: str
    backoff_s: float
    offers: tuple[Offer, ...] = ()


@dataclass(slots=True)
class Packet:
    """Everything that goes to one peer at once."""

    subscriptions: list[tuple[str, bool]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    ihave: dict[str, list[bytes]] = field(default_factory=dict)
    iwant: list[bytes] = field(default_factory=list)
    idontwant: list[bytes] = field(default_factory=list)
    graft: list[str] = field(default_factory=list)
    prune: list[Prune] = field(default_factory=list)

    @property
    def is_control(self) -> bool:
        """Whether it carries no message: such packets are small and must not get lost."""
        return not self.messages
